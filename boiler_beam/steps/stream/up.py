"""The step up the tree: at a key of an edge, rows that want what lies there and documents that lie there meet."""

from __future__ import annotations

from boiler_beam.steps.stream.cells import UpCell
from boiler_beam.steps.stream.messages import Out, State
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.show import Showing

__all__ = ["Up"]

_MISSING = State(-1, None, b"", 0)


class Up(Showing):
    """Key: an edge, and a path: of the document itself (references), or of what documents refer to (referrers).

    Keeps the rows that want it, by weight, and the documents that lie there; a row or document that is gone is dropped.
    Sends what rows have: by `show`, or as candidates where the edge has a limit or several ways may lead to a document.
    A reference answers a row that wants a missing document, too.

        Wanted(tickets, users/u1, row org1, +1)              kept; nothing lies there yet
        Lies(tickets, users/u1, tickets/t1, None -> A)       org1 has tickets/t1: A
        Lies(tickets, users/u1, tickets/t1, A -> B)          org1: no longer A, but B
        Wanted(tickets, users/u1, row org1, -1)              org1 no longer has it
    """

    def __init__(self, plan: StreamPlan, out: Out) -> None:
        super().__init__(plan, out)
        self._is_open = plan.is_open
        self._is_direct = [
            edge.limit is None and not plan.counts_ways[number] for number, (_, edge) in enumerate(plan.edges)
        ]

    def wanted(self, cell: UpCell, edge: int, key: str, row: str, weight: int, version: int) -> None:
        """A row wants what lies here, more or less."""
        cell.rows.add(row, weight)
        if self._is_open[edge]:
            for path, state, times in cell.documents.each():
                self._tell(edge, row, path, None, state, weight * times, max(version, state.version))
        else:
            state = cell.documents.get(key) or _MISSING
            self._tell(edge, row, key, None, state, weight, max(version, state.version))

    def lies(self, cell: UpCell, edge: int, key: str, path: str, old: State | None, new: State, version: int) -> None:
        """A document lies here in a new state."""
        before: State | None
        after: State | None
        if self._is_open[edge]:
            before, after = old, new if new.role is not None else None
        else:
            known = cell.documents.get(path)
            if known is not None and known.sequence >= new.sequence:
                return
            before, after, old = known or _MISSING, new, known
        cell.documents.change(path, old, after)
        if before is not None or after is not None:
            for row, weight in cell.rows.items():
                self._tell(edge, row, path, before, after, weight, version)

    def _tell(
        self, edge: int, row: str, path: str, old: State | None, new: State | None, weight: int, version: int
    ) -> None:
        if weight == 0:
            return
        if self._is_direct[edge]:
            if weight < 0 and old is None:
                old, new, weight = new, None, -weight
            self.show(edge, row, path, old, new, weight, version)
            return
        for state, times in ((old, -weight), (new, weight)):
            if state is not None:
                self.out.candidate(edge, row, path, times, state, version)
