"""The step at a row's edge with a limit, or that several ways lead over: which documents the row has, each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from boiler_beam.steps.stream.messages import Candidate
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.show import Send, State, show
from boiler_beam.values import from_wire
from boiler_beam.views.fold import sort_entries

__all__ = ["First", "FirstCell"]


@dataclass
class FirstCell:
    """What is kept of one row and edge.

    Attributes:
        weights: How many ways lead to each document.
        states: What each document is; one that no way leads to stays, so that what it was does not come back.
        shown: The documents that the row was told of.
    """

    weights: dict[str, int] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    shown: dict[str, State] = field(default_factory=dict)


class First:
    """Key: an edge and a row; and the document, where the edge has no limit.

    Keeps every document that a way leads to, by weight, and which of them the row has. Sends what comes in and what
    falls out (`show`); counts ways, so that a document that two paths reach is had once (S10).

        Candidate(latest, c1, m1, +1, sent 1)      c1 has m1
        Candidate(latest, c1, m2, +1, sent 2)      limit 1, newest first: c1 no longer has m1, has m2
        Candidate(latest, c1, m2, -1)              c1 no longer has m2, has m1
    """

    def __init__(self, plan: StreamPlan, send: Send) -> None:
        self.plan, self.send = plan, send

    def candidate(self, cell: FirstCell, message: Candidate) -> None:
        """One way more or less leads to a document, or the document changed."""
        path = message.path
        weight = cell.weights.get(path, 0) + message.weight
        if weight:
            cell.weights[path] = weight
        else:
            cell.weights.pop(path, None)
        known = cell.states.get(path)
        if message.weight >= 0 and (known is None or known.sequence < message.sequence):
            cell.states[path] = State(message.sequence, message.role, message.fields, message.document_version)
        after = self._first(cell, message.edge)
        for one in [*cell.shown, *after]:
            old, new = cell.shown.get(one), after.get(one)
            if old is not new and (one in cell.shown or one in after):
                show(self.plan, self.send, message.edge, message.row, one, old, new, message.version)
                if new is None:
                    del cell.shown[one]
                else:
                    cell.shown[one] = new

    def _first(self, cell: FirstCell, number: int) -> dict[str, State]:
        edge = self.plan.edges[number][1]
        there = {
            path: state
            for path, weight in cell.weights.items()
            if weight > 0 and (state := cell.states.get(path)) is not None and state.role is not None
        }
        if edge.limit is None or edge.order is None or len(there) <= edge.limit:
            return there
        entries: list[Any] = [
            [[from_wire(rank) for rank in state.role.ranks], path, state]
            for path, state in there.items()
            if state.role is not None
        ]
        sort_entries(entries, edge.order.descending)
        return {path: state for _, path, state in entries[: edge.limit]}
