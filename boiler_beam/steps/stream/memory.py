"""Cells in this process's memory, where messages come in the order in which they were sent."""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from boiler_beam.models import DomainModel
from boiler_beam.steps.stream.cells import ClaimCell, DownCell, Emitted, FirstCell, RowCell, UpCell, Ways
from boiler_beam.steps.stream.messages import State
from boiler_beam.steps.stream.plan import StreamPlan

__all__ = ["MemoryCells", "MemoryRanking"]


class MemoryWeights(dict[str, int]):
    """See `Weights`."""

    __slots__ = ()

    def add(self, row: str, weight: int, /) -> None:
        """See `Weights`."""
        after = self.get(row, 0) + weight
        if after:
            self[row] = after
        else:
            del self[row]


class MemoryDocuments(dict[str, State]):
    """See `Documents`."""

    __slots__ = ()

    def change(self, path: str, old: State | None, new: State | None, /) -> None:
        """See `Documents`."""
        if new is not None and new.role is not None:
            self[path] = new
        else:
            self.pop(path, None)

    def each(self) -> list[tuple[str, State, int]]:
        """See `Documents`."""
        return [(path, state, 1) for path, state in self.items()]


class MemoryRanking:
    """See `Ranking`: a dict, and its keys in order as soon as somebody asks for the first.

    >>> ranking = MemoryRanking()
    >>> for key, weight in ((b"b", 1), (b"c", 1), (b"a", 1), (b"b", -1)):
    ...     ranking.add(key, weight, key.decode())
    >>> list(ranking.first(2)), list(ranking.first(None))
    (['a', 'c'], ['a', 'c'])
    """

    __slots__ = ("_items", "_order")

    def __init__(self) -> None:
        self._items: dict[bytes, tuple[int, Any]] = {}
        self._order: list[bytes] | None = None

    def add(self, key: bytes, weight: int, item: Any, /) -> None:
        """See `Ranking`."""
        known = self._items.get(key)
        if known is None:
            self._items[key] = weight, item
            if self._order is not None:
                insort(self._order, key)
            return
        after = known[0] + weight
        if after:
            self._items[key] = after, item
            return
        del self._items[key]
        if self._order is not None:
            del self._order[bisect_left(self._order, key)]

    def first(self, limit: int | None, /) -> Iterator[Any]:
        """See `Ranking`."""
        if self._order is None:
            self._order = sorted(self._items)
        items = (self._items[key] for key in self._order)
        return islice((item for weight, item in items if weight > 0), limit)


class MemoryClaims(dict[str, bytes]):
    """See `Claims`."""

    __slots__ = ()

    def put(self, row: str, sequence: int, fields: bytes | None, /) -> None:
        """See `Claims`."""
        if fields is None:
            self.pop(row, None)
        else:
            self[row] = fields


class MemoryCounts(dict[bytes, int]):
    """See `Counts`."""

    __slots__ = ()

    def put(self, value: bytes, number: int, /) -> None:
        """See `Counts`."""
        if number:
            self[value] = number
        else:
            self.pop(value, None)


class _Rankings(dict[int, MemoryRanking]):
    def __missing__(self, place: int) -> MemoryRanking:
        found = self[place] = MemoryRanking()
        return found


class MemoryCells:
    """See `Cells`.

    Args:
        plan: Says how many families, edges and views there are.
    """

    def __init__(self, plan: StreamPlan) -> None:
        families, edges, views = len(plan.plan.families), len(plan.edges), len(plan.plan.views)
        self.downs: list[dict[str, DownCell]] = [{} for _ in range(families)]
        self.known: list[dict[str, DomainModel]] = [{} for _ in range(families)]
        self.ups: list[dict[str, UpCell]] = [{} for _ in range(edges)]
        self.firsts: list[dict[str, FirstCell]] = [{} for _ in range(edges)]
        self.way_counts: list[dict[tuple[str, str], Ways]] = [{} for _ in range(edges)]
        self.values: dict[tuple[int, int, str], MemoryCounts] = {}
        self.rows: list[dict[str, RowCell]] = [{} for _ in range(views)]
        self.claims: list[dict[str, ClaimCell]] = [{} for _ in range(views)]

    def down(self, family: int, path: str, /) -> DownCell:
        """See `Cells`."""
        found = self.downs[family].get(path)
        if found is None:
            found = self.downs[family][path] = DownCell()
        return found

    def look(self, family: int, path: str, /) -> DownCell | None:
        """See `Cells`."""
        return self.downs[family].get(path)

    def documents(self, family: int, /) -> Callable[[str], DomainModel | None]:
        """See `Cells`."""
        return self.known[family].get

    def keep(self, family: int, path: str, document: DomainModel | None, /) -> None:
        """See `Cells`."""
        known = self.known[family]
        if document is None:
            known.pop(path, None)
        else:
            known[path if path in known else sys.intern(path)] = document

    def up(self, edge: int, key: str, /) -> UpCell:
        """See `Cells`."""
        found = self.ups[edge].get(key)
        if found is None:
            found = self.ups[edge][key] = UpCell(MemoryWeights(), MemoryDocuments())
        return found

    def first(self, edge: int, row: str, /) -> FirstCell:
        """See `Cells`."""
        found = self.firsts[edge].get(row)
        if found is None:
            found = self.firsts[edge][row] = FirstCell(MemoryRanking(), {})
        return found

    def ways(self, edge: int, row: str, path: str, /) -> Ways:
        """See `Cells`."""
        found = self.way_counts[edge].get((row, path))
        if found is None:
            found = self.way_counts[edge][row, path] = Ways()
        return found

    def distinct(self, view: int, aggregate: int, row: str, /) -> MemoryCounts:
        """See `Cells`."""
        found = self.values.get((view, aggregate, row))
        if found is None:
            found = self.values[view, aggregate, row] = MemoryCounts()
        return found

    def row(self, view: int, row_id: str, /) -> RowCell:
        """See `Cells`."""
        found = self.rows[view].get(row_id)
        if found is None:
            found = self.rows[view][row_id] = RowCell(_Rankings())
        return found

    def claim(self, view: int, path: str, /) -> ClaimCell:
        """See `Cells`."""
        found = self.claims[view].get(path)
        if found is None:
            found = self.claims[view][path] = ClaimCell(MemoryClaims())
        return found

    def row_ids(self, view: int, /) -> Iterator[str]:
        """See `Cells`."""
        return iter(list(self.rows[view]))

    def emitted(self, view: int, /) -> Iterator[Mapping[str, Emitted]]:
        """See `Cells`."""
        return (cell.emitted for cell in self.rows[view].values())

    def claimed_paths(self, view: int, /) -> Iterator[str]:
        """See `Cells`."""
        return iter(list(self.claims[view]))
