"""What a source and a sink are, whoever wrote them: the protocols that the registry takes.

A source gives changes; a sink keeps rows. Both are made from a URI's rest (`file:data.jsonl` -> `data.jsonl`) and do
nothing until a method is called.
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
from boiler_beam.events import Change, DeadLetter, Event, Row, Stamp, Touch, View
from boiler_beam.values import Database

__all__ = ["BackfillWriter", "Control", "KeyedSource", "Sink", "Source", "StreamWriter", "View", "taken_by_case"]


_READ, _BATCH = "read", 1000


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink remembers of a view beside its rows (S13).

    Attributes:
        generation: The current generation, from 1.
        fingerprint: The fingerprint of the view that the rows were computed by.
        holder: The identity of the state that feeds it by a stream (S18); empty where none does.
        backfilled: The read time of a backfill since then, in microseconds (S16); 0 where there was none.
        topic: Where a stream on many machines hears which rows a backfill saw differ, `projects/P/topics/T`; empty for
            other streams.
    """

    generation: int
    fingerprint: str
    holder: str = ""
    backfilled: int = 0
    topic: str = ""


class Source(abc.ABC):
    """Where changes come from.

    Attributes:
        uri: As the user wrote it: names the source in messages.
        billed: What was billed so far.
        is_bounded: Whether it ends.
        is_snapshot: Whether it gives all documents as they are at the time of reading: it may be read again.
        is_replay: Whether it gives again what was refused: only the stream that refused it can use that.
        has_snapshot: Whether it begins with all documents that there are, though it does not end; `Complete` tells
            the end of each collection's.
        read_time: As of when it is read, in microseconds since the epoch, where it can tell: set it before `prepare` to
            ask for a time.
        retention_seconds: How long it keeps what was not acknowledged; None: for ever.
        topic: The topic whose messages it gives, once `prepare` was called; empty where it is none.
        database: The database whose documents it gives, where its address names one.
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
        """Takes the URI behind `scheme:`.

        Raises:
            UsageError: The rest is no valid address of this scheme.
        """
        self.rest = rest
        self.uri = f"{self.scheme}:{rest}"
        self.billed = Billed()

    def prepare(self, collections: Sequence[str]) -> None:  # noqa: B027
        """Told once, before anything is read, which collections' documents are asked for; it may read others, too.

        Args:
            collections: Their patterns, as models declare them: `users`, `**/comments`; none: all that it has.

        Raises:
            UsageError: It can't be read.
        """

    def following(self) -> Source:
        """The source that follows the same documents without an end, where there is one; else this one."""
        return self

    @abc.abstractmethod
    def splits(self) -> Sequence[str]:
        """Names of the parts that can be read side by side, each understood by `read`.

        Raises:
            UsageError: There is nothing to read: no such file, no permission.
        """

    @abc.abstractmethod
    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        """The changes of one part; a line that is none comes as a dead letter and stops nothing."""

    def read_all(self) -> Iterator[Change | DeadLetter]:
        """The changes of all parts: one after the other, or side by side where that is faster."""
        for split in self.splits():
            yield from self.read(split)

    def place(self, split: str, number: int) -> str | None:
        """Where the change that `read` gave with this number, from 0, stands, for messages: `file:x.jsonl:17`."""
        return None

    def place_followed(self, before: str | None, after: str, number: int) -> str | None:
        """The same of what `follow` gave between two positions."""
        return None

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        """What comes behind a position, in batches, each with the position behind it.

        An unbounded source gives an empty batch now and then while there is nothing. A bounded one ends; by default
        it is read from its beginning until it was read to its end once.

        Args:
            position: What came with the last batch that was taken; None for the beginning.

        Raises:
            UsageError: There is nothing to read, or something else than before that position.
        """
        if position == _READ:
            return
        changes = iter(self.read_all())
        while batch := list(islice(changes, _BATCH)):
            yield batch, ""
        yield [], _READ

    def acknowledge(self, position: str) -> None:  # noqa: B027
        """Told that all up to a position that `follow` gave is durable, and need not come again."""

    def size_bytes(self) -> int | None:
        """About how much there is to read (uncompressed), or None where that is not known."""
        return None


class KeyedSource(Source):
    """A source that finds documents by path or field, as of now, without reading the others."""

    @abc.abstractmethod
    def get(self, paths: Sequence[str]) -> Iterator[Change]:
        """The documents at some paths; a deletion for each that is missing."""

    @abc.abstractmethod
    def query(self, collection: str, filters: Sequence[tuple[str, str, Any]]) -> Iterator[Change]:
        """The documents of a collection that fulfil all filters.

        Args:
            collection: Its pattern (`users`, `**/comments`), or one collection's path.
            filters: A field's stored name, exactly as it is stored; `==`, `in`, `array-contains` or
                `array-contains-any`; a Firestore value, or a list.
        """


class BackfillWriter(abc.ABC):
    """One backfill's writes to a sink: all of them stand after `commit`, none before; the other rows stay.

    Attributes:
        touched: How many rows were not written, but asked of the stream that writes their view (S16).
        drift: How many of those differ still when the stream has written them.
    """

    touched: int = 0
    drift: int = 0

    @abc.abstractmethod
    def write(self, view: View, row: Row) -> None:
        """Puts a new or changed row (its `fields` are not None)."""

    @abc.abstractmethod
    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        """Removes the row that stands at this path; the stamp says which write that is."""

    @abc.abstractmethod
    def commit(self, controls: Mapping[str, Control]) -> Sequence[DeadLetter] | None:
        """Makes all of it stand at once, and the control data (by view name) with it.

        Returns:
            DeadLetters: Of rows that the sink will never take.
        """


class StreamWriter(abc.ABC):
    """Follows a stream: rows stand as soon as `write` is back, each on its own.

    Attributes:
        may_hold: Whether `write` may leave out rows that must wait because their paths were written a moment ago. Set
            by who gives them again, or newer ones, with a later `write`; else `write` waits.
        held: The paths of those that the last `write` left out.
    """

    may_hold: bool = False
    held: frozenset[str] = frozenset()

    @abc.abstractmethod
    def write(self, rows: Sequence[tuple[View, Row]]) -> Sequence[DeadLetter] | None:
        """Puts rows, and removes those whose `fields` are None; one that stands with a newer stamp stays.

        Returns:
            A dead letter for each row that will never be taken; the old row stands.

        Raises:
            BoilerBeamError: They can't be written; some of them may be.
        """

    @abc.abstractmethod
    def control(self, controls: Mapping[str, Control]) -> None:
        """Puts control data, by view name; that of other views stays."""

    def touches(self) -> Sequence[Touch]:
        """What backfills asked for through the sink (S16); it is asked for again until `touched` is called."""
        return ()

    def touched(self) -> None:  # noqa: B027
        """What `touches` gave last is durable."""


class Sink(abc.ABC):
    """Where rows go.

    Attributes:
        uri: As the user wrote it.
        billed: What was billed so far.
        has_path: Whether its address is a path on this machine, beside which dead letters may lie.
        keeps_controls: Whether it keeps control data and rows; one that does not takes a stream's rows, and what a
            stream's own state remembers of a view counts.
    """

    scheme: ClassVar[str]
    has_path: ClassVar[bool] = False
    keeps_controls: ClassVar[bool] = True

    def __init__(self, rest: str) -> None:
        """Takes the URI behind `scheme:`.

        Raises:
            UsageError: The rest is no valid address of this scheme.
        """
        self.rest = rest
        self.uri = f"{self.scheme}:{rest}"
        self.billed: Billed = Billed()

    def figures(self) -> dict[str, float]:
        """What it did so far, in numbers that only grow, by name: for metrics."""
        return {}

    @abc.abstractmethod
    def controls(self) -> dict[str, Control]:
        """The control data of every view in the sink, by view name; empty for a new sink.

        Raises:
            UsageError: There is something else at that place, or it can't be read.
        """

    @abc.abstractmethod
    def standing(self, view: View) -> Iterator[Row]:
        """The rows of a view that stand, each once with its newest stamp, in no particular order."""

    @abc.abstractmethod
    def backfill(self, views: Sequence[View]) -> AbstractContextManager[BackfillWriter]:
        """Opens one backfill of these views. Leaving it without `commit` changes nothing.

        A row that is neither written nor deleted stays with its stamp, rows of other views among them.

        Raises:
            UsageError: The sink can't be written (read-only, a folder in its place).
        """

    def stream(self, views: Sequence[View]) -> AbstractContextManager[StreamWriter]:
        """Opens the sink for the rows of a stream; it has one writer at a time.

        Raises:
            UsageError: It can't be written, another program writes it, or it is of a kind that follows no stream.
        """
        raise UsageError(
            f"{self.uri}: expected a sink that can follow a stream, got one that backfills fill alone; "
            "fix: jsonl:PATH, sqlite:PATH or firestore:PROJECT"
        )


def taken_by_case(uri: str, wanted: str, got: str) -> UsageError:
    """Says that a place for rows has a name that differs from what is there only by case.

    Args:
        uri: The sink's.
        wanted: What should hold the view's rows: `the table Url`.
        got: What is there: `URL`.
    """
    return UsageError(
        f"{uri}: expected {wanted} to be told apart from what is there, got {got}, which differs only by case and "
        "holds the rows of another view; fix: rename the view's class, or name another sink"
    )
