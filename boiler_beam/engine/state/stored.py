"""Cells in SQLite: what is read stays in memory as long as it is used, what changes is written with the transaction.

Edges are stored by the numbers that they had when the view's cells were made, so that other views may come and go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from boiler_beam.engine.state.table import (
    Kind,
    StoredClaims,
    StoredCounts,
    StoredDocuments,
    StoredRanking,
    StoredWeights,
    Table,
    blob,
    encode,
    moved,
    space_of,
)
from boiler_beam.models import DomainModel
from boiler_beam.plan import Plan
from boiler_beam.steps.stream.cells import ClaimCell, DownCell, Emitted, FirstCell, RowCell, Said, UpCell, Ways
from boiler_beam.steps.stream.messages import State
from boiler_beam.steps.stream.row import GONE
from boiler_beam.values import from_wire, to_wire

__all__ = ["StoredCells", "check_value", "forgotten", "owner_range", "space_of_documents"]

_HOT = 200_000
"""Cells, and documents of each collection, that stay in memory when a transaction is done; as many of those before."""
_NOT_READ: Any = object()


def _moved_ranked(value: Any, by: int) -> Any:
    weight, (path, state) = value
    return weight, (path, moved(state, by))


def _moved_ways(ways: Ways, by: int) -> Ways:
    states = {sequence: (times, moved(state, by)) for sequence, (times, state) in ways.states.items()}
    return Ways(states, None if ways.told is None else moved(ways.told, by))


class _Document(msgspec.Struct, array_like=True, gc=False):
    """A `DownCell` as it is stored."""

    sequence: int
    version: int
    fields: bytes
    invalid: tuple[int, bytes] | None
    said: dict[int, Said]
    refused: tuple[bytes, ...] = ()


class _Row(msgspec.Struct, array_like=True, gc=False):
    """A `RowCell` as it is stored; `read` by the edges' places in the view."""

    version: int
    members: int
    key: Any
    states: dict[int, Any]
    emitted: dict[str, Emitted]
    read: int
    refused: tuple[bytes, ...] = ()


DOWN = Kind(0, _Document)
WANT = Kind(1, int)
LIE = Kind(2, State, moved)
WAYS = Kind(3, Ways, _moved_ways)
RANK = Kind(4, tuple[int, tuple[str, State]], _moved_ranked, is_ranked=True)
SHOWN = Kind(5, dict[str, State], lambda shown, by: {path: moved(state, by) for path, state in shown.items()})
ROW = Kind(6, _Row)
VALUE = Kind(7, int, is_ranked=True)
ADDED = Kind(8, tuple[int, Any], is_ranked=True)
CLAIM = Kind(9, bytes)
CLAIMED = Kind(10, Emitted)
_KINDS = {kind.number: kind for kind in (DOWN, WANT, LIE, WAYS, RANK, SHOWN, ROW, VALUE, ADDED, CLAIM, CLAIMED)}


def space_of_documents(collection: int) -> int:
    """Where the documents of a collection are."""
    return space_of(collection, DOWN.number)


def owner_range(owner: int) -> tuple[int, int]:
    """The spaces of a view."""
    return space_of(owner, WANT.number), space_of(owner, 15, 0xFFFF)


class StoredCells:
    """See `boiler_beam.steps.stream.cells.Cells`.

    Args:
        database: With the table; a transaction is open when `flush` is called.
        plan: The views.
        owners: The number of each view, which never changes.
        shifts: Of each view, by how much its edges' numbers differ from those in the table.
        collections: The number of each family's collection.
        is_new: Whether the table is empty.

    Attributes:
        table: Where they are.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        plan: Plan,
        owners: list[int],
        shifts: list[int],
        collections: list[int],
        *,
        is_new: bool,
    ) -> None:
        self.table = Table(database, is_all_known=is_new)
        self._plan, self._owners, self._shifts, self._collections = plan, owners, shifts, collections
        self._hot: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}
        self._heads: dict[Any, _Head] = {}
        self._touched: dict[Any, None] = {}
        self._known: list[dict[str, Any]] = [{} for _ in plan.families]
        self._bases: list[int] = []
        self._view_of: list[int] = []
        for place, view in enumerate(plan.views):
            self._bases.append(len(self._view_of))
            self._view_of += [place] * len(view.edges)
        self._number_of = {
            owner << 16 | ordinal: self._bases[place] + ordinal
            for place, owner in enumerate(owners)
            for ordinal in range(len(plan.views[place].edges))
        }
        self._stored_number = {number: stored for stored, number in self._number_of.items()}

    def _cell(self, key: tuple[Any, ...], make: Callable[..., Any]) -> Any:
        found = self._hot.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is None:
                found = make(*key)
            self._hot[key] = found
        return found

    def _changing(self, key: tuple[Any, ...], make: Callable[..., Any]) -> Any:
        """A cell one value of which, its head, is written whole where it changed."""
        self._touched[key] = None
        return self._cell(key, make)

    def _head(self, key: Any, space: int, name: str, item: str = "") -> bytes | None:
        data = self.table.value(space, blob(name), blob(item))
        self._heads[key] = _Head((space, blob(name), blob(item)), data)
        return data

    def _of_edge(self, kind: Kind, edge: int) -> tuple[int, int]:
        view = self._view_of[edge]
        return space_of(self._owners[view], kind.number, edge - self._bases[view]), self._shifts[view]

    def _of_view(self, kind: Kind, view: int, place: int = 0) -> int:
        return space_of(self._owners[view], kind.number, place)

    # See `Cells` for what each is -------------------------------------------------------------------------------------

    def down(self, family: int, path: str, /) -> DownCell:
        """See `Cells`."""
        found: DownCell = self._changing((DOWN, family, path), self._down)
        return found

    def look(self, family: int, path: str, /) -> DownCell | None:
        """See `Cells`."""
        found: DownCell = self._cell((DOWN, family, path), self._down)
        return found

    def _down(self, kind: Kind, family: int, path: str) -> DownCell:
        data = self._head((kind, family, path), space_of_documents(self._collections[family]), path)
        if data is None:
            return DownCell()
        one: _Document = kind.read(data)
        said = {}
        for stored, what in one.said.items():
            number = self._number_of.get(stored)
            if number is not None:  # else of a view that is gone
                said[number] = Said(moved(what.state, self._shifts[self._view_of[number]]), what.keys)
        return DownCell(one.sequence, one.version, one.fields, one.invalid, said, one.refused)

    def documents(self, family: int, /) -> Callable[[str], DomainModel | None]:
        """See `Cells`."""
        known, codec = self._known[family], self._plan.families[family]

        def document(path: str) -> DomainModel | None:
            found: Any = known.get(path, _NOT_READ)
            if found is _NOT_READ:
                cell = self.look(family, path)
                is_there = cell is not None and cell.version >= 0 and cell.fields != b"null"
                found = codec.decode(path, cell.version, msgspec.Raw(cell.fields)) if is_there and cell else None
                known[path] = found
            return found  # type: ignore[no-any-return]

        return document

    def keep(self, family: int, path: str, document: DomainModel | None, /) -> None:
        """See `Cells`."""
        self._known[family][path] = document

    def up(self, edge: int, key: str, /) -> UpCell:
        """See `Cells`."""
        found: UpCell = self._cell((WANT, edge, key), self._up)
        return found

    def _up(self, kind: Kind, edge: int, key: str) -> UpCell:
        wanted, base = self._of_edge(kind, edge)
        lying, _ = self._of_edge(LIE, edge)
        name = blob(key)
        return UpCell(
            StoredWeights(self.table, wanted, name, kind, base), StoredDocuments(self.table, lying, name, LIE, base)
        )

    def first(self, edge: int, row: str, /) -> FirstCell:
        """See `Cells`."""
        found: FirstCell = self._changing((SHOWN, edge, row), self._first)
        return found

    def _first(self, kind: Kind, edge: int, row: str) -> FirstCell:
        space, base = self._of_edge(kind, edge)
        data = self._head((kind, edge, row), space, row)
        ranking = StoredRanking(self.table, self._of_edge(RANK, edge)[0], blob(row), RANK, base)
        return FirstCell(ranking, {} if data is None else kind.decode(data, base))

    def ways(self, edge: int, row: str, path: str, /) -> Ways:
        """See `Cells`."""
        found: Ways = self._changing((WAYS, edge, row, path), self._ways)
        return found

    def _ways(self, kind: Kind, edge: int, row: str, path: str) -> Ways:
        space, base = self._of_edge(kind, edge)
        data = self._head((kind, edge, row, path), space, row, path)
        return Ways() if data is None else kind.decode(data, base)

    def distinct(self, view: int, aggregate: int, row: str, /) -> StoredCounts:
        """See `Cells`."""
        found: StoredCounts = self._cell((VALUE, view, aggregate, row), self._distinct)
        return found

    def _distinct(self, kind: Kind, view: int, aggregate: int, row: str) -> StoredCounts:
        return StoredCounts(self.table, self._of_view(kind, view, aggregate), blob(row), kind, 0)

    def row(self, view: int, row_id: str, /) -> RowCell:
        """See `Cells`."""
        found: RowCell = self._changing((ROW, view, row_id), self._row)
        return found

    def _row(self, kind: Kind, view: int, row_id: str) -> RowCell:
        data = self._head((kind, view, row_id), self._of_view(kind, view), row_id)
        rankings: Any = _Rankings(
            lambda place: StoredRanking(self.table, self._of_view(ADDED, view, place), blob(row_id), ADDED, 0)
        )
        if data is None:
            return RowCell(rankings)
        one: _Row = kind.read(data)
        states = {}
        for place, packed in one.states.items():
            fold = self._plan.views[view].aggregates[place].fold
            states[place] = fold.unpack(from_wire(packed)) if fold.keeps == "state" else packed
        key = tuple(one.key) if isinstance(one.key, list) else one.key
        read = one.read << self._bases[view]
        return RowCell(rankings, one.version, one.members, key, states, one.emitted, read, {}, one.refused)

    def claim(self, view: int, path: str, /) -> ClaimCell:
        """See `Cells`."""
        found: ClaimCell = self._changing((CLAIMED, view, path), self._claim)
        return found

    def _claim(self, kind: Kind, view: int, path: str) -> ClaimCell:
        data = self._head((kind, view, path), self._of_view(kind, view), path)
        claims = StoredClaims(self.table, self._of_view(CLAIM, view), blob(path), CLAIM, 0)
        return ClaimCell(claims, None if data is None else kind.read(data))

    def row_ids(self, view: int, /) -> Iterator[str]:
        """See `Cells`; those that were committed."""
        return self.table.keys(self._of_view(ROW, view))

    def emitted(self, view: int, /) -> Iterator[dict[str, Emitted]]:
        """See `Cells`; what was committed."""
        return (ROW.read(value).emitted for value in self.table.heads(self._of_view(ROW, view)))

    def claimed_paths(self, view: int, /) -> Iterator[str]:
        """See `Cells`; those that were committed."""
        return self.table.keys(self._of_view(CLAIMED, view))

    # Transactions -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes what changed; `settle` when it is committed."""
        written: list[tuple[int, bytes, bytes, bytes]] = []
        gone: list[tuple[int, bytes, bytes]] = []
        for key in self._touched:
            head = self._heads[key]
            data = self._encoded(key)
            if data == head.data:
                continue
            head.data = data
            if data is None:
                gone.append(head.place)
            else:
                written.append((*head.place, data))
        self.table.write(written, gone)

    def _encoded(self, key: tuple[Any, ...]) -> bytes | None:
        """The head of a cell; None where there is nothing to be kept."""
        kind, place, cell = key[0], key[1], self._hot.get(key)
        if cell is None:
            cell = self._old[key]
        if kind is DOWN:
            return self._encoded_down(cell)
        if kind is ROW:
            return self._encoded_row(place, cell)
        if kind is CLAIMED:
            return None if cell.emitted is None else encode(cell.emitted)
        base = self._shifts[self._view_of[place]]
        if kind is SHOWN:
            return kind.encode(cell.shown, base) if cell.shown else None
        return kind.encode(cell, base) if cell.states or cell.told is not None else None

    def _encoded_down(self, cell: DownCell) -> bytes | None:
        if cell.version < 0 and cell.invalid is None:
            return None
        said = {
            self._stored_number[number]: Said(moved(one.state, -self._shifts[self._view_of[number]]), one.keys)
            for number, one in cell.said.items()
        }
        return encode(_Document(cell.sequence, cell.version, cell.fields, cell.invalid, said, cell.refused))

    def _encoded_row(self, view: int, cell: RowCell) -> bytes | None:
        if cell.version < 0 and not cell.emitted:
            return None
        states = {}
        for place, state in cell.states.items():
            fold = self._plan.views[view].aggregates[place].fold
            states[place] = to_wire(fold.pack(state)) if fold.keeps == "state" else state
        read = cell.read >> self._bases[view]
        if read >= 0:
            read &= (1 << len(self._plan.views[view].edges)) - 1
        return encode(_Row(cell.version, cell.members, cell.key, states, cell.emitted, read, cell.refused))

    def settle(self) -> None:
        """What was flushed is committed: cells that were not used for long leave the memory."""
        self.table.settle()
        self._touched = {}
        if len(self._hot) > _HOT:
            for key in self._old:
                self._heads.pop(key, None)
            self.table.is_all_known = self.table.is_all_known and not self._old
            self._old, self._hot = self._hot, {}
        for known in self._known:
            if len(known) > _HOT:
                known.clear()

    def forget(self) -> None:
        """After a rollback: everything is read again (S21)."""
        self.table.changed, self._touched = [], {}
        self._hot, self._old, self._heads = {}, {}, {}
        self.table.is_all_known = False
        for known in self._known:
            known.clear()


class _Head:
    """Where a cell's head is in the table, and what is there."""

    __slots__ = ("data", "place")

    def __init__(self, place: tuple[int, bytes, bytes], data: bytes | None) -> None:
        self.place, self.data = place, data


class _Rankings(dict[int, StoredRanking]):
    """The rankings of a row, made when they are asked for."""

    def __init__(self, make: Callable[[int], StoredRanking]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, place: int) -> StoredRanking:
        found = self[place] = self._make(place)
        return found


def forgotten(space: int, data: bytes, horizon: int) -> bytes | None:
    """What is left of a value without what was deleted before a time (S3)."""
    kind = _KINDS[space >> 16 & 15]
    value = kind.read(data)
    if kind is DOWN:
        is_old = value.fields == b"null" and value.invalid is None and value.version < horizon
        return None if is_old else data
    if kind is CLAIMED:
        return None if value.digest == GONE and value.version < horizon else data
    if kind is ROW:
        emitted = {path: one for path, one in value.emitted.items() if one.digest != GONE or one.version >= horizon}
        is_empty = not emitted and not value.members and not value.states and value.version < horizon
        return None if is_empty else encode(msgspec.structs.replace(value, emitted=emitted))
    return data


def check_value(space: int, data: bytes) -> None:
    """Reads a value.

    Raises:
        MsgspecError: It is none of its kind.
    """
    _KINDS[space >> 16 & 15].read(data)
