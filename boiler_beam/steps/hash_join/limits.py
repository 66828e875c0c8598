"""The first documents of each row over an edge with a limit."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from boiler_beam.steps.hash_join.messages import Match

__all__ = ["FirstDocuments"]


class FirstDocuments:
    """The candidates of one edge in one partition, by row; what can't be among the first is dropped now and then.

    Args:
        limit: How many documents a row has at the most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._of_row: dict[str | None, dict[bytes, Match]] = {}

    def add(self, candidate: Match) -> None:
        """Takes a document that some rows match."""
        key = candidate.contribution.sort_key
        assert key is not None
        for row in (None,) if candidate.rows is None else candidate.rows:
            found = self._of_row.setdefault(row, {})
            found[key] = candidate  # it may come by several paths; no other document has its sort key
            if len(found) >= 2 * self.limit + 64:
                self._of_row[row] = self._first(found)

    def _first(self, found: dict[bytes, Match]) -> dict[bytes, Match]:
        return {key: found[key] for key in sorted(found)[: self.limit]}

    def settled(self) -> Iterator[Match]:
        """Each document that is among the first of some rows, with these rows; None for all of the view."""
        found: dict[str, Match] = {}
        for row, candidates in self._of_row.items():
            for one in self._first(candidates).values():
                if one.path not in found:
                    found[one.path] = msgspec.structs.replace(one, rows=None if row is None else [])
                rows = found[one.path].rows
                if rows is not None and row is not None:
                    rows.append(row)
        yield from found.values()
