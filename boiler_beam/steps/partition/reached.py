"""Telling rows, accumulators and the next join of the documents that rows reached."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from boiler_beam.models import narrow_fields
from boiler_beam.steps.messages import Candidate, Contribution, Role, State, Value, Want
from boiler_beam.steps.partition.first import First
from boiler_beam.steps.partition.levels import ROWS, PartitionedPlan, Send
from boiler_beam.values import from_wire, to_wire

__all__ = ["Reached", "RowIds", "Wants", "add_rows"]

RowIds = Collection[str] | None
"""Ids of rows, each once; None for every row of the view."""

Wants = dict[str, dict[str, None] | None]
"""Of one edge: the rows that want the document at each path."""


def add_rows(wants: Wants, path: str, rows: RowIds) -> None:
    """Rows, too, want the document at a path."""
    known = wants.get(path, wants)  # `wants` itself stands for a path that is not there
    if rows is None:
        wants[path] = None
    elif known is wants:
        wants[path] = dict.fromkeys(rows)
    elif known is not None:
        known.update(dict.fromkeys(rows))


class Reached:
    """What one partition tells at one level; what folds or merges is gathered until `finish`.

    Args:
        plan: The plan.
        level: The level that knows who was reached; 0 where documents know it themselves.
        send: Takes the messages.
    """

    def __init__(self, plan: PartitionedPlan, level: int, send: Send) -> None:
        self.plan, self.next_level, self.send = plan, level + 1, send
        self._wants: dict[int, Wants] = {}
        self._states: dict[tuple[int, int], dict[str, Any]] = {}
        self._first: dict[int, First] = {}

    def tell(self, role: Role, path: str, version: int, fields: bytes, rows: RowIds) -> None:
        """A document was reached by rows over the edge of its role."""
        edge = self.plan.edges[role.edge][1]
        if edge.limit is None:
            self.show(role, path, version, fields, rows)
            return
        if role.edge not in self._first:
            self._first[role.edge] = First(edge)
        kept = fields if self.plan.travels[role.edge] else b""
        self._first[role.edge].add(Candidate(role, path, version, kept, None if rows is None else list(rows)))

    def show(self, role: Role, path: str, version: int, fields: bytes, rows: RowIds) -> None:
        """Rows have a document over the edge of its role."""
        number, plan = role.edge, self.plan
        if plan.travels[number]:
            names = plan.travelling[number]
            sent = fields if names is None else narrow_fields(fields, names)
            self.send(ROWS, Value(number, path, version, sent, None if rows is None else list(rows)))
        if role.contributions:
            self._contribute(role, path, rows)
        for link in role.links:
            wants = self._wants.setdefault(link.edge, {})
            for child in link.paths:
                add_rows(wants, child, rows)
        if plan.announces[number]:
            add_rows(self._wants.setdefault(number, {}), path, rows)

    def _contribute(self, role: Role, path: str, rows: RowIds) -> None:
        view, _ = self.plan.edges[role.edge]
        for place, value in role.contributions:
            if rows is None or self.plan.repeats[role.edge]:
                self.send(ROWS, Contribution(view, place, path, value, None if rows is None else list(rows)))
                continue
            fold = self.plan.plan.views[view].aggregates[place].fold
            states = self._states.setdefault((view, place), {})
            known = from_wire(value)
            for row in rows:
                state = states.get(row)
                if state is None:
                    state = states[row] = fold.empty()
                fold.add(state, path, known)

    def finish(self) -> None:
        """Sends what was gathered."""
        for first in self._first.values():
            for candidate, some in first.settled():
                self.send(self.next_level, msgspec.structs.replace(candidate, rows=some))
        for edge, wants in self._wants.items():
            for path, rows in wants.items():
                self.send(self.next_level, Want(path, edge, None if rows is None else list(rows)))
        for (view, place), states in self._states.items():
            fold = self.plan.plan.views[view].aggregates[place].fold
            self.send(ROWS, State(view, place, {row: to_wire(fold.pack(state)) for row, state in states.items()}))
