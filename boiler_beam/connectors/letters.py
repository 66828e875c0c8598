"""The base of writers of dead letters: a file (`dead_letters`), or a target that many workers share.

>>> digest_of(DeadLetter(stage="decode", code="invalid_document", message="...", path="users/u1", version=7))
'a4c7d75882160890'
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable
from datetime import datetime, timezone

import msgspec

from boiler_beam.events import DeadLetter
from boiler_beam.values import format_timestamp

__all__ = ["DeadLetterWriter", "SharedWriter", "digest_of", "now"]


def now() -> str:
    """Returns the time in RFC 3339."""
    return format_timestamp(datetime.now(timezone.utc))


def digest_of(dead_letter: DeadLetter) -> str:
    """Returns an id that copies of a dead letter share, although a worker that tries again records another time."""
    return hashlib.blake2b(
        msgspec.json.encode(msgspec.structs.replace(dead_letter, time="")), digest_size=8
    ).hexdigest()


class DeadLetterWriter(abc.ABC):
    """Appends dead letters to a target.

    Args:
        uri: The URI, for messages.
        now: Returns the time for dead letters that have none.
    """

    def __init__(self, uri: str, now: Callable[[], str] = now) -> None:
        self.uri, self.now = uri, now

    def write(self, dead_letter: DeadLetter) -> None:
        """Writes one dead letter; all are durable after `flush` or `close`.

        Raises:
            BoilerBeamError: It can't be written.
        """
        self._write(dead_letter if dead_letter.time else msgspec.structs.replace(dead_letter, time=self.now()))

    @abc.abstractmethod
    def _write(self, dead_letter: DeadLetter) -> None: ...

    @abc.abstractmethod
    def flush(self) -> None:
        """Makes all dead letters so far durable.

        Raises:
            BoilerBeamError: They can't be written.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Makes all dead letters durable, and closes the target.

        Raises:
            BoilerBeamError: The last of them can't be written.
        """


class SharedWriter(DeadLetterWriter):
    """Gathers dead letters, and sends them to a target that many workers share."""

    _MOST = 500

    def __init__(self, uri: str, now: Callable[[], str] = now) -> None:
        super().__init__(uri, now)
        self._gathered: list[DeadLetter] = []

    def _write(self, dead_letter: DeadLetter) -> None:
        self._gathered.append(dead_letter)
        if len(self._gathered) >= self._MOST:
            self.flush()

    def flush(self) -> None:
        """Sends all that were gathered."""
        if self._gathered:
            self._send(self._gathered)
            self._gathered = []

    def close(self) -> None:
        """Sends all that were gathered, and closes the connection."""
        try:
            self.flush()
        finally:
            self._end()

    @abc.abstractmethod
    def _send(self, dead_letters: list[DeadLetter]) -> None: ...

    @abc.abstractmethod
    def _end(self) -> None: ...
