"""The step that counts ways: a document that several of them lead to is had once (S10)."""

from __future__ import annotations

from boiler_beam.steps.stream.cells import Ways
from boiler_beam.steps.stream.messages import State
from boiler_beam.steps.stream.show import Showing

__all__ = ["CountWays"]


class CountWays(Showing):
    """Key: an edge, a row and a document. Keeps how many ways lead there; sends what changes for the row (`show`).

    Candidate(items, o1, i1, +1, A)     o1 has i1: A
    Candidate(items, o1, i1, +1, A)     nothing: it has it
    Candidate(items, o1, i1, -1, A)     nothing: a way is left
    Candidate(items, o1, i1, -1, A)     o1 no longer has i1
    """

    def candidate(self, cell: Ways, edge: int, row: str, path: str, weight: int, state: State, version: int) -> None:
        """One way more or less leads to a document, or to another state of it."""
        known = cell.states.get(state.sequence)
        after = weight + (known[0] if known is not None else 0)
        if after:
            cell.states[state.sequence] = after, known[1] if known is not None and weight < 0 else state
        else:
            del cell.states[state.sequence]
        number = sum(times for times, _ in cell.states.values())
        there = [one for times, one in cell.states.values() if times > 0]
        new = max(there, key=lambda one: one.sequence) if number > 0 else None
        if (new and new.sequence) == (cell.told and cell.told.sequence):
            return
        self.show(edge, row, path, cell.told, new, 1, version)
        cell.told = new
