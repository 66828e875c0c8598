"""What the steps of a stream keep at each key: cells, and the collections in them that can grow.

A collection is never read or written as a whole for one change: a step adds to it without reading, and reads it where a
change must go to all that is in it. Dicts, rows of a table and logs in Beam's state stand behind the protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from boiler_beam.models import DomainModel
from boiler_beam.steps.stream.messages import State

__all__ = [
    "Cells",
    "ClaimCell",
    "Claims",
    "Counts",
    "Documents",
    "DownCell",
    "Emitted",
    "FirstCell",
    "Ranking",
    "RowCell",
    "Said",
    "UpCell",
]
__all__ += ["Ways", "Weights"]

T = TypeVar("T")


class Weights(Protocol):
    """How often each row wants a key."""

    def add(self, row: str, weight: int, /) -> None:
        """Once more, or less."""

    def items(self) -> Iterable[tuple[str, int]]:
        """The rows whose weights do not add up to 0."""


class Documents(Protocol):
    """The documents that lie at a key, and how often."""

    def get(self, path: str, /) -> State | None:
        """What lies at a path, where one document can lie here."""

    def change(self, path: str, old: State | None, new: State | None, /) -> None:
        """Takes one state away, and puts another one."""

    def each(self) -> Iterable[tuple[str, State, int]]:
        """Path, state and how often, where it is not 0."""


class Ranking(Protocol[T]):
    """Items by sort keys (S12)."""

    def add(self, key: bytes, weight: int, item: T, /) -> None:
        """An item so many times more, or less; a key says which it is."""

    def first(self, limit: int | None, /) -> Iterable[T]:
        """The first of those whose weights are positive, in the order of their keys; all where there is no limit."""


class Claims(Protocol):
    """What rows want a path to hold: the newest of each row."""

    def put(self, row: str, sequence: int, fields: bytes | None, /) -> None:
        """A row wants it to hold these fields; None: nothing."""

    def items(self) -> Iterable[tuple[str, bytes]]:
        """The rows that want the path, with their fields."""


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False, eq=False):
    """What a document said that it is at one edge.

    Attributes:
        state: What it is.
        keys: Where: its own path, the parents that it refers to, or the rows that it makes, with their keys.
    """

    state: State
    keys: dict[str, Any]


class DownCell(msgspec.Struct, gc=False):
    """What is kept of one document.

    Attributes:
        sequence: How many states it was in, and at least its newest version (S9).
        version: The version that stands, valid or deleted; -1 where none does.
        fields: Its fields as JSON; `null` of a deletion.
        invalid: Version and fields of the newest invalid version, where none newer stands (S2).
        said: What it said at each edge: what is taken back when it says something else (S10).
        refused: The digests of the dead letters of its last refused versions: each is given once.
    """

    sequence: int = 0
    version: int = -1
    fields: bytes = b"null"
    invalid: tuple[int, bytes] | None = None
    said: dict[int, Said] = {}
    refused: tuple[bytes, ...] = ()


class UpCell(msgspec.Struct, gc=False):
    """What is kept at one key of one edge: the rows that want it, and the documents that lie there."""

    rows: Weights
    documents: Documents


class Ways(msgspec.Struct, array_like=True, gc=False):
    """What is kept of one row and one document.

    Attributes:
        states: How many ways lead to it in each of its states, by sequence; in between there may be several.
        told: What the row was told that it is.
    """

    states: dict[int, tuple[int, State]] = {}
    told: State | None = None


class FirstCell(msgspec.Struct, gc=False):
    """What is kept of one row and an edge with a limit.

    Attributes:
        ranking: The documents that can be shown, with their paths, in the edge's order.
        shown: Those that the row was told of, at most `limit=`, by path.
    """

    ranking: Ranking[tuple[str, State]]
    shown: dict[str, State]


class Emitted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was given last for a path.

    Attributes:
        version, seq: Of its stamp.
        digest: Of its fields; empty of a deletion.
        epoch: When: what was given in another epoch no longer says what the sink holds (S13, S14); -1 where the sink
            was seen to hold something else (S16).
        is_new: Whether nothing of that epoch stood there before.
    """

    version: int
    seq: int
    digest: bytes
    epoch: int
    is_new: bool = False


class RowCell(msgspec.Struct, gc=False, eq=False):
    """What is kept of one row, beside the documents that it has.

    Attributes:
        version: The newest version of all messages that reached it (S7); -1 where none did.
        members: How many members a group's row has.
        key: The group's key.
        states: Of each aggregate an accumulator; of a distinct count how many values there are.
        rankings: Of each aggregate that needs its values in order, these.
        emitted: What was given last for each of its paths.
        read: The edges (as bits, by number) that were read when it was rendered: a change over another one changes
            nothing. All of them where it was not, or where that failed.
        values: What getters read of some edges when it was rendered, kept up to date in memory, where somebody does so.
        refused: The digests of the dead letters of its last rendering: what fails again in the same way is no other.
    """

    rankings: Mapping[int, Ranking[Any]]
    version: int = -1
    members: int = 0
    key: Any = None
    states: dict[int, Any] = {}
    emitted: dict[str, Emitted] = {}
    read: int = -1
    values: dict[int, Any] = {}
    refused: tuple[bytes, ...] = ()


class ClaimCell(msgspec.Struct, gc=False):
    """What is kept of one path that several rows may want."""

    claims: Claims
    emitted: Emitted | None = None


class Counts(Protocol):
    """How many documents have each value."""

    def get(self, value: bytes, default: int, /) -> int:
        """Of one value."""

    def put(self, value: bytes, number: int, /) -> None:
        """0: none any more."""


class Cells(Protocol):
    """All cells of a plan, for an executor that has them in one place: one that was never there is empty."""

    def down(self, family: int, path: str, /) -> DownCell:
        """Of a document in a family (its place in the plan)."""

    def look(self, family: int, path: str, /) -> DownCell | None:
        """Of a document, to read and not to change; None where it was never there."""

    def documents(self, family: int, /) -> Callable[[str], DomainModel | None]:
        """What gives the document of a family that stands at a path, or None."""

    def keep(self, family: int, path: str, document: DomainModel | None, /) -> None:
        """A document that was just read, and stands from now."""

    def up(self, edge: int, key: str, /) -> UpCell:
        """Of an edge's number, and a key that rows want."""

    def first(self, edge: int, row: str, /) -> FirstCell:
        """Of an edge with a limit, and a row."""

    def ways(self, edge: int, row: str, path: str, /) -> Ways:
        """Of an edge, a row and a document."""

    def distinct(self, view: int, aggregate: int, row: str, /) -> Counts:
        """Of a view's place, an aggregate's place in it, and a row."""

    def row(self, view: int, row_id: str, /) -> RowCell:
        """Of a view's place, and a row."""

    def claim(self, view: int, path: str, /) -> ClaimCell:
        """Of a view's place, and a row path."""

    def row_ids(self, view: int, /) -> Iterator[str]:
        """The rows of a view that have a cell."""

    def emitted(self, view: int, /) -> Iterator[Mapping[str, Emitted]]:
        """What was given of each row of a view; no cell stays in memory for it."""

    def claimed_paths(self, view: int, /) -> Iterator[str]:
        """The row paths of a view that have a cell."""
