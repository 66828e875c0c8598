"""Collections of cells in an SQLite table: small ones are read whole, of large ones only the items that are asked for.

| column | |
| --- | --- |
| `space` | whose it is: owner (a view or a collection), kind, number of an edge or aggregate in its view |
| `key` | of the cell: a document's path, a row |
| `item` | in the cell; empty where the cell is one value |
| `value` | MessagePack |
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Any

import msgspec

from boiler_beam.steps.stream.messages import Link, Role, State

__all__ = ["Kind", "StoredClaims", "StoredCounts", "StoredDocuments", "StoredMap", "StoredRanking", "StoredWeights"]
__all__ += ["Table", "blob", "moved", "space_of", "text"]

CREATE = (
    "CREATE TABLE cells (space INTEGER, key BLOB, item BLOB, value BLOB, PRIMARY KEY (space, key, item)) WITHOUT ROWID"
)
_SMALL = 64
"""Items of a cell that is read whole."""
_NOT_READ: Any = object()

encode = msgspec.msgpack.Encoder().encode


def blob(key: str) -> bytes:
    """A key as SQLite sorts it."""
    return key.encode("utf-8", "surrogatepass")


def text(key: bytes) -> str:
    """The key of a `blob`."""
    return key.decode("utf-8", "surrogatepass")


def space_of(owner: int, kind: int, number: int = 0) -> int:
    """Where the cells of one kind lie."""
    return owner << 20 | kind << 16 | number


def moved(state: State, by: int) -> State:
    """A state whose edges go by other numbers: in a table they go by their places in the view."""
    role = state.role
    if role is None or not by:
        return state
    links = [Link(link.edge + by, link.paths) for link in role.links]
    return State(
        state.sequence, Role(role.edge + by, role.contributions, links, role.ranks), state.fields, state.version
    )


class Kind:
    """A kind of values.

    Args:
        number: Of the kind, below 16; it never changes.
        type_: What a value is.
        state: Finds the state in a value, and puts another one in its place, where there is one.
        is_ranked: Whether items are sort keys; else they are texts.
    """

    def __init__(
        self,
        number: int,
        type_: Any,
        move: Callable[[Any, int], Any] | None = None,
        *,
        is_ranked: bool = False,
    ) -> None:
        self.number, self.is_ranked = number, is_ranked
        self.read = msgspec.msgpack.Decoder(type_).decode
        self._move = move

    def encode(self, value: Any, base: int) -> bytes:
        """The bytes of a value whose edges' numbers begin at `base`."""
        return encode(value if self._move is None or not base else self._move(value, -base))

    def decode(self, data: bytes, base: int) -> Any:
        """The reverse."""
        value = self.read(data)
        return value if self._move is None or not base else self._move(value, base)


class Table:
    """The table, and what is to be written to it.

    Attributes:
        changed: The maps that have something to be written.
        number_of_reads: How many statements read from the table.
        number_of_writes: How many items were written.
        is_all_known: Whether all that it holds is in memory: what is not there is nowhere.
    """

    def __init__(self, database: sqlite3.Connection, *, is_all_known: bool = False) -> None:
        self._database, self.is_all_known = database, is_all_known
        self.changed: list[StoredMap] = []
        self.number_of_reads = self.number_of_writes = 0

    def select(self, query: str, *values: Any) -> list[Any]:
        """The rows of a query."""
        self.number_of_reads += 1
        return self._database.execute(query, values).fetchall()

    def value(self, space: int, key: bytes, item: bytes = b"") -> bytes | None:
        """One value."""
        return None if self.is_all_known else self.value_of(space, key, item)

    def value_of(self, space: int, key: bytes, item: bytes) -> bytes | None:
        """The same, of a cell that is not in memory as a whole."""
        rows = self.select("SELECT value FROM cells WHERE space = ? AND key = ? AND item = ?", space, key, item)
        return bytes(rows[0][0]) if rows else None

    def write(
        self, written: Iterable[tuple[int, bytes, bytes, bytes]], gone: Iterable[tuple[int, bytes, bytes]]
    ) -> None:
        """Writes what maps changed, and other items."""
        put, taken = list(written), list(gone)
        for one in self.changed:
            more, less = one.flush()
            put += more
            taken += less
        self.number_of_writes += len(put) + len(taken)
        self._database.executemany("DELETE FROM cells WHERE space = ? AND key = ? AND item = ?", taken)
        self._database.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?)", put)

    def settle(self) -> None:
        """What was written is committed."""
        for one in self.changed:
            one.settle()
        self.changed = []

    def keys(self, space: int) -> Iterator[str]:
        """The keys of all cells of a space."""
        select = "SELECT DISTINCT key FROM cells WHERE space = ? AND key > ? ORDER BY key LIMIT 1000"
        return (text(key) for (key,) in self._in_steps(select, space))

    def heads(self, space: int) -> Iterator[bytes]:
        """The heads of all cells of a space where these are all that a cell has."""
        select = "SELECT key, value FROM cells WHERE space = ? AND key > ? ORDER BY key LIMIT 1000"
        return (value for _, value in self._in_steps(select, space))

    def _in_steps(self, select: str, space: int) -> Iterator[Any]:
        """The rows of a query, key by key; in steps, so that no reader stands in the way of a transaction."""
        last = b""
        while found := self._database.execute(select, (space, last)).fetchall():
            yield from found
            last = found[-1][0]


class StoredMap:
    """The items of one cell by their keys: texts, or bytes where the kind is ranked."""

    __slots__ = ("_base", "_changed", "_is_whole", "_key", "_kind", "_known", "_space", "_table", "_was_large")

    def __init__(self, table: Table, space: int, key: bytes, kind: Kind, base: int) -> None:
        self._table, self._space, self._key, self._kind, self._base = table, space, key, kind, base
        self._changed: dict[Any, Any] = {}
        self._known: dict[Any, Any] | None = None
        self._is_whole = self._was_large = False

    def _load(self) -> dict[Any, Any]:
        select = "SELECT item, value FROM cells WHERE space = ? AND key = ? LIMIT ?"
        is_read = self._was_large or not self._table.is_all_known
        found = self._table.select(select, self._space, self._key, _SMALL + 1) if is_read else []
        self._is_whole = len(found) <= _SMALL
        self._known = {self._item(item): self._kind.decode(value, self._base) for item, value in found}
        return self._known

    def _item(self, item: bytes) -> Any:
        return item if self._kind.is_ranked else text(item)

    def _blob(self, item: Any) -> bytes:
        return item if self._kind.is_ranked else blob(item)

    def get(self, item: Any, default: Any = None, /) -> Any:
        """The item at a key."""
        known = self._known if self._known is not None else self._load()
        found = known.get(item, _NOT_READ)
        if found is not _NOT_READ:
            return default if found is None else found
        if self._is_whole:
            return default
        data = self._table.value_of(self._space, self._key, self._blob(item))
        value = known[item] = None if data is None else self._kind.decode(data, self._base)
        return default if value is None else value

    def set(self, item: Any, value: Any) -> None:
        """Puts an item; None takes it away."""
        known = self._known if self._known is not None else self._load()
        if value is None and self._is_whole:
            known.pop(item, None)
        else:
            known[item] = value
        if not self._changed:
            self._table.changed.append(self)
        self._changed[item] = value

    def ranked(self) -> Iterator[tuple[Any, Any]]:
        """All of them, in the order of their keys."""
        known = self._known if self._known is not None else self._load()
        if self._is_whole:
            return ((item, known[item]) for item in sorted(known))
        changed = self._changed
        return merge(
            ((item, value) for item, value in self._stored() if item not in changed),
            ((item, changed[item]) for item in sorted(changed) if changed[item] is not None),
            key=lambda pair: pair[0],
        )

    def every(self) -> Iterable[tuple[Any, Any]]:
        """All of them, in any order."""
        known = self._known if self._known is not None else self._load()
        return known.items() if self._is_whole else self.ranked()

    def _stored(self) -> Iterator[tuple[Any, Any]]:
        select = "SELECT item, value FROM cells WHERE space = ? AND key = ? AND item > ? ORDER BY item LIMIT ?"
        last, number = b"", _SMALL
        while rows := self._table.select(select, self._space, self._key, last, number):
            for item, value in rows:
                yield self._item(item), self._kind.decode(value, self._base)
            last, number = rows[-1][0], 1000

    def flush(self) -> tuple[list[tuple[int, bytes, bytes, bytes]], list[tuple[int, bytes, bytes]]]:
        """What is to be written, and what is to be deleted."""
        written: list[tuple[int, bytes, bytes, bytes]] = []
        gone = []
        for item, value in self._changed.items():
            place = self._space, self._key, self._blob(item)
            if value is None:
                gone.append(place)
            else:
                written.append((*place, self._kind.encode(value, self._base)))
        return written, gone

    def settle(self) -> None:
        """What changed is committed; of a large cell it is read again as it is needed."""
        self._changed = {}
        if self._known is not None and len(self._known) > _SMALL:
            self._known, self._was_large = None, True


class StoredWeights(StoredMap):
    """See `boiler_beam.steps.stream.cells.Weights`."""

    __slots__ = ()

    def add(self, row: str, weight: int, /) -> None:
        """See `Weights`."""
        self.set(row, self.get(row, 0) + weight or None)

    def items(self) -> Iterable[tuple[str, int]]:
        """See `Weights`."""
        return self.every()


class StoredDocuments(StoredMap):
    """See `boiler_beam.steps.stream.cells.Documents`."""

    __slots__ = ()

    def change(self, path: str, old: State | None, new: State | None, /) -> None:
        """See `Documents`."""
        self.set(path, new if new is not None and new.role is not None else None)

    def each(self) -> Iterable[tuple[str, State, int]]:
        """See `Documents`."""
        return [(path, state, 1) for path, state in self.every()]


class StoredRanking(StoredMap):
    """See `boiler_beam.steps.stream.cells.Ranking`: how often, and the item, by sort key."""

    __slots__ = ()

    def add(self, key: bytes, weight: int, item: Any, /) -> None:
        """See `Ranking`."""
        after = weight + self.get(key, (0, None))[0]
        self.set(key, (after, item) if after else None)

    def first(self, limit: int | None, /) -> Iterable[Any]:
        """See `Ranking`."""
        return islice((item for _, (weight, item) in self.ranked() if weight > 0), limit)


class StoredClaims(StoredMap):
    """See `boiler_beam.steps.stream.cells.Claims`."""

    __slots__ = ()

    def put(self, row: str, sequence: int, fields: bytes | None, /) -> None:
        """See `Claims`."""
        self.set(row, fields)

    def items(self) -> Iterable[tuple[str, bytes]]:
        """See `Claims`."""
        return self.every()


class StoredCounts(StoredMap):
    """See `boiler_beam.steps.stream.cells.Counts`."""

    __slots__ = ()

    def put(self, value: bytes, number: int, /) -> None:
        """See `Counts`."""
        self.set(value, number or None)
