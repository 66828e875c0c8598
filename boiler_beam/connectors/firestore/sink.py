"""Rows in Firestore, each a document at its own path, with its stamp in the field `_boiler`.

Control data, and the lease of the program that writes, lie in `_boiler/{view}`; tombstones of deleted rows in
`_boiler_tombstones` (give it a TTL policy on `expireAt`). A backfill writes its rows one by one when it is committed;
while a stream writes a view it writes none, but asks the stream, in `_boiler/{view}/touches` or by the topic that it
follows, to write those that differ (S16).
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any, BinaryIO, ClassVar

import grpc
import msgspec

from boiler_beam.connectors.base import BackfillWriter, Control, Sink, StreamWriter
from boiler_beam.connectors.firestore.client import PASSING, Client, explained
from boiler_beam.connectors.firestore.control import CONTROLS, Lease, patiently, read_controls
from boiler_beam.connectors.firestore.guard import Guard, row_of, standing_of
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.firestore.protos import RunQueryRequest, Write
from boiler_beam.connectors.firestore.throttle import RampUp, back_off
from boiler_beam.connectors.firestore.write import BatchWriter, Counts, Item
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import DeadLetter, Row, Stamp, Touch, View

__all__ = ["FirestoreSink", "guarded"]

_PAGE = 1000
"""Documents of one query: it ends before it is too long for a server."""
_CHUNK_ROWS, _CHUNK_BYTES = 5_000, 32 << 20
_ATTEMPTS = 64  # within about ten minutes
_PATIENCE_SECONDS = 600.0
"""How long a call is repeated, as writes are."""
_TOUCHED_SECONDS, _TOUCHED_ROWS_PER_SECOND, _TOUCHED_LOOK_SECONDS = 120.0, 100, 0.5
"""How long a backfill waits for the stream to write what it asked for, how much longer for many rows, how soon it
looks."""


def guarded(client: Client, options: WriteOptions, lease: Lease | None = None) -> Guard:
    """What writes rows to a database.

    Args:
        client: The database.
        options: See there.
        lease: Must hold before each call, once it is taken; None: nothing must.
    """
    ramp_up = RampUp(options.writers) if options.ramp_up and not client.emulator else None
    before = (lambda: None) if lease is None else lease.check
    writer = BatchWriter(client, options.limits, ramp_up=ramp_up, before=before)
    return Guard(
        writer,
        cached=options.cached,
        pace_seconds=options.pace_seconds,
        retention_seconds=options.retention_seconds,
        references=options.references,
        permit=lease,
    )


class FirestoreSink(Sink):
    """Writes rows to a database.

    Attributes:
        options: How; may be replaced before it is opened.
        counts: What was done, in all backfills and streams of this sink.
        wait: Sleeps.
    """

    scheme: ClassVar[str] = "firestore"

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.client = Client(rest)
        self.options = WriteOptions()
        self.billed = self.counts = Counts()
        self.wait: Callable[[float], None] = time.sleep

    def figures(self) -> dict[str, float]:
        """See `Counts`."""
        return asdict(self.counts)

    def controls(self) -> dict[str, Control]:
        """See `Sink`."""
        return {name: one.control for name, one in read_controls(self.client).items()}

    def standing(self, view: View) -> Iterator[Row]:
        """See `Sink`."""
        request = _query(self.client, view.template)
        while True:
            last, number = None, 0
            for document in self._page(request, view):
                last, number = document.name, number + 1
                row = row_of(self.client, document, self.options.references)
                if view.matches(row.path):
                    yield row
            if last is None or number < _PAGE:
                return
            _begin_behind(request, last)

    def _page(self, request: Any, view: View) -> Iterator[Any]:
        """The documents of a query; where its stream breaks it goes on behind the last one."""
        attempts, number = 0, 0
        while True:
            try:
                for answer in self.client.call("RunQuery", request):
                    if answer.HasField("document"):
                        self.counts.reads += 1
                        number, attempts = number + 1, 0
                        yield answer.document
                        last = answer.document.name
                return
            except grpc.RpcError as error:
                code: Any = error.code()
                attempts += 1
                if code not in PASSING or attempts > _ATTEMPTS:
                    with explained(self.uri, f"to read the rows of {view.name}"):
                        raise
            self.wait(back_off(attempts, 1.0))
            if number:
                _begin_behind(request, last)
                request.structured_query.limit.value = _PAGE - number

    @contextmanager
    def backfill(self, views: Sequence[View]) -> Iterator[BackfillWriter]:
        """See `Sink`."""
        lease = self._lease()
        with tempfile.TemporaryFile() as spool:
            yield _Backfill(self, lease, spool)

    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        """See `Sink`."""
        lease = self._lease()
        try:
            yield _Follower(self, lease)
            lease.release()
        finally:
            lease.stop()

    def _lease(self) -> Lease:
        options = self.options
        return Lease(
            self.client, lapse_seconds=options.lapse_seconds, renew_seconds=options.renew_seconds, wait=self.wait
        )

    def opened(self, lease: Lease) -> Guard:
        """What writes the rows, with this sink's counts."""
        guard = guarded(self.client, self.options, lease)
        guard.counts = guard.writer.counts = self.counts
        return guard


class _Follower(StreamWriter):
    def __init__(self, sink: FirestoreSink, lease: Lease) -> None:
        self.client, self.lease, self.guard, self.is_together = (
            sink.client,
            lease,
            sink.opened(lease),
            sink.options.is_together,
        )
        self.views: list[str] = []
        self.taken: list[str] = []

    def write(self, rows: Sequence[tuple[View, Row]]) -> list[DeadLetter]:
        self.lease.check()
        letters = self.guard.write((row for _, row in rows), is_together=self.is_together, may_hold=self.may_hold)
        self.held = frozenset(self.guard.held)
        return letters

    def control(self, controls: Mapping[str, Control]) -> None:
        self.lease.take(controls, next((one.holder for one in controls.values()), ""))
        self.views = list(controls)

    def touches(self) -> list[Touch]:
        self.lease.check()  # a program that has nothing to write shall end, too
        found = [(view, one) for view in self.views for one in _touches(self.client, view)]
        self.guard.counts.reads += max(len(self.views), len(found))
        self.taken = [document.name for _, document in found]
        return [
            Touch(view, document.fields["path"].string_value, document.fields["readTime"].integer_value)
            for view, document in found
        ]

    def touched(self) -> None:
        deletions = [Item(name, [Write(delete=name)]) for name in self.taken]
        for _ in self.guard.writer.write(deletions):
            pass
        self.taken = []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, tuple[int, int, int], bytes | None]).decode


class _Backfill(BackfillWriter):
    """Keeps rows in a file until they are committed: who writes them is decided then."""

    def __init__(self, sink: FirestoreSink, lease: Lease, spool: BinaryIO) -> None:
        self.sink, self.lease, self.spool, self.guard = sink, lease, spool, sink.opened(lease)
        self._answered = 0  # chunks of rows

    def write(self, view: View, row: Row) -> None:
        data = _encode((view.name, *row))
        self.spool.write(len(data).to_bytes(4, "big") + data)

    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        self.write(view, Row(path, stamp, None))

    def commit(self, controls: Mapping[str, Control]) -> list[DeadLetter]:
        standing = read_controls(self.sink.client)
        asks_topics = self.sink.options.asks_topics
        topics = {name: one.control.topic if asks_topics else "" for name, one in standing.items() if name in controls}
        live = {
            name: standing[name]
            for name, topic in topics.items()
            if topic or (standing[name].is_streamed and standing[name].age < self.lease.lapse_seconds)
        }
        for name, one in live.items():
            if one.control.fingerprint != controls[name].fingerprint:
                ended = "; --no_touches, if it ended for good" if topics[name] else ""
                raise UsageError(
                    f"{self.sink.uri}: expected the stream that writes {name} to run the same view as this backfill, "
                    f"got another version of it; fix: stop the stream, run this, start the stream anew{ended}"
                )
        own = {name: control for name, control in controls.items() if name not in live}
        letters: list[DeadLetter] = []
        try:
            if own:
                self.lease.take(own)
            for chunk in self._chunks():
                touches = [
                    (topics[name], Touch(name, row.path, row.stamp.version)) for name, row in chunk if name in live
                ]
                self.touched += self._asked(touches)
                letters += self.guard.write(row for name, row in chunk if name not in live)
            self.lease.release()
        finally:
            self.lease.stop()
        if self.touched:
            self.drift = self._drift({name: topics[name] for name in live})
        return letters

    def _asked(self, touches: Sequence[tuple[str, Touch]]) -> int:
        """Asks streams to write rows, by topics or by documents; gives how many were asked for."""
        documents = (_touch(self.sink.client, touch) for topic, touch in touches if not topic)
        number = sum(outcome.kind == "done" for outcome in self.guard.writer.write(documents))
        for topic in {topic for topic, _ in touches if topic}:
            from boiler_beam.connectors.pubsub.publisher import publish_touches

            number += publish_touches(topic, (touch for where, touch in touches if where == topic))
        return number

    def _drift(self, topics: Mapping[str, str]) -> int:
        """Waits until streams wrote what they were asked for; gives how many of these rows differ still (S16)."""
        patience, attempts = _TOUCHED_SECONDS + self.touched / _TOUCHED_ROWS_PER_SECOND, 0
        deadline = time.monotonic() + patience
        while not self._is_answered(topics):
            if time.monotonic() > deadline:
                fix = "look whether it still runs"
                if any(topics.values()):
                    fix += "; --no_touches, if it ended for good"
                raise BoilerBeamError(
                    f"{self.sink.uri}: expected the stream to write {self.touched} rows again, got no answer for "
                    f"{patience:.0f} s; fix: {fix}"
                )
            attempts += 1
            self.sink.wait(back_off(attempts, 1.0, _TOUCHED_LOOK_SECONDS))
        return sum(differs for some in self._compared(topics) for _, differs in some)

    def _is_answered(self, topics: Mapping[str, str]) -> bool:
        """Whether nothing is asked of a stream that it did not do: it deletes documents that ask; a topic has none."""
        if any(_touches(self.sink.client, view, limit=1) for view, topic in topics.items() if not topic):
            return False
        by_topic = [view for view, topic in topics.items() if topic]
        for some in self._compared(by_topic, self._answered) if by_topic else ():
            if not all(is_answered for is_answered, _ in some):
                return False
            self._answered += 1
        return True

    def _compared(self, views: Container[str], begin: int = 0) -> Iterator[list[tuple[bool, bool]]]:
        """Of each row of these views: whether what stands is as new as what was computed, and whether it differs.

        Args:
            views: Their names.
            begin: How many chunks of rows are left out.
        """
        client = self.sink.client
        for chunk in islice(self._chunks(), begin, None):
            asked = {row.path: row for name, row in chunk if name in views}
            answers = self.guard.documents(list(asked))
            there = [
                standing_of(client, answer.found, self.sink.options.references)
                for answer in answers
                if answer.HasField("found")
            ]
            stands = {row.path: row for row in there}
            compared = []
            for path, wanted in asked.items():
                found = stands.get(path)
                version = -1 if found is None else found.stamp.version
                differs = (None if found is None else found.fields) != wanted.fields
                compared.append((version >= wanted.stamp.version, differs and version <= wanted.stamp.version))
            yield compared

    def _chunks(self) -> Iterator[list[tuple[str, Row]]]:
        self.spool.seek(0)
        chunk: list[tuple[str, Row]] = []
        size = 0
        while head := self.spool.read(4):
            length = int.from_bytes(head, "big")
            name, path, stamp, fields = _decode(self.spool.read(length))
            chunk.append((name, Row(path, Stamp(*stamp), fields)))
            size += length
            if len(chunk) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
        yield chunk


def _touches(client: Client, view: str, limit: int = 0) -> list[Any]:
    """The documents of the touches of a view."""
    request = RunQueryRequest(parent=f"{client.root}{CONTROLS}/{view}")
    request.structured_query.from_.add(collection_id="touches")
    if limit:
        request.structured_query.limit.value = limit
    with explained(client.uri, f"to read what is asked of the stream of {view}"):
        answers = patiently(lambda: list(client.call("RunQuery", request)), _PATIENCE_SECONDS, client.uri)
    return [answer.document for answer in answers if answer.HasField("document")]


def _touch(client: Client, touch: Touch) -> Item:
    """Asks the stream that writes a view to write a row as it is known (S16)."""
    path = f"{CONTROLS}/{touch.view}/touches/{uuid.uuid4().hex}"
    write = Write()
    write.update.name = client.root + path
    write.update.fields["path"].string_value = touch.path
    write.update.fields["readTime"].integer_value = touch.read_time
    return Item(path, [write])


def _query(client: Client, template: str) -> Any:
    """The query for the rows at a template: of one collection, or of all of that name below what is fixed."""
    segments = template.split("/")
    fixed = next((place for place, one in enumerate(segments) if "{" in one), len(segments))
    depth = min(fixed - fixed % 2, len(segments) - 2)
    parent = "/".join([client.root.rstrip("/"), *segments[:depth]])
    request = RunQueryRequest(parent=parent)
    query = request.structured_query
    query.from_.add(collection_id=segments[-2], all_descendants=depth < len(segments) - 2)
    query.order_by.add(direction=1).field.field_path = "__name__"
    query.limit.value = _PAGE
    return request


def _begin_behind(request: Any, name: str) -> None:
    query = request.structured_query
    query.limit.value = _PAGE
    query.ClearField("start_at")
    query.start_at.before = False
    query.start_at.values.add().reference_value = name
