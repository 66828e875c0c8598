"""The step at a row's edge with a limit, or that several ways lead over: which documents the row has, each once."""

from __future__ import annotations

from itertools import islice

from boiler_beam.steps.stream.cells import FirstCell, Had, State
from boiler_beam.steps.stream.messages import Candidate
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.show import Send, show
from boiler_beam.values import from_wire
from boiler_beam.views.sortkey import sort_key

__all__ = ["First"]


class First:
    """Key: an edge and a row; and the document, where the edge has no limit.

    Keeps every document that a way leads to, by weight, and which of them the row has. Sends what comes in and what
    falls out (`show`); counts ways, so that a document that two paths reach is had once (S10). The first ones are read
    from an index (S12): a change costs as much as the limit, however many there are.

        Candidate(latest, c1, m1, +1, sent 1)      c1 has m1
        Candidate(latest, c1, m2, +1, sent 2)      limit 1, newest first: c1 no longer has m1, has m2
        Candidate(latest, c1, m2, -1)              c1 no longer has m2, has m1
    """

    def __init__(self, plan: StreamPlan, send: Send) -> None:
        self.plan, self.send = plan, send

    def candidate(self, cell: FirstCell, message: Candidate) -> None:
        """One way more or less leads to a document, or the document changed."""
        path = message.path
        had = cell.entries.get(path) or Had(0, None)
        weight, state = had.weight + message.weight, had.state
        if message.weight >= 0 and (state is None or state.sequence < message.sequence):
            state = State(message.sequence, message.role, message.fields, message.document_version)
        now = Had(weight, state)
        if weight or not self.plan.is_local:  # what it was must not come back in a message that is late
            cell.entries[path] = now
        else:
            cell.entries.pop(path, None)
        if self.plan.edges[message.edge][1].limit is None:
            self._tell(cell, message, path, _there(now))
            return
        was, new = self._rank(message.edge, path, had), self._rank(message.edge, path, now)
        if was is not None and was != new:
            cell.ranking.pop(was, None)
        if new is not None and was != new:
            cell.ranking[new] = path
        after = self._first(cell, message.edge)
        for one in [one for one, _ in list(cell.shown.items()) if one not in after]:
            self._tell(cell, message, one, None)
        for one, there in after.items():
            self._tell(cell, message, one, there)

    def _tell(self, cell: FirstCell, message: Candidate, path: str, new: State | None) -> None:
        old = cell.shown.get(path)
        if old == new:
            return
        show(self.plan, self.send, message.edge, message.row, path, old, new, message.version)
        if new is None:
            cell.shown.pop(path, None)
        else:
            cell.shown[path] = new

    def _rank(self, number: int, path: str, had: Had) -> bytes | None:
        """Its place among those that can be shown."""
        state, order = _there(had), self.plan.edges[number][1].order
        if state is None or state.role is None or order is None:
            return None
        return sort_key([from_wire(rank) for rank in state.role.ranks], order.descending, path)

    def _first(self, cell: FirstCell, number: int) -> dict[str, State]:
        found = {}
        for path in islice(cell.ranking.ranked(), self.plan.edges[number][1].limit):
            had = cell.entries.get(path)
            assert had is not None
            assert had.state is not None
            found[path] = had.state
        return found


def _there(had: Had) -> State | None:
    """What the document is, where the row may have it."""
    return had.state if had.weight > 0 and had.state is not None and had.state.role is not None else None
