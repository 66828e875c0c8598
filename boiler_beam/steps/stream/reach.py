"""The step at a key of an edge: rows that want what lies there, and the documents that lie there, meet."""

from __future__ import annotations

from collections.abc import Iterable

from boiler_beam.plan import Referrers
from boiler_beam.steps.stream.cells import ReachCell, State
from boiler_beam.steps.stream.messages import Candidate, Lies, Wanted
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.show import Send, show

__all__ = ["Reach"]

_MISSING = State(-1, None, b"", 0)


class Reach:
    """Key: an edge, and a path: of the document itself (references), or of what documents refer to (referrers).

    Keeps the rows that want it, by weight, and the documents that lie there. Sends what rows have (`show`), or what may
    be among their first ones where the edge has a limit. A reference answers a row that wants a missing document, too.

        Wanted(tickets, users/u1, row org1, +1)    kept; nothing lies there yet
        Lies(tickets, users/u1, tickets/t1, 7)     org1 has tickets/t1
        Lies(tickets, users/u1, tickets/t1, 6)     older: nothing
        Wanted(tickets, users/u1, row org1, -1)    org1 no longer has it
    """

    def __init__(self, plan: StreamPlan, send: Send) -> None:
        self.plan, self.send = plan, send

    def wanted(self, cell: ReachCell, message: Wanted) -> None:
        """A row wants what lies here, more or less."""
        weight = cell.rows.get(message.row) or 0
        after = weight + message.weight
        if after:
            cell.rows[message.row] = after
        else:
            cell.rows.pop(message.row, None)
        if (weight > 0) == (after > 0):
            return
        for path, state in self._here(cell, message.edge, message.key):
            old, new = (None, state) if after > 0 else (state, None)
            self._tell(message.edge, message.row, path, old, new, message.version)

    def lies(self, cell: ReachCell, message: Lies) -> None:
        """A document lies here, in another state."""
        old = cell.documents.get(message.path)
        if old is not None and old.sequence >= message.sequence:
            return
        new = State(message.sequence, message.role, message.fields, message.version)
        if message.role is None and self.plan.is_local:
            cell.documents.pop(message.path, None)
        else:
            cell.documents[message.path] = new
        is_open = isinstance(self.plan.edges[message.edge][1], Referrers)
        before = _MISSING if old is None and not is_open else None if is_open and old and old.role is None else old
        after = None if is_open and new.role is None else new
        if before is not None or after is not None:
            for row, weight in cell.rows.items():
                if weight > 0:
                    self._tell(message.edge, row, message.path, before, after, message.version)

    def _here(self, cell: ReachCell, edge: int, key: str) -> Iterable[tuple[str, State]]:
        """What a row that wants this key has: of an edge by reference always the key itself, be it missing."""
        if isinstance(self.plan.edges[edge][1], Referrers):
            return [(path, state) for path, state in cell.documents.items() if state.role is not None]
        return [(key, cell.documents.get(key) or _MISSING)]

    def _tell(self, edge: int, row: str, path: str, old: State | None, new: State | None, version: int) -> None:
        if self.plan.edges[edge][1].limit is None and not self.plan.repeats[edge]:
            show(self.plan, self.send, edge, row, path, old, new, version)
            return
        state = new or old
        assert state is not None
        weight = (new is not None) - (old is not None)
        self.send(Candidate(edge, row, path, weight, state.sequence, state.role, state.fields, state.version, version))
