"""The step at a row's edge with a limit: which documents the row has."""

from __future__ import annotations

from boiler_beam.compare import sort_key
from boiler_beam.steps.stream.cells import FirstCell
from boiler_beam.steps.stream.messages import State
from boiler_beam.steps.stream.show import Showing
from boiler_beam.values import from_wire

__all__ = ["First"]


class First(Showing):
    """Key: an edge and a row. Keeps every document that a way leads to, by rank, and which of them the row has.

    Sends what comes in and what falls out (`show`). The first ones are read from an index (S12): a change costs as much
    as the limit, however many there are.

        Candidate(latest, c1, m1, +1, sent 1)      c1 has m1
        Candidate(latest, c1, m2, +1, sent 2)      limit 1, newest first: c1 no longer has m1, has m2
        Candidate(latest, c1, m2, -1, sent 2)      c1 no longer has m2, has m1
    """

    def candidate(
        self, cell: FirstCell, edge: int, row: str, path: str, weight: int, state: State, version: int
    ) -> None:
        """One way more or less leads to a document, or to another state of it."""
        declared = self.plan.edges[edge][1]
        if state.role is None or declared.order is None:
            return
        ranks = [from_wire(rank) for rank in state.role.ranks]
        place = sort_key(ranks, declared.order.descending, path) + b"\0" + state.sequence.to_bytes(8, "big")
        cell.ranking.add(place, weight, (path, state))
        after = dict(cell.ranking.first(declared.limit))
        for one in [one for one in cell.shown if one not in after]:
            self.show(edge, row, one, cell.shown.pop(one), None, 1, version)
        for one, there in after.items():
            old = cell.shown.get(one)
            if old is None or old.sequence != there.sequence:
                self.show(edge, row, one, old, there, 1, version)
                cell.shown[one] = there
