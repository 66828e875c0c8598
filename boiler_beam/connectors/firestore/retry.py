"""Decides how long to wait before a failed call is repeated, and when to give up."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

import grpc

from boiler_beam.connectors.firestore.client import PASSING, emulator_hint, failure

__all__ = ["Retry"]

_LEAST_SECONDS, _MOST_SECONDS = 0.1, 15.0
_PATIENCE_SECONDS = 300.0
_log = logging.getLogger("boiler_beam")


class Retry:
    """Waits longer after each failure, and gives up five minutes after the last success.

    Args:
        uri: The URI of the database, for messages.
        expected: What is attempted: `to read users`.
        clock: Returns the time in seconds.
        sleep: Sleeps for some seconds.
    """

    def __init__(
        self,
        uri: str,
        expected: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.uri, self.expected, self.clock, self.sleep = uri, expected, clock, sleep
        self.failures, self._since = 0, 0.0

    def progressed(self) -> None:
        """Records a success: the next failure counts as the first one."""
        self.failures = 0

    def seconds(self, error: grpc.RpcError) -> float:
        """Returns how long to wait after a failure.

        Raises:
            UsageError: The error is permanent: no permission, no such database.
            BoilerBeamError: The error is permanent for another reason, or has lasted for five minutes.
        """
        code: Any = error.code() if isinstance(error, grpc.Call) else None
        if self.failures == 0:
            self._since = self.clock()
        if code not in PASSING or self.clock() - self._since > _PATIENCE_SECONDS:
            raise failure(self.uri, error, self.expected) from error
        delay: float = min(_MOST_SECONDS, _LEAST_SECONDS * 2**self.failures) * random.uniform(0.5, 1)
        self.failures += 1
        if self.failures > 1:
            hint = emulator_hint(code)
            _log.warning("%s: expected %s, got %s; again in %.1f s%s", self.uri, self.expected, code.name, delay, hint)
        return delay

    def wait(self, error: grpc.RpcError) -> None:
        """Sleeps after a failure; raises the errors of `seconds`."""
        self.sleep(self.seconds(error))
