"""Reads collections of a Firestore database, all documents as of one time, in parts and in parallel.

A subcollection is read as a collection group, so other collections of the same name are billed too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from queue import Full, Queue
from threading import Event as Flag
from threading import Thread
from typing import Any, ClassVar

import msgspec

from boiler_beam.connectors.base import KeyedSource
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.paths import Paths
from boiler_beam.connectors.firestore.query import Field, Query, queries_of, query_of
from boiler_beam.connectors.firestore.read import Reader, check_read_time
from boiler_beam.events import Change, Complete, Event

__all__ = ["Part", "SnapshotSource", "batches"]

PARTS = 64
"""The most parts of each query."""
_BATCH, _BATCH_BYTES = 1000, 8 << 20
_READ = "read"


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of the documents, encoded as JSON in a split, from which a worker can read it.

    Attributes:
        query: The query.
        read_time: The time as of which it is read, in microseconds since the epoch.
        begin: The first path; empty for the beginning.
        end: The path before which the part ends; empty for the end.
    """

    query: Query
    read_time: int
    begin: str = ""
    end: str = ""


def batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Yields changes in lists of bounded size, also for large documents."""
    batch: list[Change] = []
    size = 0
    for change in changes:
        batch.append(change)
        size += len(bytes(change.fields))
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class SnapshotSource(KeyedSource):
    """Reads collections of a database, all as of one time.

    Attributes:
        read_time: That time, in microseconds since the epoch: any time within the last hour, or a whole minute of the
            last 7 days if point-in-time recovery is enabled. None until reading begins; then the time of the beginning.
            A read that takes more than an hour needs a whole minute and point-in-time recovery.
        select: The fields to read, each by its exact stored name (`a.b` is one name), or by a tuple of names within
            maps (`("address", "city")`); empty for all.
        where: Filters that must all hold: a field as in `select`, an operator, a value. They may need an index.
        threads: The number of parts that `read_all` and `follow` read in parallel. The emulator sorts a whole
            collection for each part, so there a collection is one part.
        reader: The reader.
        billed: Counts the billed reads.
    """

    scheme: ClassVar[str] = "firestore"
    is_snapshot: ClassVar[bool] = True

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.client = Client(rest)
        self.database = self.client.location
        self.reader = Reader(self.client)
        self.billed = self.reader.billed
        self.read_time: int | None = None
        self.select: Sequence[Field] = ()
        self.where: Sequence[tuple[Field, str, Any]] = ()
        self.threads = 1 if self.client.emulator else 4
        self.collections: Sequence[str] = ()

    def prepare(self, collections: Sequence[str]) -> None:
        """Sets the collections to read; with none, or if it is not called, all top-level collections are read."""
        self.collections = list(collections)

    def queries(self) -> list[Query]:
        """Returns the queries of the wanted collections."""
        if not self.collections:
            self.collections = self.reader.collections()
        return queries_of(self.collections, self.select, self.where)

    def time_of_reading(self) -> int:
        """Returns `read_time`, after setting it to the server's time if it was None.

        Raises:
            UsageError: The server can't read documents as of that time.
        """
        if self.read_time is not None:
            check_read_time(self.uri, self.read_time, time.time_ns() // 1000)
        else:
            self.read_time = self.reader.now()
        return self.read_time

    def parts(self, most: int = PARTS) -> list[Part]:
        """Returns the parts to read, at most `most` of each query."""
        read_time = self.time_of_reading()
        return [
            Part(query, read_time, *span)
            for query in self.queries()
            for span in self.reader.ranges(query, most, read_time)
        ]

    def splits(self) -> Sequence[str]:
        """Returns the parts, each as the JSON of a `Part`."""
        return [msgspec.json.encode(part).decode() for part in self.parts()]

    def read(self, split: str) -> Iterator[Change]:
        """Yields the documents of one part."""
        return self.reader.read(*_arguments(msgspec.json.decode(split, type=Part)))

    def read_all(self) -> Iterator[Change]:
        """Yields the documents of all parts; several parts are read in parallel."""
        for batch in self.read_parts(self.parts(self.parts_of_a_query())):
            yield from batch

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        """Yields all documents, then a `Complete` for each collection (not with `where`)."""
        if position == _READ:
            return
        parts, paths = self.parts(self.parts_of_a_query()), Paths()
        for batch in self.read_parts(parts):
            paths.add(change.path for change in batch)
            yield batch, ""
        times = {pattern: part.read_time for part in parts for pattern in part.query.patterns}
        yield [] if self.where else [Complete(pattern, time, paths) for pattern, time in times.items()], _READ

    def parts_of_a_query(self) -> int:
        """Returns the number of parts of each query in this process."""
        return PARTS if self.threads > 1 else 1

    def read_parts(self, parts: Sequence[Part], *, has_others: bool = False) -> Iterator[list[Change]]:
        """Yields the documents of some parts, in batches; several parts are read in parallel.

        Args:
            parts: The parts, in the order in which they are started.
            has_others: Whether documents of other collections of a collection group are yielded too.
        """
        streams = deque(self.reader.read(*_arguments(part), has_others=has_others) for part in parts)
        if self.threads == 1 or len(streams) < 2:
            for stream in streams:
                yield from batches(stream)
            return
        ready, is_over = Queue[Any](self.threads), Flag()
        workers = [Thread(target=_work, args=(streams, ready, is_over), daemon=True) for _ in range(self.threads)]
        for worker in workers:
            worker.start()
        running = len(workers)
        try:
            while running:
                came = ready.get()
                if isinstance(came, BaseException):
                    raise came
                running -= came is None
                if came is not None:
                    yield came
        finally:
            is_over.set()
            for worker in workers:
                worker.join()

    def get(self, paths: Iterable[str], read_time: int | None = None) -> Iterator[Change]:
        """Yields some documents by their paths, in any order; a missing one as a deletion at the time of reading."""
        return self.reader.get(paths, read_time)

    def query(
        self, collection: str, filters: Sequence[tuple[Field, str, Any]], read_time: int | None = None
    ) -> Iterator[Change]:
        """Yields the documents of a collection that match all filters.

        Args:
            collection: Its pattern, or the path of a single collection (`rooms/r1/messages`).
            filters: Tuples of a field (as in `where`), an operator as in Google's clients, and a Python value such as a
                `Ref` or text. For a pattern of subcollections the field needs an index for collection groups.
            read_time: In microseconds since the epoch; by default now.
        """
        return self.reader.read(query_of(collection, filters), read_time)


def _arguments(part: Part) -> tuple[Query, int, str, str]:
    return part.query, part.read_time, part.begin, part.end


def _work(streams: deque[Iterator[Change]], ready: Queue[Any], is_over: Flag) -> None:
    """Reads parts until none is left; puts batches into the queue, and finally None or an error."""
    last: Any = None
    try:
        with suppress(IndexError):
            while not is_over.is_set():
                for batch in batches(streams.popleft()):
                    if not _put(ready, batch, is_over):
                        return
    except BaseException as error:
        last = error
    _put(ready, last, is_over)


def _put(ready: Queue[Any], item: Any, is_over: Flag) -> bool:
    """Puts an item into the queue when there is room; gives up when the reader has ended."""
    while not is_over.is_set():
        with suppress(Full):
            ready.put(item, timeout=0.1)
            return True
    return False
