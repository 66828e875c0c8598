"""What the steps of a stream keep at each key: cells of small items, each read and written by itself.

A cell never comes or goes as a whole where it can grow: its maps are dicts in memory, rows of a table on a disk, a log
in Beam's state. `Map` is what a step may ask of one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from boiler_beam.steps.messages import Role

__all__ = [
    "Cells",
    "DocumentCell",
    "Emitted",
    "Entry",
    "FirstCell",
    "Had",
    "Map",
    "MemoryCells",
    "ReachCell",
    "RowCell",
]
__all__ += ["Said", "SortedMap", "State"]

K = TypeVar("K", contravariant=True)
V = TypeVar("V")


class Map(Protocol[K, V]):
    """Items by key, as much of `dict` as steps use."""

    def get(self, key: K, default: V | None = None, /) -> V | None:
        """The item at a key, or None."""

    def __setitem__(self, key: K, value: V, /) -> None: ...

    def pop(self, key: K, default: Any = None, /) -> V | None:
        """Takes an item away, where there is one."""

    def items(self) -> Iterable[tuple[Any, V]]:
        """All of them, in any order: for maps that a row reads whole."""


class RankedMap(Map[bytes, V], Protocol[V]):
    """Items whose keys have an order."""

    def ranked(self) -> Iterator[V]:
        """The items in the order of their keys, as far as somebody asks."""


class SortedMap(dict[bytes, V]):
    """A dict that knows the order of its keys from when it was first asked for it.

    >>> found = SortedMap({b"b": 2, b"c": 3})
    >>> next(found.ranked())
    2
    >>> found[b"a"] = 1
    >>> list(found.ranked())
    [1, 2, 3]
    """

    _order: list[bytes] | None = None

    def __setitem__(self, key: bytes, value: V) -> None:
        if self._order is not None and key not in self:
            insort(self._order, key)
        super().__setitem__(key, value)

    def pop(self, key: bytes, default: Any = None) -> Any:
        """See `dict`."""
        if self._order is not None and key in self:
            del self._order[bisect_left(self._order, key)]
        return super().pop(key, default)

    def ranked(self) -> Iterator[V]:
        """See `RankedMap`."""
        if self._order is None:
            self._order = sorted(self)
        return (self[key] for key in self._order)


_map: Any = dict
_ranked: Any = SortedMap


class State(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a document is at an edge: `role` None where it is missing or hidden.

    Attributes:
        sequence: Which of the document's states this is: the larger one stands.
        role: What it adds and refers to.
        fields: Its fields as JSON; empty where rows look documents up.
        version: Its version in microseconds.
    """

    sequence: int
    role: Role | None
    fields: bytes
    version: int


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a document said that it is at one edge.

    Attributes:
        state: What it is.
        keys: Where: its own path, the parents that it refers to, or the rows that it makes, with their keys.
    """

    state: State
    keys: dict[str, Any]


class DocumentCell(msgspec.Struct, array_like=True):
    """What is kept of one document.

    Attributes:
        sequence: How many states it was in, and at least its newest version (S9).
        version: The version that stands, valid or deleted; -1 where none does.
        fields: Its fields as JSON; `null` of a deletion.
        invalid: Version and fields of the newest invalid version, where none newer stands (S2).
        said: What it said at each edge: what is taken back when it says something else (S10).
    """

    sequence: int = 0
    version: int = -1
    fields: bytes = b"null"
    invalid: tuple[int, bytes] | None = None
    said: dict[int, Said] = {}


@dataclass(slots=True)
class ReachCell:
    """What is kept at one key of one edge.

    Attributes:
        rows: How often each row wants it; those who want it no longer are dropped.
        documents: What lies there, by path.
    """

    rows: Map[str, int] = field(default_factory=_map)
    documents: Map[str, State] = field(default_factory=_map)


class Had(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A document that a row may have over an edge: how many ways lead to it, and what it is."""

    weight: int
    state: State | None


@dataclass(slots=True)
class FirstCell:
    """What is kept of one row and edge.

    Attributes:
        entries: Each document that a way leads to.
        ranking: The paths of those that can be shown, in the edge's order.
        shown: The documents that the row was told of, at most `limit=`.
    """

    entries: Map[str, Had] = field(default_factory=_map)
    ranking: RankedMap[str] = field(default_factory=_ranked)
    shown: Map[str, State] = field(default_factory=_map)


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A document that a row has over an edge, while `weight` is positive; `is_there` False: it is missing."""

    weight: int
    sequence: int
    is_there: bool
    links: list[tuple[int, list[str]]]
    fields: bytes
    version: int


@dataclass(slots=True)
class RowCell:
    """What is kept of one row.

    Attributes:
        version: The newest version of all messages that reached it (S7).
        members: How many members a group's row has.
        key: The group's key.
        states: Of each aggregate an accumulator; of a distinct count how many values there are.
        entries: Of each edge's number, the documents by path.
        added: Of each aggregate that needs its values, these by weight: `[weight, value]`.
    """

    version: int = 0
    members: int = 0
    key: Any = None
    states: dict[int, Any] = field(default_factory=dict)
    entries: Mapping[int, Map[str, Entry]] = field(default_factory=lambda: defaultdict(_map))
    added: Mapping[int, RankedMap[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(_ranked))


class Emitted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The row that was given last for a path, within its generation (S14).

    Attributes:
        version, seq: Of its stamp.
        digest: Of its fields; empty of a deletion.
    """

    version: int
    seq: int
    digest: bytes


class Cells(Protocol):
    """Where the cells are: a cell that was never there is empty."""

    def document(self, family: int, path: str) -> DocumentCell:
        """Of a document in a family (its place in the plan)."""

    def reach(self, edge: int, key: str) -> ReachCell:
        """Of an edge's number, and the path that rows want."""

    def first(self, edge: int, key: str) -> FirstCell:
        """Of an edge's number and a row; and a document, where the edge has no limit."""

    def row(self, view: int, row_id: str) -> RowCell:
        """Of a view's place, and a row."""

    def drop_row(self, view: int, row_id: str) -> None:
        """Nothing but its version is left of a row."""

    def emitted(self, view: int, path: str) -> Map[str, Emitted]:
        """Of a view and a row path: one item, `""`."""

    def copies(self, view: int, row_id: str) -> Map[str, bool]:
        """The paths that a row wants, where its id does not say them."""

    def claims(self, view: int, path: str) -> Map[str, bytes]:
        """The rows that want a path, and their fields there."""


class MemoryCells:
    """Cells in this process's memory."""

    def __init__(self) -> None:
        self.documents: defaultdict[tuple[int, str], DocumentCell] = defaultdict(DocumentCell)
        self.reaches: defaultdict[tuple[int, str], ReachCell] = defaultdict(ReachCell)
        self.firsts: defaultdict[tuple[int, str], FirstCell] = defaultdict(FirstCell)
        self.rows: defaultdict[tuple[int, str], RowCell] = defaultdict(RowCell)
        self._emitted: defaultdict[tuple[int, str], dict[str, Emitted]] = defaultdict(dict)
        self._copies: defaultdict[tuple[int, str], dict[str, bool]] = defaultdict(dict)
        self._claims: defaultdict[tuple[int, str], dict[str, bytes]] = defaultdict(dict)

    def document(self, family: int, path: str) -> DocumentCell:
        """See `Cells`."""
        return self.documents[family, path]

    def reach(self, edge: int, key: str) -> ReachCell:
        """See `Cells`."""
        return self.reaches[edge, key]

    def first(self, edge: int, key: str) -> FirstCell:
        """See `Cells`."""
        return self.firsts[edge, key]

    def row(self, view: int, row_id: str) -> RowCell:
        """See `Cells`."""
        return self.rows[view, row_id]

    def drop_row(self, view: int, row_id: str) -> None:
        """See `Cells`."""
        del self.rows[view, row_id]

    def emitted(self, view: int, path: str) -> Any:
        """See `Cells`."""
        return self._emitted[view, path]

    def copies(self, view: int, row_id: str) -> Any:
        """See `Cells`."""
        return self._copies[view, row_id]

    def claims(self, view: int, path: str) -> Any:
        """See `Cells`."""
        return self._claims[view, path]

    def forget(self, view: int) -> None:
        """What was given of a view's rows is no longer known."""
        for key in [key for key in self._emitted if key[0] == view]:
            del self._emitted[key]
