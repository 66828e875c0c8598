"""Holds pulled messages until they are durable: a thread extends, acknowledges or releases them."""

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
"""The most ids in a request: a request may have 512 KiB, and an id up to 200 bytes."""
_RETRY_SECONDS = 1.0
_CLOSING_SECONDS = 10.0


@dataclass(eq=False)
class Held:
    """The messages of one pull.

    Attributes:
        ack_ids: The acknowledgement ids.
        size_bytes: The size of the messages.
        lapses: When their deadline ends, so that the server redelivers them.
        given: When they were pulled.
        number: The number of the batch in which the source yielded them; 0 before that.
    """

    ack_ids: Sequence[str]
    size_bytes: int
    lapses: float
    given: float
    number: int = 0


class Leases:
    """Holds a bounded number of messages until they are acknowledged.

    The server redelivers a message after the subscription's deadline. The deadline is extended when half of it is over,
    until `most_seconds` are over. A redelivered message is acknowledged when it was processed again.

    Args:
        client: The client of the subscription.
        deadline_seconds: The deadline of the subscription.
        most_messages: Pulling pauses while so many messages are held.
        most_bytes: Pulling pauses while so many bytes are held.
        most_seconds: The longest time for which a message is held.
        clock: Returns the time in seconds.
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
        """Adds the messages of one pull."""
        now = self.clock()
        held = Held(ack_ids, size_bytes, now + self.deadline_seconds, now)
        with self._changed:
            self._held.append(held)
            self._messages, self._bytes = self._messages + len(ack_ids), self._bytes + size_bytes
            self._changed.notify_all()
        return held

    def wait_for_room(self) -> bool:
        """Waits until more messages may be pulled; returns False when it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room())
            return not self._is_closed

    def _has_room(self) -> bool:
        return self._messages < self.most_messages and self._bytes < self.most_bytes

    def acknowledge(self, number: int) -> None:
        """Says that all batches up to this one are durable."""
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
        """Says that no more messages are pulled."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Acknowledges durable messages, and releases the others to the server at once."""
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
        """Returns the seconds until the next deadline has to be extended."""
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
        for held in due:  # after a failure it is tried again soon
            held.lapses = began + (self.deadline_seconds if is_done else self.deadline_seconds / 2 + _RETRY_SECONDS)

    def _acknowledge(self, ack_ids: Sequence[str], deadline: float | None = None) -> Sequence[str]:
        """Sends the requests, and returns the ids to try again."""
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
        """Calls a method; returns False if it should be tried again.

        Messages of a refused call are redelivered anyway.
        """
        try:
            self.client.call(method, request, 30 if deadline is None else max(0.1, deadline - self.clock()))
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            if code in PASSING:
                return False
            _log.warning("%s: %s: %s; the messages will be redelivered", self.client.uri, method, code)
        return True
