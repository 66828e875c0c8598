"""The documents that a row keeps, since it can't look them up elsewhere."""

from __future__ import annotations

from typing import Any

from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.logs import Sizes, WeightedLog
from boiler_beam.steps.keyed.messages import DocumentState
from boiler_beam.steps.keyed.plan import KeyedEdge, KeyedView

__all__ = ["DocumentKey", "KeptDocuments", "log_of_documents"]

DocumentKey = tuple[int, str, int]
"""A document of a row in one of its states: edge index, path, sequence."""
RowLog = WeightedLog[DocumentKey, DocumentState | None]


def log_of_documents(cell: Cell, sizes: Sizes) -> RowLog:
    """The documents of a row. One that was retracted before it came is None."""
    return WeightedLog(cell.logs[0], sizes, tuple[DocumentKey, int, DocumentState | None])


class KeptDocuments:
    """The documents of one row, by edge.

    Attributes:
        is_waiting: Whether a message is still on its way (S8): there is a document in two states, or with a negative
            weight, or a subscription without an answer.
        read: A bit mask, by edge index, of the edges that were read, and of those above them.
    """

    def __init__(self, view: KeyedView, kept: dict[DocumentKey, tuple[int, DocumentState | None]]) -> None:
        self._view, self.read = view, 0
        self._kept: list[dict[str, DocumentState]] = [{} for _ in view.edges]
        self._decoded: dict[str, dict[str, Any]] = {}
        is_settled = True
        for (edge_index, path, _), (weight, state) in kept.items():
            if weight < 0 or state is None or path in self._kept[edge_index]:
                is_settled = False
            else:
                self._kept[edge_index][path] = state
        self._subscribed: dict[int, set[str]] = {edge.index: set() for edge in view.edges if edge.is_awaited}
        for edge in view.edges:  # parents first
            for path, one in self._kept[edge.index].items():
                if one.contribution is not None and self._belongs(edge, path):
                    for child, keys in edge.subscriptions(one.contribution, path):
                        if child in self._subscribed:
                            self._subscribed[child].update(keys)
        is_answered = all(keys <= self._kept[index].keys() for index, keys in self._subscribed.items())
        self.is_waiting = not (is_settled and is_answered)

    def _belongs(self, edge: KeyedEdge, path: str) -> bool:
        """Whether the row subscribes to a document that it keeps; else the document is about to leave."""
        return not edge.is_awaited or path in self._subscribed[edge.index]

    def __call__(self, name: str) -> dict[str, Any]:
        """The documents that the row has over an edge, by path."""
        found = self._decoded.get(name)
        if found is None:
            edge = self._view.by_name[name]
            self.read |= edge.planned.bits
            found = self._decoded[name] = {
                path: edge.decode(path, one.version, one.fields)
                for path, one in self._kept[edge.index].items()
                if one.fields is not None and self._belongs(edge, path)
            }
        return found
