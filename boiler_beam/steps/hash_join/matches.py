"""Sends the matches of rows and documents, or the first ones of each row: to the rows, and to the next join."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from boiler_beam.steps.distributed import WireContribution
from boiler_beam.steps.hash_join.messages import Accumulators, AggregateValue, LookupRequest, Match, Member, Rows
from boiler_beam.steps.hash_join.plan import ROWS, HashJoinPlan, JoinedEdge, Send, join_stage
from boiler_beam.values import from_wire, to_wire

__all__ = ["FirstDocuments", "Matches", "Requests", "add_request"]

Requests = dict[str, dict[str, None] | None]
"""By path, the rows that request the document there over one edge."""


def add_request(requests: Requests, path: str, rows: Rows) -> None:
    """Adds rows that request the document at a path.

    >>> requests: Requests = {}
    >>> for path, rows in (("users/u1", ["m1", "m2"]), ("users/u1", ["m2", "m3"]), ("users/u2", None)):
    ...     add_request(requests, path, rows)
    >>> {path: rows and list(rows) for path, rows in requests.items()}
    {'users/u1': ['m1', 'm2', 'm3'], 'users/u2': None}
    """
    if rows is None:
        requests[path] = None
        return
    known = requests.setdefault(path, {})
    if known is not None:
        known.update(dict.fromkeys(rows))


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


class Matches:
    """The matches of one partition at one level (0: documents say themselves which rows they belong to).

    Requests, candidates and aggregates are merged, and sent by `finish`.
    """

    def __init__(self, plan: HashJoinPlan, level: int, send: Send) -> None:
        self._plan, self._next_join, self._send = plan, join_stage(level + 1), send
        self._requests: dict[int, Requests] = {}
        self._accumulators: dict[tuple[int, int], dict[str, Any]] = {}
        self._first: dict[int, FirstDocuments] = {}

    def add(
        self,
        edge: JoinedEdge,
        contribution: WireContribution,
        path: str,
        version: int,
        fields: bytes | None,
        rows: Iterable[str] | None,
    ) -> None:
        """Takes rows that match a document: it is a candidate if the edge has a limit, else a member."""
        kept, limit = fields if edge.planned.carries_fields else None, edge.edge.limit
        match = Match(edge.index, contribution, path, version, kept, None if rows is None else list(rows))
        if limit is None:
            self.show(edge, match)
        else:
            self._first.setdefault(edge.index, FirstDocuments(limit)).add(match)

    def show(self, edge: JoinedEdge, match: Match) -> None:
        """Sends rows a document that is a member of them, and what it contributes."""
        contribution, path, rows = match.contribution, match.path, match.rows
        if edge.planned.carries_fields:
            assert match.fields is not None, f"{edge}: rows need the fields of {path}"
            self._send(ROWS, Member(edge.index, path, match.version, edge.row_fields(match.fields), rows))
        for index, value in contribution.values:
            if rows is None or edge.repeats:
                self._send(ROWS, AggregateValue(edge.planned.view_index, index, path, value, rows))
            else:
                self._accumulate(edge, index, path, from_wire(value), rows)
        for child, links in zip(edge.planned.references, contribution.links, strict=True):
            for link in links:
                self._request(child.index, link, rows)
        if edge.announces_rows:
            self._request(edge.index, path, rows)

    def _request(self, edge_index: int, path: str, rows: Rows) -> None:
        add_request(self._requests.setdefault(edge_index, {}), path, rows)

    def _accumulate(self, edge: JoinedEdge, index: int, path: str, value: Any, rows: Iterable[str]) -> None:
        fold = edge.planned.view.aggregates[index].fold
        states = self._accumulators.setdefault((edge.planned.view_index, index), {})
        for row in rows:
            state = states.get(row)
            if state is None:
                state = states[row] = fold.empty()
            fold.add(state, path, value)

    def finish(self) -> None:
        """Sends the merged requests, candidates and aggregates."""
        for first in self._first.values():
            for candidate in first.settled():
                self._send(self._next_join, candidate)
        for edge_index, requests in self._requests.items():
            for path, rows in requests.items():
                request = LookupRequest(path, edge_index, None if rows is None else list(rows))
                self._send(self._next_join, request)
        for (view_index, index), states in self._accumulators.items():
            fold = self._plan.plan.views[view_index].aggregates[index].fold
            packed = {row: to_wire(fold.pack(state)) for row, state in states.items()}
            self._send(ROWS, Accumulators(view_index, index, packed))
