"""Cells in SQLite: small ones are read whole, of large ones only the items that somebody asks for.

What is read stays in memory as long as it is used (the cells of the last transactions); what changes is written with
the transaction. A number of an edge is stored as its place in its view, so that other views may come and go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import Any

import msgspec

from boiler_beam.plan import Plan
from boiler_beam.steps.messages import Link, Role
from boiler_beam.steps.stream.cells import (
    DocumentCell,
    Emitted,
    Entry,
    FirstCell,
    Had,
    ReachCell,
    RowCell,
    Said,
    SortedMap,
    State,
)
from boiler_beam.values import from_wire, to_wire

__all__ = ["DOCUMENT", "EMITTED", "StoredCells", "StoredMap", "blob", "owner_range", "space_of", "text"]

DOCUMENT, WANTED, LYING, HAD, RANKING, SHOWN, ROW, ENTRY, ADDED, EMITTED, COPY, CLAIM = range(12)
_SMALL = 64
"""Items of a cell that is read whole."""
_HOT = 50_000
"""Cells that stay in memory when a transaction is done, and as many of those before."""

_encode = msgspec.msgpack.Encoder().encode
_NOT_READ: Any = object()


def blob(key: str) -> bytes:
    """A key as SQLite sorts it."""
    return key.encode("utf-8", "surrogatepass")


def text(key: bytes) -> str:
    """The key of a `blob`."""
    return key.decode("utf-8", "surrogatepass")


def space_of(owner: int, kind: int, number: int = 0) -> int:
    """Where the cells of one kind lie: owner (a view or a collection), kind, and edge or aggregate."""
    return owner << 20 | kind << 16 | number


def owner_range(owner: int) -> tuple[int, int]:
    """The spaces of a view."""
    return space_of(owner, WANTED), space_of(owner, 15, 0xFFFF)


class _Type:
    """How the values of one kind become bytes; edges by number are shifted to their places in the view."""

    def __init__(self, kind: Any, shift: Callable[[Any, int], Any] | None = None) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._shift = shift

    def encode(self, value: Any, base: int) -> bytes:
        return _encode(value if self._shift is None or not base else self._shift(value, -base))

    def decode(self, data: bytes, base: int) -> Any:
        value = self._decode(data)
        return value if self._shift is None or not base else self._shift(value, base)


def _shift_state(state: State, by: int) -> State:
    role = state.role
    if role is None:
        return state
    links = [Link(link.edge + by, link.paths) for link in role.links]
    moved = Role(role.edge + by, role.contributions, links, role.ranks)
    return State(state.sequence, moved, state.fields, state.version)


def _shift_had(had: Had, by: int) -> Had:
    return had if had.state is None else Had(had.weight, _shift_state(had.state, by))


_TYPES = {
    WANTED: _Type(int), LYING: _Type(State, _shift_state), HAD: _Type(Had, _shift_had), RANKING: _Type(str),
    SHOWN: _Type(State, _shift_state), ENTRY: _Type(Entry), ADDED: _Type(tuple[int, Any]), EMITTED: _Type(Emitted),
    COPY: _Type(bool), CLAIM: _Type(bytes),
}  # fmt: skip


class StoredMap:
    """The items of one cell (see `boiler_beam.steps.stream.cells.Map`).

    Keys are texts, or bytes where the kind is ranked.
    """

    __slots__ = ("_base", "_cells", "_changed", "_is_whole", "_key", "_known", "_read", "_space", "_type", "_write")

    def __init__(self, cells: StoredCells, space: int, key: bytes, kind: int, base: int) -> None:
        self._cells, self._space, self._key, self._base = cells, space, key, base
        self._type = _TYPES[kind]
        is_ranked = kind in (RANKING, ADDED)
        self._write: Callable[[Any], bytes] = bytes if is_ranked else blob
        self._read: Callable[[bytes], Any] = bytes if is_ranked else text
        self._changed: dict[Any, Any] = {}
        self._known: Any = None

    def _load(self) -> Any:
        found = self._cells.select(
            "SELECT item, value FROM cells WHERE space = ? AND key = ? LIMIT ?", (self._space, self._key, _SMALL + 1)
        )
        self._is_whole = len(found) <= _SMALL
        self._known = SortedMap()
        for item, value in found:
            self._known[self._read(item)] = self._type.decode(value, self._base)
        return self._known

    def get(self, item: Any, default: Any = None, /) -> Any:
        """See `Map`."""
        known = self._known if self._known is not None else self._load()
        found = known.get(item, _NOT_READ)
        if found is not _NOT_READ:
            return default if found is None else found
        if self._is_whole:
            return default
        rows = self._cells.select(
            "SELECT value FROM cells WHERE space = ? AND key = ? AND item = ?",
            (self._space, self._key, self._write(item)),
        )
        value = known[item] = self._type.decode(rows[0][0], self._base) if rows else None
        return default if value is None else value

    def __setitem__(self, item: Any, value: Any, /) -> None:
        known = self._known if self._known is not None else self._load()
        known[item] = value
        self._note(item, value)

    def pop(self, item: Any, default: Any = None, /) -> Any:
        """See `Map`."""
        found = self.get(item, _NOT_READ)
        if found is _NOT_READ:
            return default
        if self._is_whole:
            self._known.pop(item)
        else:
            self._known[item] = None
        self._note(item, None)
        return found

    def _note(self, item: Any, value: Any) -> None:
        if not self._changed:
            self._cells.changed.append(self)
        self._changed[item] = value

    def items(self) -> Iterable[tuple[Any, Any]]:
        """See `Map`."""
        known = self._known if self._known is not None else self._load()
        if self._is_whole:
            return known.items()  # type: ignore[no-any-return]
        return self._all()

    def _all(self) -> Iterator[tuple[Any, Any]]:
        """In order: what the table holds, and what changed since."""
        changed = self._changed
        yield from merge(
            ((item, value) for item, value in self._table() if item not in changed),
            ((item, changed[item]) for item in sorted(changed) if changed[item] is not None),
            key=lambda pair: pair[0],
        )

    def _table(self) -> Iterator[tuple[Any, Any]]:
        select = "SELECT item, value FROM cells WHERE space = ? AND key = ? AND item > ? ORDER BY item LIMIT ?"
        last, number = b"", _SMALL
        while rows := self._cells.select(select, (self._space, self._key, last, number)):
            for item, value in rows:
                yield self._read(item), self._type.decode(value, self._base)
            last, number = rows[-1][0], 1000

    def ranked(self) -> Iterator[Any]:
        """See `RankedMap`."""
        known = self._known if self._known is not None else self._load()
        if self._is_whole:
            return known.ranked()  # type: ignore[no-any-return]
        return (value for _, value in self._all())

    def flush(self) -> tuple[list[Any], list[Any]]:
        """What is to be written, and what is to be deleted; large cells are read again as they are needed."""
        written, gone = [], []
        for item, value in self._changed.items():
            key = self._space, self._key, self._write(item)
            if value is None:
                gone.append(key)
            else:
                written.append((*key, self._type.encode(value, self._base)))
        return written, gone

    def settle(self) -> None:
        """What changed is committed."""
        self._changed = {}
        if self._known is not None and len(self._known) > _SMALL:
            self._known = None


class _Maps(dict[int, StoredMap]):
    """The maps of a row by number, made when they are asked for."""

    def __init__(self, make: Callable[[int], StoredMap]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, number: int) -> StoredMap:
        found = self[number] = self._make(number)
        return found


class StoredCells:
    """Cells in a database (see `boiler_beam.steps.stream.cells.Cells`).

    Args:
        database: With the table `cells`; a transaction is open when `flush` is called.
        plan: The views.
        owners: The number of each view, which never changes.
        collections: The number of each family's collection.

    Attributes:
        changed: The maps that have something to be written.
        number_of_reads: How many statements read from the table.
        number_of_writes: How many items were written.
    """

    def __init__(self, database: sqlite3.Connection, plan: Plan, owners: list[int], collections: list[int]) -> None:
        self._database, self._plan, self._owners, self._collections = database, plan, owners, collections
        self.changed: list[StoredMap] = []
        self.number_of_reads = self.number_of_writes = 0
        self._hot: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}
        self._heads: dict[Any, tuple[Any, bytes]] = {}
        self._touched: set[Any] = set()
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

    def select(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        """The rows of a query."""
        self.number_of_reads += 1
        return self._database.execute(query, values).fetchall()

    def _cell(self, key: tuple[Any, ...], make: Callable[..., Any]) -> Any:
        found = self._hot.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is None:
                found = make(*key)
            self._hot[key] = found
        return found

    def _map(self, kind: int, view: int, number: int, key: str) -> StoredMap:
        return StoredMap(self, space_of(self._owners[view], kind, number), blob(key), kind, self._bases[view])

    def document(self, family: int, path: str) -> DocumentCell:
        """See `Cells`."""
        key = DOCUMENT, family, path
        found: DocumentCell = self._cell(key, self._document)
        self._touched.add(key)
        return found

    def _document(self, kind: int, family: int, path: str) -> DocumentCell:
        data = self._head(space_of(self._collections[family], DOCUMENT), path)
        cell = _decode_document(data) if data else DocumentCell()
        said = {}
        for stored, one in cell.said.items():
            number = self._number_of.get(stored)
            if number is not None:  # else of a view that is gone
                said[number] = Said(_shift_state(one.state, self._bases[self._view_of[number]]), one.keys)
        cell.said = said
        self._heads[DOCUMENT, family, path] = cell, data
        return cell

    def _head(self, space: int, key: str) -> bytes:
        rows = self.select("SELECT value FROM cells WHERE space = ? AND key = ? AND item = x''", (space, blob(key)))
        return bytes(rows[0][0]) if rows else b""

    def reach(self, edge: int, key: str) -> ReachCell:
        """See `Cells`."""
        found: ReachCell = self._cell((WANTED, edge, key), self._reach)
        return found

    def _reach(self, kind: int, edge: int, key: str) -> ReachCell:
        view = self._view_of[edge]
        ordinal = edge - self._bases[view]
        return ReachCell(self._map(WANTED, view, ordinal, key), self._map(LYING, view, ordinal, key))

    def first(self, edge: int, key: str) -> FirstCell:
        """See `Cells`."""
        found: FirstCell = self._cell((HAD, edge, key), self._first)
        return found

    def _first(self, kind: int, edge: int, key: str) -> FirstCell:
        view = self._view_of[edge]
        ordinal = edge - self._bases[view]
        had, ranking, shown = (self._map(kind, view, ordinal, key) for kind in (HAD, RANKING, SHOWN))
        return FirstCell(had, ranking, shown)

    def row(self, view: int, row_id: str) -> RowCell:
        """See `Cells`."""
        key = ROW, view, row_id
        found: RowCell = self._cell(key, self._row)
        self._touched.add(key)
        return found

    def _row(self, kind: int, view: int, row_id: str) -> RowCell:
        data = self._head(space_of(self._owners[view], ROW), row_id)
        base = self._bases[view]
        cell = RowCell(
            entries=_Maps(lambda number: self._map(ENTRY, view, number - base, row_id)),
            added=_Maps(lambda number: self._map(ADDED, view, number, row_id)),
        )
        if data:
            cell.version, cell.members, key, states = _decode_row(data)
            cell.key = tuple(key) if isinstance(key, list) else key
            for place, packed in states.items():
                fold = self._plan.views[view].aggregates[place].fold
                cell.states[place] = fold.unpack(from_wire(packed)) if fold.keeps == "state" else packed
        self._heads[ROW, view, row_id] = cell, data
        return cell

    def drop_row(self, view: int, row_id: str) -> None:
        """See `Cells`."""
        cell = self.row(view, row_id)
        cell.version, cell.key = 0, None
        cell.states.clear()

    def emitted(self, view: int, path: str) -> StoredMap:
        """See `Cells`."""
        found: StoredMap = self._cell((EMITTED, view, path), self._one)
        return found

    def copies(self, view: int, row_id: str) -> StoredMap:
        """See `Cells`."""
        found: StoredMap = self._cell((COPY, view, row_id), self._one)
        return found

    def claims(self, view: int, path: str) -> StoredMap:
        """See `Cells`."""
        found: StoredMap = self._cell((CLAIM, view, path), self._one)
        return found

    def _one(self, kind: int, view: int, key: str) -> StoredMap:
        return self._map(kind, view, 0, key)

    def flush(self) -> None:
        """Writes what changed; `settle` when it is committed."""
        written: list[Any] = []
        gone: list[Any] = []
        for one in self.changed:
            more, less = one.flush()
            written += more
            gone += less
        for kind, place, key in self._touched:
            cell, data = self._heads[kind, place, key]
            new = self._encode_document(cell) if kind == DOCUMENT else self._encode_row(place, cell)
            if new == data:
                continue
            owner = self._collections[place] if kind == DOCUMENT else self._owners[place]
            name = space_of(owner, kind), blob(key), b""
            if new:
                written.append((*name, new))
            else:
                gone.append(name)
            self._heads[kind, place, key] = cell, new
        self.number_of_writes += len(written) + len(gone)
        self._database.executemany("DELETE FROM cells WHERE space = ? AND key = ? AND item = ?", gone)
        self._database.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?)", written)

    def settle(self) -> None:
        """What was flushed is committed: cells that were not used for long leave the memory."""
        for one in self.changed:
            one.settle()
        self.changed = []
        self._touched = set()
        if len(self._hot) > _HOT:
            for key in self._old:
                self._heads.pop(key, None)
            self._old, self._hot = self._hot, {}

    def forget(self) -> None:
        """After a rollback: everything is read again (S21)."""
        self.changed, self._touched = [], set()
        self._hot, self._old, self._heads = {}, {}, {}

    def _encode_document(self, cell: DocumentCell) -> bytes:
        if cell.version < 0 and cell.invalid is None:
            return b""
        said = {
            self._stored_number[number]: Said(_shift_state(one.state, -self._bases[self._view_of[number]]), one.keys)
            for number, one in cell.said.items()
        }
        return _encode(DocumentCell(cell.sequence, cell.version, cell.fields, cell.invalid, said))

    def _encode_row(self, view: int, cell: RowCell) -> bytes:
        if not cell.version:
            return b""
        states = {}
        for place, state in cell.states.items():
            fold = self._plan.views[view].aggregates[place].fold
            states[place] = to_wire(fold.pack(state)) if fold.keeps == "state" else state
        return _encode([cell.version, cell.members, cell.key, states])


_decode_document = msgspec.msgpack.Decoder(DocumentCell).decode
_decode_row = msgspec.msgpack.Decoder(tuple[int, int, Any, dict[int, Any]]).decode


def is_deleted_document(data: bytes, horizon: int) -> bool:
    """Whether a document's cell holds nothing but a deletion from before a time."""
    cell = _decode_document(data)
    return cell.fields == b"null" and cell.invalid is None and cell.version < horizon


def is_deleted_row(data: bytes, horizon: int) -> bool:
    """Whether the row that was given last is a deletion from before a time."""
    last = _TYPES[EMITTED].decode(data, 0)
    return bool(last.digest == b"" and last.version < horizon)


def check_value(space: int, data: bytes) -> None:
    """Reads a value of a cell.

    Raises:
        MsgspecError: It is none of its kind.
    """
    kind = space >> 16 & 15
    if kind == DOCUMENT:
        _decode_document(data)
    elif kind == ROW:
        _decode_row(data)
    else:
        _TYPES[kind].decode(data, 0)
