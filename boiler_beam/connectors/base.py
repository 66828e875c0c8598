"""The protocols of connectors: a `Source` yields changes, a `Sink` stores rows.

Both are created from the URI's part after the scheme (`data.jsonl` for `file:data.jsonl`), and do no I/O until a method
is called.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, ClassVar

import msgspec

from boiler_beam.connectors.billed import Billed
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter, EncodedRow, Event, Stamp, Touch, View
from boiler_beam.values import Database

__all__ = ["BackfillWriter", "Control", "KeyedSource", "Sink", "Source", "StreamWriter", "View", "taken_by_case"]


_READ, _BATCH = "read", 1000


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The control data of a view in a sink: what a run must know about the rows that are there.

    A stream and a backfill read it to choose the generation of their rows (S13).

    Attributes:
        generation: The current generation, from 1.
        fingerprint: The fingerprint of the view that computed the rows.
        holder: The id of the state of the stream that feeds the view; empty if no stream does. Another state is
            refused (S18).
        backfilled: The read time of a backfill since that stream's last write, in microseconds; 0 if there was none.
            The stream then no longer assumes that the sink holds its last rows (S16).
        topic: The topic by which a stream on many machines receives touches, `projects/P/topics/T`; empty for other
            streams.
    """

    generation: int
    fingerprint: str
    holder: str = ""
    backfilled: int = 0
    topic: str = ""


class Source(abc.ABC):
    """A source of changes.

    Attributes:
        uri: The URI as the user wrote it, for messages.
        billed: What was billed so far.
        is_bounded: Whether it ends.
        is_snapshot: Whether it yields all documents as of the time of reading, so that it may be read again.
        is_replay: Whether it yields the inputs of dead letters, which only the stream that refused them can use.
        has_snapshot: Whether it first yields all existing documents although it does not end; a `Complete` event marks
            the end of each collection.
        read_time: The time as of which it is read, in microseconds since the epoch, or None. Set it before `prepare` to
            choose a time.
        retention_seconds: How long it keeps changes that were not acknowledged; None: for ever.
        topic: The topic whose messages it yields, once `prepare` was called; empty if there is none.
        database: The database of its documents, if its address names one.
    """

    scheme: ClassVar[str]
    is_bounded: ClassVar[bool] = True
    is_snapshot: ClassVar[bool] = False
    is_replay: ClassVar[bool] = False
    has_snapshot: ClassVar[bool] = False
    read_time: int | None = None
    retention_seconds: float | None = None
    topic: str = ""
    database: Database | None = None

    def __init__(self, rest: str) -> None:
        """Creates it from the part of the URI after `scheme:`.

        Raises:
            UsageError: That part is not a valid address of this scheme.
        """
        self.rest = rest
        self.uri = f"{self.scheme}:{rest}"
        self.billed = Billed()

    def prepare(self, collections: Sequence[str]) -> None:  # noqa: B027
        """Says which collections will be read; called once, before any read. The source may yield others too.

        Args:
            collections: Their patterns, as models declare them: `users`, `**/comments`; empty for all collections.

        Raises:
            UsageError: It can't be read.
        """

    def following(self) -> Source:
        """Returns the unbounded source that follows the same documents, if there is one; else this source."""
        return self

    @abc.abstractmethod
    def splits(self) -> Sequence[str]:
        """Returns the names of the parts that can be read in parallel; `read` accepts each of them.

        Raises:
            UsageError: There is nothing to read: no such file, no permission.
        """

    @abc.abstractmethod
    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        """Yields the changes of one part; a malformed input is yielded as a dead letter."""

    def read_all(self) -> Iterator[Change | DeadLetter]:
        """Yields the changes of all parts: one after the other, or in parallel if that is faster."""
        for split in self.splits():
            yield from self.read(split)

    def place(self, split: str, number: int) -> str | None:
        """Returns the position, for messages, of the change that `read` yielded at this index: `file:x.jsonl:17`."""
        return None

    def place_followed(self, before: str | None, after: str, number: int) -> str | None:
        """Returns the position, for messages, of a change that `follow` yielded between two positions."""
        return None

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        """Yields the events after a position, in batches, each with the position after it.

        An unbounded source yields an empty batch now and then while there are no events. A bounded source ends. By
        default a source is read from its beginning, until it was read to its end once.

        Args:
            position: The position of the last batch that was processed; None for the beginning.

        Raises:
            UsageError: The source can't be read, or what is before the position was changed.
        """
        if position == _READ:
            return
        changes = iter(self.read_all())
        while batch := list(islice(changes, _BATCH)):
            yield batch, ""
        yield [], _READ

    def acknowledge(self, position: str) -> None:  # noqa: B027
        """Says that the events up to a position that `follow` yielded are durable, and need not be repeated."""

    def size_bytes(self) -> int | None:
        """Returns the approximate size of its documents (uncompressed), or None if it is unknown."""
        return None


class KeyedSource(Source):
    """A source that can read current documents by path or field, without reading all of them."""

    @abc.abstractmethod
    def get(self, paths: Sequence[str]) -> Iterator[Change]:
        """Yields the documents at some paths; a deletion for each missing document."""

    @abc.abstractmethod
    def query(self, collection: str, filters: Sequence[tuple[str, str, Any]]) -> Iterator[Change]:
        """Yields the documents of a collection that match all filters.

        Args:
            collection: Its pattern (`users`, `**/comments`), or one collection's path.
            filters: Tuples of a field's stored name; an operator, `==`, `in`, `array-contains` or
                `array-contains-any`; and a Firestore value, or a list of values.
        """


class BackfillWriter(abc.ABC):
    """Writes the rows of one backfill: all of them become visible at `commit`, and other rows stay.

    Attributes:
        touched: The number of touches: rows that were not written, because a stream writes their view (S16).
        drift: How many of these rows still differ after the stream wrote them.
    """

    touched: int = 0
    drift: int = 0

    @abc.abstractmethod
    def write(self, view: View, row: EncodedRow) -> None:
        """Writes a new or changed row (its `fields` are not None)."""

    @abc.abstractmethod
    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        """Deletes the row at a path; the stamp is that of the deletion."""

    @abc.abstractmethod
    def commit(self, controls: Mapping[str, Control]) -> Sequence[DeadLetter] | None:
        """Makes all writes visible at once, together with the control data (by view name).

        Returns:
            Dead letters of the rows that the sink will never accept.
        """


class StreamWriter(abc.ABC):
    """Writes the rows of a stream: each row is visible, and durable if it must be, when `write` returns.

    Attributes:
        must_be_durable: Whether rows must survive a stop of the machine when `write` returns. A stream whose state does
            not survive it begins anew, and computes all rows again; then they need only survive the process.
        may_hold: Whether `write` may skip rows whose paths were written a moment ago. A caller that sets it has to
            write these rows, or newer ones, again later; otherwise `write` waits.
        held: The paths of the rows that the last `write` skipped.
    """

    must_be_durable: bool = True
    may_hold: bool = False
    held: frozenset[str] = frozenset()

    @abc.abstractmethod
    def write(self, rows: Sequence[tuple[View, EncodedRow]]) -> Sequence[DeadLetter] | None:
        """Writes rows, and deletes those whose `fields` are None; a row in the sink with a newer stamp stays.

        Returns:
            A dead letter for each row that the sink will never accept; its old row stays.

        Raises:
            BoilerBeamError: The rows can't be written; some of them may have been.
        """

    @abc.abstractmethod
    def control(self, controls: Mapping[str, Control]) -> None:
        """Writes the control data of some views, by view name."""

    def touches(self) -> Sequence[Touch]:
        """Returns the touches that backfills left in the sink (S16).

        They are returned again until `touched` is called.
        """
        return ()

    def touched(self) -> None:  # noqa: B027
        """Says that the touches that `touches` returned last are durable."""


class Sink(abc.ABC):
    """A sink of rows.

    Attributes:
        uri: The URI as the user wrote it.
        billed: What was billed so far.
        has_path: Whether its address is a path on this machine, so that dead letters can be written beside it.
        keeps_controls: Whether it stores control data and rows. For a sink that does not, such as a topic, a stream
            uses the control data in its own state.
    """

    scheme: ClassVar[str]
    has_path: ClassVar[bool] = False
    keeps_controls: ClassVar[bool] = True

    def __init__(self, rest: str) -> None:
        """Creates it from the part of the URI after `scheme:`.

        Raises:
            UsageError: That part is not a valid address of this scheme.
        """
        self.rest = rest
        self.uri = f"{self.scheme}:{rest}"
        self.billed: Billed = Billed()

    def figures(self) -> dict[str, float]:
        """Returns counters of its operations, by name, for metrics."""
        return {}

    @abc.abstractmethod
    def controls(self) -> dict[str, Control]:
        """Returns the control data of every view in the sink, by view name; empty for a new sink.

        Raises:
            UsageError: The address holds something else, or it can't be read.
        """

    @abc.abstractmethod
    def current_rows(self, view: View) -> Iterator[EncodedRow]:
        """Yields the current rows of a view, each once with its newest stamp, in no particular order."""

    @abc.abstractmethod
    def backfill(self, views: Sequence[View]) -> AbstractContextManager[BackfillWriter]:
        """Opens one backfill of these views. Without `commit` nothing is changed.

        A row that is neither written nor deleted stays with its stamp; so do the rows of other views.

        Raises:
            UsageError: The sink can't be written (read-only, a folder in its place).
        """

    def stream(self, views: Sequence[View]) -> AbstractContextManager[StreamWriter]:
        """Opens the sink for the rows of a stream; it has one writer at a time.

        Raises:
            UsageError: It can't be written, another program writes it, or this kind of sink does not accept streams.
        """
        raise UsageError(
            f"{self.uri}: expected a sink that can follow a stream, got one for backfills only; "
            "fix: jsonl:PATH, sqlite:PATH or firestore:PROJECT"
        )


def taken_by_case(uri: str, wanted: str, got: str) -> UsageError:
    """Returns the error that the name of a view's table or file differs only by case from an existing one.

    Args:
        uri: The sink's URI.
        wanted: The table or file of the view: `the table Url`.
        got: The existing name: `URL`.
    """
    return UsageError(
        f"{uri}: expected {wanted} to differ from existing names not only by case, got {got}, which holds the rows of "
        "another view; fix: rename the view's class, or name another sink"
    )
