"""The first documents of each row over an edge with a limit."""

from __future__ import annotations

from collections.abc import Iterator

from boiler_beam.steps.hash_join.messages import Candidate, Rows

__all__ = ["FirstDocuments"]


class FirstDocuments:
    """The candidates of one edge in one partition, by row; what can't be among the first is dropped now and then.

    Args:
        limit: How many documents a row has at the most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._of_row: dict[str | None, dict[bytes, Candidate]] = {}

    def add(self, candidate: Candidate) -> None:
        """Takes a document that some rows match."""
        key = candidate.contribution.sort_key
        assert key is not None
        for row in (None,) if candidate.rows is None else candidate.rows:
            found = self._of_row.setdefault(row, {})
            found[key] = candidate  # it may come by several paths; no other document has its sort key
            if len(found) >= 2 * self.limit + 64:
                self._of_row[row] = self._first(found)

    def _first(self, found: dict[bytes, Candidate]) -> dict[bytes, Candidate]:
        return {key: found[key] for key in sorted(found)[: self.limit]}

    def settled(self) -> Iterator[tuple[Candidate, Rows]]:
        """Each document that is among the first of some rows, and these rows; None for all of the view."""
        found: dict[str, tuple[Candidate, Rows]] = {}
        for row, candidates in self._of_row.items():
            for candidate in self._first(candidates).values():
                _, rows = found.setdefault(candidate.path, (candidate, None if row is None else []))
                if rows is not None and row is not None:
                    rows.append(row)
        yield from found.values()
