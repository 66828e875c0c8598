"""Listens to collections: reads a snapshot, then follows a Listen call from the snapshot's time on, and reconnects it.

A position holds, for each collection, the server's resume token and a consistent time. A program that reconnects within
about half an hour receives the changes since its position. Later, or if the server cannot say which documents were
deleted, the collections are read again (a read for each document), and a `Complete` event follows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, Full, Queue
from typing import Any, ClassVar

import grpc

from boiler_beam.connectors.firestore.client import PASSING, Client
from boiler_beam.connectors.firestore.query import Query
from boiler_beam.connectors.firestore.retry import Retry
from boiler_beam.connectors.firestore.snapshot import Part, SnapshotSource, batches
from boiler_beam.connectors.firestore.watch import TargetLost, Watch
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import Event

__all__ = ["ListenSource"]

_IDLE_SECONDS = 0.05
"""The interval of empty batches: shorter than the coalescing window, whose end is noticed at the next batch."""
_AHEAD = 1000
"""The most messages in the queue; when it is full, the server waits."""
_MOST = 1000
_PASSING = frozenset(code.value[0] for code in PASSING)
_FORGOTTEN = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)
_log = logging.getLogger("boiler_beam")

Batch = tuple[Sequence[Event], str]


class ListenSource(SnapshotSource):
    """Follows collections: yields all documents, and then their changes.

    It uses about 200 bytes of memory for each document.

    Attributes:
        clock: Returns the time in seconds.
        has_whole_batches: Whether a batch ends at each consistent time, so that those whose position is new end with
            all documents as of that time. Otherwise a batch may hold several such times, which costs less.
        is_current: Whether the present Listen call has reached a consistent time, and is not broken. Another thread may
            read it.
    """

    is_bounded: ClassVar[bool] = False
    has_snapshot: ClassVar[bool] = True
    clock: Callable[[], float] = staticmethod(time.monotonic)
    has_whole_batches: bool = False
    is_current: bool = False

    def following(self) -> ListenSource:
        """Returns this source."""
        return self

    def queries(self) -> list[Query]:
        """Queries without `select` and `where`, because whole documents are needed, and all of them."""
        self.select = self.where = ()
        return super().queries()

    def follow(self, position: str | None) -> Iterator[Batch]:
        """Yields changes in batches, with an empty batch now and then.

        The version of a deletion is the time at which it was seen, because the server does not send the deleted version
        (S1). A position changes only at consistent times; changes after it are repeated after a restart.
        """
        queries = self.queries()
        watch = Watch(queries, position, self.client.path_of, is_exact=not self.client.emulator)
        retry = Retry(self.uri, f"to listen to {', '.join(query.name for query in queries)}", self.clock)
        while queries:
            is_resumed = len(watch.needs_snapshot()) < len(queries)
            yield from self._snapshots(watch)
            try:
                yield from self._listened(watch, retry)
            except grpc.RpcError as error:
                code: Any = error.code() if isinstance(error, grpc.Call) else None
                if is_resumed and code in _FORGOTTEN:
                    self._start_over(watch, str(error))
                    continue
                yield from self._waited(retry.seconds(error), watch)
            except TargetLost as lost:
                yield from self._waited(self._after(lost, watch, retry, is_resumed=is_resumed), watch)

    def _snapshots(self, watch: Watch) -> Iterator[Batch]:
        """Reads a snapshot of the collections that can't be resumed."""
        targets = watch.needs_snapshot()
        if not targets:
            return
        read_time = self.time_of_reading()
        self.read_time = None  # a later snapshot has a later read time
        for target in targets:
            most = self.parts_of_a_query()
            parts = [Part(target.query, read_time, *span) for span in self.reader.ranges(target.query, most, read_time)]
            changes = (change for batch in self.read_parts(parts, has_others=True) for change in batch)
            for batch in batches(watch.snapshot(target, changes)):
                yield batch, watch.position
            events = watch.settled(target, read_time)
            yield events, watch.position

    def _listened(self, watch: Watch, retry: Retry) -> Iterator[Batch]:
        """Yields the changes of one Listen call, until it breaks or a target needs a snapshot."""
        stream = _Stream(self.client, watch.requests(self.client.database, self.client.root))
        told = self.clock()
        try:
            while not watch.needs_snapshot():
                events: list[Event] = []
                broken: grpc.RpcError | TargetLost | None = None
                before, number = watch.position, watch.documents
                try:
                    for answer in stream.some(_IDLE_SECONDS):
                        events += watch.take(answer)
                        if self.has_whole_batches and watch.position != before:
                            break
                except (grpc.RpcError, TargetLost) as error:
                    broken = error  # changes before it are known and would not be sent again
                if watch.position != before:
                    retry.progressed()
                    self.is_current = True
                self.reader.count(watch.documents - number)
                events += watch.looked_up(self.reader.get)
                is_end = self.has_whole_batches and watch.position != before
                if events or is_end or self.clock() - told >= _IDLE_SECONDS:
                    told = self.clock()
                    yield events, watch.position
                if broken is not None:
                    raise broken
        finally:
            self.is_current = False
            stream.close()

    def _after(self, lost: TargetLost, watch: Watch, retry: Retry, *, is_resumed: bool) -> float:
        """Returns how long to wait after the server ended a target."""
        if lost.code in _PASSING:
            return 1.0
        if is_resumed:
            self._start_over(watch, lost.message)
            return 0.0
        raise BoilerBeamError(f"{self.uri}: expected {retry.expected}, got: {lost.message}; fix: read its message")

    def _start_over(self, watch: Watch, why: str) -> None:
        _log.warning("%s: the server can't resume listening (%s); reading all documents again", self.uri, why)
        for target in watch.targets.values():
            target.start_over()

    def _waited(self, seconds: float, watch: Watch) -> Iterator[Batch]:
        """Yields empty batches for some time."""
        until = self.clock() + seconds
        while (left := until - self.clock()) > 0:
            yield [], watch.position
            time.sleep(min(left, _IDLE_SECONDS))


class _Stream:
    """A Listen call whose messages are received by a thread, so that waiting for a message can time out."""

    def __init__(self, client: Client, requests: Sequence[Any]) -> None:
        self._ready: Queue[Any] = Queue(_AHEAD)
        self._asked: Queue[Any] = Queue()
        for request in requests:
            self._asked.put(request)
        self._is_over = False
        self._call = client.call("Listen", iter(self._asked.get, None))
        self._thread = threading.Thread(target=self._fetch, daemon=True)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            for answer in self._call:
                self._put(answer)
            self._put(None)
        except grpc.RpcError as error:
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._is_over:
            try:
                self._ready.put(item, timeout=0.1)
                return
            except Full:
                continue

    def some(self, seconds: float) -> Iterator[Any]:
        """Returns the received messages, and waits for the first one.

        Raises:
            grpc.RpcError: The stream broke.
            TargetLost: The server ended it.
        """
        try:
            item = self._ready.get(timeout=seconds)
            for _ in range(_MOST):
                if isinstance(item, grpc.RpcError):
                    raise item
                if item is None:
                    raise TargetLost(grpc.StatusCode.UNAVAILABLE.value[0], "the stream ended")
                yield item
                item = self._ready.get_nowait()
        except Empty:
            return

    def close(self) -> None:
        """Ends the call."""
        self._is_over = True
        self._call.cancel()
        self._asked.put(None)
        self._thread.join()
