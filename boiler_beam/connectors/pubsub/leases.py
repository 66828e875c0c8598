"""What was pulled and is not yet durable: held, extended, acknowledged or released, by a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from boiler_beam.connectors.pubsub.client import PASSING, Client
from boiler_beam.connectors.pubsub.protos import AcknowledgeRequest, ModifyAckDeadlineRequest

__all__ = ["Held", "Leases"]

_log = logging.getLogger("boiler_beam")
_IDS_OF_A_CALL = 1000
"""A request may have 512 KiB; an id has up to 200 bytes."""
_RETRY_SECONDS = 1.0
_CLOSING_SECONDS = 10.0


@dataclass(eq=False)
class Held:
    """The messages of one pull.

    Attributes:
        ack_ids: What the server calls them.
        size_bytes: How much there is in them.
        lapses: When the server takes them back.
        given: When they came.
        number: Of the batch in which the source gave them; 0 before.
    """

    ack_ids: Sequence[str]
    size_bytes: int
    lapses: float
    given: float
    number: int = 0


class Leases:
    """Holds a bounded number of messages until they are acknowledged.

    The server takes a message back after the subscription's deadline; half of it before that it is asked for the same
    time again, until `most_seconds` are over. What it took back comes again, and is acknowledged then.

    Args:
        client: Of the subscription.
        deadline_seconds: The subscription's.
        most_messages: No more are pulled while so many are held.
        most_bytes: Likewise.
        most_seconds: How long a message is held at the most.
        clock: Seconds.
    """

    def __init__(
        self,
        client: Client,
        deadline_seconds: float,
        *,
        most_messages: int = 20_000,
        most_bytes: int = 64 << 20,
        most_seconds: float = 3600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.deadline_seconds, self.clock = client, deadline_seconds, clock
        self.most_messages, self.most_bytes, self.most_seconds = most_messages, most_bytes, most_seconds
        self._changed = threading.Condition()
        self._held: deque[Held] = deque()
        self._to_acknowledge: list[str] = []
        self._messages = self._bytes = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._keep, name="boiler_beam leases", daemon=True)
        self._thread.start()

    def hold(self, ack_ids: Sequence[str], size_bytes: int) -> Held:
        """Takes the messages of one pull."""
        now = self.clock()
        held = Held(ack_ids, size_bytes, now + self.deadline_seconds, now)
        with self._changed:
            self._held.append(held)
            self._messages, self._bytes = self._messages + len(ack_ids), self._bytes + size_bytes
            self._changed.notify_all()
        return held

    def wait_for_room(self) -> bool:
        """Waits until more may be pulled; False when it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room())
            return not self._is_closed

    def _has_room(self) -> bool:
        return self._messages < self.most_messages and self._bytes < self.most_bytes

    def acknowledge(self, number: int) -> None:
        """All batches up to this one are durable."""
        with self._changed:
            kept: deque[Held] = deque()
            for held in self._held:
                if 0 < held.number <= number:
                    self._to_acknowledge += held.ack_ids
                    self._messages, self._bytes = self._messages - len(held.ack_ids), self._bytes - held.size_bytes
                else:
                    kept.append(held)
            self._held = kept
            self._changed.notify_all()

    def stop(self) -> None:
        """Nothing is pulled any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Acknowledges what is durable, and gives the rest back to the server at once."""
        self.stop()
        self._thread.join()
        deadline = self.clock() + _CLOSING_SECONDS
        self._acknowledge(self._to_acknowledge, deadline)
        self._modify([one for held in self._held for one in held.ack_ids], 0, deadline)
        self._held.clear()

    # The thread -------------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while True:
            with self._changed:
                while not (self._is_closed or self._to_acknowledge or self._due()):
                    self._changed.wait(self._rest())
                if self._is_closed:
                    return
                durable, self._to_acknowledge = self._to_acknowledge, []
                due = self._due()
            left = self._acknowledge(durable)
            self._extend(due)
            with self._changed:
                self._to_acknowledge[:0] = left
                if left:
                    self._changed.wait_for(lambda: self._is_closed, _RETRY_SECONDS)

    def _alive(self) -> Iterator[Held]:
        now = self.clock()
        return (held for held in self._held if now - held.given < self.most_seconds)

    def _rest(self) -> float | None:
        """Seconds until the next message must be asked for again."""
        lapses = min((held.lapses for held in self._alive()), default=None)
        return None if lapses is None else max(0.0, lapses - self.deadline_seconds / 2 - self.clock())

    def _due(self) -> list[Held]:
        soon = self.clock() + self.deadline_seconds / 2
        return [held for held in self._alive() if held.lapses <= soon]

    def _extend(self, due: Sequence[Held]) -> None:
        if not due:
            return
        began = self.clock()
        is_done = self._modify([one for held in due for one in held.ack_ids], round(self.deadline_seconds))
        for held in due:  # where it failed it is tried again soon
            held.lapses = began + (self.deadline_seconds if is_done else self.deadline_seconds / 2 + _RETRY_SECONDS)

    def _acknowledge(self, ack_ids: Sequence[str], deadline: float | None = None) -> Sequence[str]:
        """Gives those that are to be tried again."""
        for begin in range(0, len(ack_ids), _IDS_OF_A_CALL):
            some = ack_ids[begin : begin + _IDS_OF_A_CALL]
            request = AcknowledgeRequest(subscription=self.client.name, ack_ids=some)
            if not self._called("Acknowledge", request, deadline):
                return ack_ids[begin:]
        return []

    def _modify(self, ack_ids: Sequence[str], seconds: int, deadline: float | None = None) -> bool:
        for begin in range(0, len(ack_ids), _IDS_OF_A_CALL):
            some = ack_ids[begin : begin + _IDS_OF_A_CALL]
            request: Any = ModifyAckDeadlineRequest(
                subscription=self.client.name, ack_ids=some, ack_deadline_seconds=seconds
            )
            if not self._called("ModifyAckDeadline", request, deadline):
                return False
        return True

    def _called(self, method: str, request: Any, deadline: float | None) -> bool:
        """Calls it; False where it is worth to be tried again. What is refused for good comes again by itself."""
        try:
            self.client.call(method, request, 30 if deadline is None else max(0.1, deadline - self.clock()))
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            if code in PASSING:
                return False
            _log.warning("%s: %s: %s; the messages come again", self.client.uri, method, code)
        return True
