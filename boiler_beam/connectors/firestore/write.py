"""Sends many writes to Firestore: calls with many writes, several calls in flight, and an outcome for each write.

    items -> [groups of at most 500 writes and 9.5 MiB] -> BatchWrite or Commit, 8 in flight -> outcomes, in any order

A write that may succeed later is sent again; one that never will is `refused`; a failed precondition is a `conflict`,
which the caller has to handle. A write of a broken call may have been applied, and is sent again. So each write must be
idempotent, or have a precondition (`boiler_beam.connectors.firestore.guard`).
"""

from __future__ import annotations

import heapq
import queue
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import grpc

from boiler_beam.connectors.billed import Billed
from boiler_beam.connectors.firestore.client import PASSING, Client, failure
from boiler_beam.connectors.firestore.options import Limits
from boiler_beam.connectors.firestore.protos import BatchWriteRequest, CommitRequest
from boiler_beam.connectors.firestore.throttle import AdaptiveThrottle, RampUp, back_off
from boiler_beam.errors import BoilerBeamError

__all__ = ["BatchWriter", "Counts", "Item", "Outcome"]

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_OK = 0
_UNMET = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND}
_NEVER = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}
_OVERLOADED = {
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
}
_EMULATED_BYTES = 3 << 20
"""The most bytes in a call to the emulator, which accepts 4 MiB."""


@dataclass
class Counts(Billed):
    """Counts of operations, for metrics and for the billed operations.

    Writes include tombstones, not control documents.

    Attributes:
        unchanged: Rows that were already stored.
        older: Rows that were dropped because the stored row or tombstone is newer.
        conflicts: Writes whose precondition failed.
        retries: Writes that were sent again.
        bytes: The bytes of all sent writes.
        throttled_seconds: How long calls were delayed.
    """

    unchanged: int = 0
    older: int = 0
    conflicts: int = 0
    retries: int = 0
    bytes: int = 0
    throttled_seconds: float = 0.0


@dataclass(eq=False, slots=True)
class Item:
    """An atomic unit: one write, or several writes in a Commit.

    Attributes:
        key: A document's path. Of the items with one key only one is in flight, and only the newest of the others
            waits.
        writes: Protobuf `Write` messages.
        mark: Data of the caller.
    """

    key: str
    writes: Sequence[Any]
    mark: Any = None
    size: int = field(init=False)
    attempts: int = field(init=False, default=0)
    since: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.size = sum(write.ByteSize() + 8 for write in self.writes)


class Outcome(NamedTuple):
    """The outcome of an item.

    Attributes:
        item: The item.
        kind: `done`; `conflict`: a precondition failed; `refused`: it will never be accepted; `superseded`: it was not
            sent, because a newer item with the same key was added.
        times: If done, the update time of each write's document (a protobuf timestamp; zero after a deletion).
        reason: Why it was refused.
    """

    item: Item
    kind: Literal["done", "conflict", "refused", "superseded"]
    times: Sequence[Any] = ()
    reason: str = ""


class BatchWriter:
    """Sends writes.

    Args:
        client: The database.
        limits: The limits of the writer.
        ramp_up: The limit of the rate; None: none.
        throttle: Delays calls while the server is overloaded.
        before: Called before each call; raises if this program may no longer write.
        clock: Returns the time in seconds.
        wait: Sleeps for some seconds.
        chance: Returns random numbers from 0 to 1.

    Attributes:
        counts: The counts of operations.
    """

    def __init__(
        self,
        client: Client,
        limits: Limits | None = None,
        *,
        ramp_up: RampUp | None = None,
        throttle: AdaptiveThrottle | None = None,
        before: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.client, self.limits, self.ramp_up = client, limits or Limits(), ramp_up
        self.throttle = throttle or AdaptiveThrottle(chance)
        self.before, self.clock, self.wait, self.chance = before, clock, wait, chance
        self.counts = Counts()
        self.size_bytes = min(self.limits.size_bytes, _EMULATED_BYTES) if client.emulator else self.limits.size_bytes

    def write(self, items: Iterable[Item], *, is_atomic: bool = False, most: int = 500) -> Iterator[Outcome]:
        """Sends items, and yields the outcome of each.

        Args:
            items: The items; they are read while more calls may be in flight.
            is_atomic: Whether to use Commit, whose writes succeed or fail together, instead of BatchWrite.
            most: The most items in a call.

        Raises:
            UsageError: The program has no permission, or the database does not exist.
            BoilerBeamError: The server did not accept them for too long.
        """
        return _Run(self, iter(items), is_atomic, most).outcomes()


class _Run:
    """One call of `BatchWriter.write`."""

    def __init__(self, writer: BatchWriter, items: Iterator[Item], is_atomic: bool, most: int) -> None:
        self.writer, self.items, self.is_atomic, self.most = writer, items, is_atomic, most
        self.method, self.request = ("Commit", CommitRequest) if is_atomic else ("BatchWrite", BatchWriteRequest)
        self.answers: queue.SimpleQueue[tuple[Sequence[Item], Any]] = queue.SimpleQueue()
        self.calls = 0
        self.busy: dict[str, Item | None] = {}  # by key: the item that waits until the one in flight has its outcome
        self.taken: deque[Item] = deque()  # read from `items`, and not sent yet
        self.again: list[tuple[float, int, Sequence[Item]]] = []  # a heap of groups, by the time at which they are sent
        self.number = 0
        self.next: Sequence[Item] = ()  # a delayed group
        self.next_time = 0.0
        self.superseded: list[Outcome] = []

    def outcomes(self) -> Iterator[Outcome]:
        while True:
            pause = self._send_all()
            yield from self.superseded
            self.superseded.clear()
            if self.calls:
                try:
                    answer = self.answers.get(timeout=pause)
                except queue.Empty:
                    continue
                yield from self._answered(*answer)
            elif pause is not None:
                self.writer.wait(pause)
            else:
                return

    # Sending ----------------------------------------------------------------------------------------------------------

    def _send_all(self) -> float | None:
        """Sends groups; returns the seconds until more may be sent, or None if a response must arrive first."""
        while self.calls < self.writer.limits.calls:
            now = self.writer.clock()
            if not self.next:
                self.next = self._group(now)
                if not self.next:
                    return max(0.0, self.again[0][0] - now) if self.again else None
                ramp_up, number = self.writer.ramp_up, sum(len(item.writes) for item in self.next)
                self._hold(now, ramp_up.take(number, now) if ramp_up is not None else 0.0)
            if self.next_time <= now:
                self._hold(now, self.writer.throttle.hold(now))
            if self.next_time > now:
                return self.next_time - now
            group, self.next = self.next, ()
            self._send(group)
        return None

    def _hold(self, now: float, seconds: float) -> None:
        self.next_time = now + seconds
        self.writer.counts.throttled_seconds += seconds

    def _group(self, now: float) -> Sequence[Item]:
        """Returns the next items to send in one call."""
        if self.again and self.again[0][0] <= now:
            return heapq.heappop(self.again)[2]
        group: list[Item] = []
        limits, ramp_up = self.writer.limits, self.writer.ramp_up
        writes, size = min(limits.writes, ramp_up.most(now) if ramp_up is not None else limits.writes), 0
        while len(group) < self.most:
            item = self.taken.popleft() if self.taken else next(self.items, None)
            if item is None:
                break
            if item.key in self.busy:
                self._supersede(item)
                continue
            writes -= len(item.writes)
            size += item.size
            if group and (writes < 0 or size > self.writer.size_bytes):
                self.taken.appendleft(item)
                break
            self.busy[item.key] = None
            group.append(item)
        return group

    def _supersede(self, item: Item) -> None:
        older = self.busy[item.key]
        if older is not None:
            self.superseded.append(Outcome(older, "superseded"))
        self.busy[item.key] = item

    def _send(self, group: Sequence[Item]) -> None:
        self.writer.before()
        self.calls += 1
        client, writes = self.writer.client, [write for item in group for write in item.writes]
        request = self.request(database=client.database, writes=writes)
        self.writer.counts.bytes += sum(item.size for item in group)
        future = client.future(self.method, request, self.writer.limits.call_seconds)
        future.add_done_callback(lambda done: self.answers.put((group, done)))

    # Responses --------------------------------------------------------------------------------------------------------

    def _answered(self, group: Sequence[Item], future: Any) -> Iterator[Outcome]:
        self.calls -= 1
        try:
            response = future.result()
        except grpc.RpcError as error:
            code: Any = error.code()
            self._told(code)
            yield from self._failed(group, code, error)
            return
        if self.is_atomic:
            self._told(None)
            times = iter(response.write_results)
            for item in group:
                yield self._done(item, [next(times).update_time for _ in item.writes])
            return
        overloaded, later, said = None, [], ""
        for item, status, result in zip(group, response.status, response.write_results, strict=True):
            if status.code == _OK:
                yield self._done(item, [result.update_time])
                continue
            code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
            if code in PASSING:
                overloaded = code if code in _OVERLOADED else overloaded
                later.append(item)
                said = f"{code.name}: {status.message}"
            else:
                yield self._given_up(item, code, status.message)
        self._told(overloaded)
        self._retry(later, said)

    def _told(self, code: Any) -> None:
        self.writer.throttle.told(self.writer.clock(), is_accepted=code not in _OVERLOADED)

    def _failed(self, group: Sequence[Item], code: Any, error: Any) -> Iterator[Outcome]:
        """Handles a call that failed as a whole."""
        is_too_large = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "maximum size" in error.details()
        if (code in _NEVER or is_too_large) and len(group) > 1:  # one write is bad
            for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                self._push(0.0, half)
        elif code in _NEVER or is_too_large or (self.is_atomic and code in _UNMET):
            for item in group:
                yield self._given_up(item, code, error.details())
        elif code in PASSING:
            self._retry(group, f"{code.name}: {error.details()}")
        else:
            raise failure(self.writer.client.uri, error, "writes to be accepted") from error

    def _push(self, due: float, group: Sequence[Item]) -> None:
        self.number += 1
        heapq.heappush(self.again, (due, self.number, group))

    def _retry(self, group: Sequence[Item], said: str) -> None:
        """Sends items again, except those for which a newer item of the same key waits."""
        now, staying = self.writer.clock(), []
        for item in group:
            if self.busy[item.key] is not None:
                self._release(item)
                self.superseded.append(Outcome(item, "superseded"))
                continue
            item.since = item.since if item.attempts else now
            item.attempts += 1
            staying.append(item)
        if staying:
            self.writer.counts.retries += sum(len(item.writes) for item in staying)
            if now - min(item.since for item in staying) > self.writer.limits.retry_seconds:
                raise self._gave_up(said)
            self._push(now + back_off(max(item.attempts for item in staying), self.writer.chance()), staying)

    def _gave_up(self, said: str) -> BoilerBeamError:
        return BoilerBeamError(
            f"{self.writer.client.uri}: expected writes to be accepted within "
            f"{self.writer.limits.retry_seconds:.0f} s, got {said}; fix: check the project's quota and status, "
            "then run again"
        )

    def _done(self, item: Item, times: Sequence[Any]) -> Outcome:
        self._release(item)
        deletes = sum(write.WhichOneof("operation") == "delete" for write in item.writes)
        self.writer.counts.deletes += deletes
        self.writer.counts.writes += len(item.writes) - deletes
        return Outcome(item, "done", times)

    def _given_up(self, item: Item, code: Any, details: str) -> Outcome:
        self._release(item)
        if code in _UNMET:
            self.writer.counts.conflicts += 1
            return Outcome(item, "conflict")
        return Outcome(item, "refused", (), f"{code.name}: {details}")

    def _release(self, item: Item) -> None:
        """Releases the item's key; the item that waited for it is sent next."""
        following = self.busy.pop(item.key)
        if following is not None:
            self.taken.append(following)
