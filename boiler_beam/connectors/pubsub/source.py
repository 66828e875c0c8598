"""The source `pubsub:projects/P/subscriptions/S`. A message is acknowledged when its change is durable."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import grpc

from boiler_beam.connectors.base import Source
from boiler_beam.connectors.pubsub.client import PASSING, Client, failure, resource_name
from boiler_beam.connectors.pubsub.envelope import decode
from boiler_beam.connectors.pubsub.leases import Held, Leases
from boiler_beam.connectors.pubsub.protos import GetSubscriptionRequest, PullRequest
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter, Event

__all__ = ["PubsubSource"]

_log = logging.getLogger("boiler_beam")
_PULLS = 4
"""The number of concurrent pulls under load, because each pull waits for its round trip."""
_MESSAGES_OF_A_PULL = 1000
_MESSAGES_OF_A_BATCH = 2000
_PULL_SECONDS = 2.0
"""How long a pull waits, in seconds. A pull is never cancelled: until its time is over, the emulator delivers messages
to a cancelled pull, and to that of a killed program, and redelivers them only after the subscription's deadline."""
_IDLE_SECONDS = 0.2
_PAUSE_SECONDS = 0.05
"""The pause after an empty pull, for servers that answer at once if there is no message."""
_LONGEST_PAUSE_SECONDS = 10.0


class PubsubSource(Source):
    """Pulls messages from a subscription; the formats are in docs/events.md."""

    scheme: ClassVar[str] = "pubsub"
    is_bounded: ClassVar[bool] = False

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.client = Client(self.uri, resource_name(self.uri, rest, "subscriptions"))
        self._is_prepared = False
        self.deadline_seconds = 10.0
        self._leases: Leases | None = None
        self._run = ""

    def prepare(self, collections: Sequence[str]) -> None:
        """Checks the subscription, and reads its deadline, retention and topic."""
        request = GetSubscriptionRequest(subscription=self.rest)
        try:
            found = self.client.call("GetSubscription", request)
        except grpc.RpcError as error:
            raise failure(self.client, error, "to look at the subscription") from error
        finally:
            self.client.close()
        for kind in ("push_config", "bigquery_config", "cloud_storage_config"):
            if getattr(found, kind).ByteSize():
                raise UsageError(
                    f"{self.uri}: expected a subscription that is pulled, got one with a {kind}; fix: create another: "
                    f"gcloud pubsub subscriptions create NAME --topic={found.topic}"
                )
        self.topic = "" if found.topic == "_deleted-topic_" else found.topic
        self._is_prepared = True
        self.deadline_seconds = float(found.ack_deadline_seconds or 10)
        self.retention_seconds = found.message_retention_duration.seconds or None

    def splits(self) -> Sequence[str]:
        """Raises an error: a subscription has no end."""
        raise UsageError(f"{self.uri}: expected a source that ends, got a subscription; fix: --mode stream")

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        """Raises an error: a subscription has no end."""
        raise UsageError(f"{self.uri}: expected a source that ends, got a subscription; fix: --mode stream")

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        """Yields published changes, in any order, some repeated.

        The server keeps the position; the argument is ignored.
        """
        if not self._is_prepared:
            self.prepare([])
        self._run, number = uuid.uuid4().hex[:12], 0
        self._leases = leases = Leases(self.client, self.deadline_seconds)
        pulls = _Pulls(self.client, leases)
        try:
            while True:
                batch: list[Event] = []
                taken = pulls.take(_IDLE_SECONDS)
                number += bool(taken)
                for held, messages in taken:
                    held.number = number
                    batch += [
                        decode(one.message.data, one.message.attributes, f"{self.uri}:{one.message.message_id}")
                        for one in messages
                    ]
                yield batch, f"{self._run}:{number}"
        finally:
            pulls.close()
            leases.close()
            self.client.close()
            self._leases = None

    def acknowledge(self, position: str) -> None:
        """Acknowledges the messages up to a position of this run.

        The server redelivers what earlier runs did not acknowledge.
        """
        run, _, number = position.rpartition(":")
        if self._leases is not None and run == self._run:
            self._leases.acknowledge(int(number))


class _Pulls:
    """Pulls in several threads while the leases have room; in one thread while no messages arrive."""

    def __init__(self, client: Client, leases: Leases) -> None:
        self.client, self.leases = client, leases
        self._request = PullRequest(subscription=client.name, max_messages=_MESSAGES_OF_A_PULL)
        self._came = threading.Condition()
        self._pulled: deque[tuple[Held, Any]] = deque()
        self._failed: Exception | None = None
        self._busy, self._closed = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._pull, args=[index], name=f"boiler_beam pull {index}", daemon=True)
            for index in range(_PULLS)
        ]
        for thread in self._threads:
            thread.start()

    def take(self, seconds: float) -> list[tuple[Held, Any]]:
        """Returns the pulled messages, at most some thousands; none if none arrived for some time.

        Raises:
            BoilerBeamError: The server refuses for good.
        """
        taken, number = [], 0
        with self._came:
            self._came.wait_for(lambda: self._pulled or self._failed, seconds)
            if self._failed is not None and not self._pulled:
                raise self._failed
            while self._pulled and number < _MESSAGES_OF_A_BATCH:
                taken.append(self._pulled.popleft())
                number += len(taken[-1][1])
        return taken

    def _pull(self, index: int) -> None:
        pause = _PAUSE_SECONDS
        while self.leases.wait_for_room():
            if index and not self._busy.is_set():
                self._busy.wait()
                continue
            try:
                messages = self._messages()
                pause = _PAUSE_SECONDS
            except grpc.RpcError as error:
                code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
                if code not in PASSING:
                    self._fail(failure(self.client, error, "to pull"))
                    return
                _log.warning("%s: %s; trying again", self.client.uri, code.name)
                pause, messages = min(2 * pause, _LONGEST_PAUSE_SECONDS), []
            except Exception as error:  # no credentials
                self._fail(error)
                return
            if not messages:
                self._busy.clear()
                self._closed.wait(pause)
                continue
            held = self.leases.hold([one.ack_id for one in messages], sum(one.ByteSize() for one in messages))
            with self._came:
                self._pulled.append((held, messages))
                self._came.notify()
            self._busy.set()

    def _messages(self) -> Any:
        """Returns the messages of one pull."""
        try:
            return self.client.call("Pull", self._request, _PULL_SECONDS).received_messages
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return []  # no message arrived in that time
            raise

    def _fail(self, error: Exception) -> None:
        with self._came:
            self._failed = error
            self._came.notify()

    def close(self) -> None:
        """Stops pulling, and waits for the pulls to end."""
        self.leases.stop()
        self._closed.set()
        while any(thread.is_alive() for thread in self._threads):
            self._busy.set()
            for thread in self._threads:
                thread.join(_PAUSE_SECONDS)
