"""The sink `firestore:PROJECT[/DATABASE]`: each row is a document at its path, with its stamp in the field `_boiler`.

Control data, and the lease of the writing program, are in `_boiler/{view}`; tombstones of deleted rows are in
`_boiler_tombstones` (give it a TTL policy on `expireAt`). A backfill writes its rows one by one at `commit`. If a
stream writes the view, the backfill does not write: it sends the stream a touch for each row that differs, by a
document in `_boiler/{view}/touches` or by the topic that the stream follows (S16).
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
from boiler_beam.events import DeadLetter, EncodedRow, Stamp, Touch, View

__all__ = ["FirestoreSink", "guarded"]

_PAGE = 1000
"""The number of documents in one query, so that a query ends before the server's time limit."""
_CHUNK_ROWS, _CHUNK_BYTES = 5_000, 32 << 20
_ATTEMPTS = 64  # in about ten minutes
_PATIENCE_SECONDS = 600.0
"""How long a call is repeated, like writes."""
_TOUCHED_SECONDS, _TOUCHED_ROWS_PER_SECOND, _TOUCHED_LOOK_SECONDS = 120.0, 100, 0.5
"""In seconds: how long a backfill waits for the stream to handle its touches, how much longer for many rows, how
often it looks."""


def guarded(client: Client, options: WriteOptions, lease: Lease | None = None) -> Guard:
    """Creates the writer of rows to a database.

    Args:
        client: The database.
        options: How rows are written.
        lease: A lease that must be held at each call, once it was taken; None: no lease is needed.
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
    """Stores rows in a Firestore database.

    Attributes:
        options: How rows are written; may be replaced before the sink is opened.
        counts: The counts of all backfills and streams of this sink.
        wait: Sleeps for some seconds.
    """

    scheme: ClassVar[str] = "firestore"

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.client = Client(rest)
        self.options = WriteOptions()
        self.billed = self.counts = Counts()
        self.wait: Callable[[float], None] = time.sleep

    def figures(self) -> dict[str, float]:
        """Returns the counts of writes, for metrics."""
        return asdict(self.counts)

    def controls(self) -> dict[str, Control]:
        """Reads the control documents of all views."""
        return {name: one.control for name, one in read_controls(self.client).items()}

    def current_rows(self, view: View) -> Iterator[EncodedRow]:
        """Reads the rows of a view."""
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
        """Yields the documents of a query; a broken call is resumed after the last document."""
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
        """Opens a backfill, which keeps its rows in a file and writes them, or sends touches, at `commit`."""
        lease = self._lease()
        with tempfile.TemporaryFile() as spool:
            yield _Backfill(self, lease, spool)

    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        """Opens the sink for a stream, which takes the lease of its views with its first control data."""
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
        """Creates the writer of rows, with the counts of this sink."""
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

    def write(self, rows: Sequence[tuple[View, EncodedRow]]) -> list[DeadLetter]:
        self.lease.check()
        dead_letters = self.guard.write((row for _, row in rows), is_together=self.is_together, may_hold=self.may_hold)
        self.held = frozenset(self.guard.held)
        return dead_letters

    def control(self, controls: Mapping[str, Control]) -> None:
        self.lease.take(controls, next((one.holder for one in controls.values()), ""))
        self.views = list(controls)

    def touches(self) -> list[Touch]:
        self.lease.check()  # a program without writes must also notice that it lost the lease
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
    """Keeps rows in a file until `commit`, which decides whether it or a stream writes them."""

    def __init__(self, sink: FirestoreSink, lease: Lease, spool: BinaryIO) -> None:
        self.sink, self.lease, self.spool, self.guard = sink, lease, spool, sink.opened(lease)
        self._answered = 0  # chunks of rows

    def write(self, view: View, row: EncodedRow) -> None:
        data = _encode((view.name, *row))
        self.spool.write(len(data).to_bytes(4, "big") + data)

    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        self.write(view, EncodedRow(path, stamp, None))

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
                    f"got another version of it; fix: stop the stream, run this, start the stream again{ended}"
                )
        own = {name: control for name, control in controls.items() if name not in live}
        dead_letters: list[DeadLetter] = []
        try:
            if own:
                self.lease.take(own)
            for chunk in self._chunks():
                touches = [
                    (topics[name], Touch(name, row.path, row.stamp.version)) for name, row in chunk if name in live
                ]
                self.touched += self._asked(touches)
                dead_letters += self.guard.write(row for name, row in chunk if name not in live)
            self.lease.release()
        finally:
            self.lease.stop()
        if self.touched:
            self.drift = self._drift({name: topics[name] for name in live})
        return dead_letters

    def _asked(self, touches: Sequence[tuple[str, Touch]]) -> int:
        """Sends touches to streams, by topics or by documents, and returns their number."""
        documents = (_touch(self.sink.client, touch) for topic, touch in touches if not topic)
        number = sum(outcome.kind == "done" for outcome in self.guard.writer.write(documents))
        for topic in {topic for topic, _ in touches if topic}:
            from boiler_beam.connectors.pubsub.publisher import publish_touches

            number += publish_touches(topic, (touch for where, touch in touches if where == topic))
        return number

    def _drift(self, topics: Mapping[str, str]) -> int:
        """Waits until the streams have handled all touches, and returns how many of these rows still differ (S16)."""
        patience, attempts = _TOUCHED_SECONDS + self.touched / _TOUCHED_ROWS_PER_SECOND, 0
        deadline = time.monotonic() + patience
        while not self._is_answered(topics):
            if time.monotonic() > deadline:
                fix = "check whether it still runs"
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
        """Returns whether streams have handled all touch documents, which they delete.

        Touches by a topic leave none.
        """
        if any(_touches(self.sink.client, view, limit=1) for view, topic in topics.items() if not topic):
            return False
        by_topic = [view for view, topic in topics.items() if topic]
        for some in self._compared(by_topic, self._answered) if by_topic else ():
            if not all(is_answered for is_answered, _ in some):
                return False
            self._answered += 1
        return True

    def _compared(self, views: Container[str], begin: int = 0) -> Iterator[list[tuple[bool, bool]]]:
        """Yields for each row of these views whether the stored row is as new as the computed one, and differs from it.

        Args:
            views: The names of the views.
            begin: The number of chunks of rows to skip.
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

    def _chunks(self) -> Iterator[list[tuple[str, EncodedRow]]]:
        self.spool.seek(0)
        chunk: list[tuple[str, EncodedRow]] = []
        size = 0
        while head := self.spool.read(4):
            length = int.from_bytes(head, "big")
            name, path, stamp, fields = _decode(self.spool.read(length))
            chunk.append((name, EncodedRow(path, Stamp(*stamp), fields)))
            size += length
            if len(chunk) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
        yield chunk


def _touches(client: Client, view: str, limit: int = 0) -> list[Any]:
    """Yields the touch documents of a view."""
    request = RunQueryRequest(parent=f"{client.root}{CONTROLS}/{view}")
    request.structured_query.from_.add(collection_id="touches")
    if limit:
        request.structured_query.limit.value = limit
    with explained(client.uri, f"to read the touches of {view}"):
        answers = patiently(lambda: list(client.call("RunQuery", request)), _PATIENCE_SECONDS, client.uri)
    return [answer.document for answer in answers if answer.HasField("document")]


def _touch(client: Client, touch: Touch) -> Item:
    """Returns the write of a touch document, which asks the view's stream to write a row from its state (S16)."""
    path = f"{CONTROLS}/{touch.view}/touches/{uuid.uuid4().hex}"
    write = Write()
    write.update.name = client.root + path
    write.update.fields["path"].string_value = touch.path
    write.update.fields["readTime"].integer_value = touch.read_time
    return Item(path, [write])


def _query(client: Client, template: str) -> Any:
    """Returns the query for the rows of a template: of one collection, or of a collection group."""
    segments = template.split("/")
    fixed = next((index for index, one in enumerate(segments) if "{" in one), len(segments))
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
