"""The first documents that rows have over an edge with a limit: gathered by row, and cut now and then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from boiler_beam.plan import Edge
from boiler_beam.steps.messages import Candidate
from boiler_beam.values import from_wire
from boiler_beam.views.fold import sort_entries

__all__ = ["First"]

Entry = list[Any]
"""`[ranks, path, candidate]`."""


class First:
    """What came of one edge with a limit to one partition.

    Args:
        edge: The edge.
    """

    def __init__(self, edge: Edge) -> None:
        assert edge.limit is not None
        assert edge.order is not None
        self.limit, self.descending = edge.limit, edge.order.descending
        self._rows: dict[str | None, list[Entry]] = {}

    def add(self, candidate: Candidate) -> None:
        """Takes a document that rows reached."""
        ranks = [from_wire(rank) for rank in candidate.role.ranks]
        for row in [None] if candidate.rows is None else candidate.rows:
            entries = self._rows.setdefault(row, [])
            entries.append([ranks, candidate.path, candidate])
            if len(entries) >= 2 * self.limit + 64:
                self._cut(entries)

    def _cut(self, entries: list[Entry]) -> None:
        entries[:] = {entry[1]: entry for entry in entries}.values()  # it may have come by several ways
        sort_entries(entries, self.descending)
        del entries[self.limit :]

    def settled(self) -> Iterator[tuple[Candidate, list[str] | None]]:
        """Each document that is among the first of some rows, and these rows; None for all of the view."""
        found: dict[str, tuple[Candidate, list[str] | None]] = {}
        for row, entries in self._rows.items():
            self._cut(entries)
            for _, path, candidate in entries:
                _, rows = found.setdefault(path, (candidate, None if row is None else []))
                if rows is not None and row is not None:
                    rows.append(row)
        yield from found.values()
