"""A view of a stream on many workers: its edges, and the labels of the steps that changes and messages go to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from boiler_beam.plan import Fixed, Plan, PlannedEdge, Reference
from boiler_beam.steps.distributed import DistributedEdge, DistributedPlan, WireContribution

__all__ = ["EPOCH", "KeyedEdge", "KeyedView"]

EPOCH = 0
"""A stream on Beam begins a new generation instead of an epoch (S13)."""


class KeyedEdge(DistributedEdge):
    """An edge whose documents and rows are joined by key.

    Attributes:
        is_by_path: Whether its documents are joined at their own paths: then the join also chooses the newest version.
        is_awaited: Whether a row waits for an answer from each key to which it subscribes over the edge (S8); it knows
            these keys from the parent documents that it keeps.
        documents, join, path_count, limit: The labels of its steps.
    """

    parent: KeyedEdge | None

    def __init__(self, plan: Plan, planned: PlannedEdge, parent: KeyedEdge | None) -> None:
        super().__init__(plan, planned, parent)
        edge = planned.edge
        self.is_by_path = isinstance(edge, (Reference, Fixed))
        is_answered = planned.carries_fields and edge.limit is None and not edge.has_many_at_key
        self.is_awaited = parent is not None and parent.planned.carries_fields and is_answered
        self.documents, self.join = f"{edge.name}/Documents", f"{edge.name}/Join"
        self.path_count, self.limit = f"{edge.name}/PathCount", f"{edge.name}/Limit"

    @property
    def input(self) -> str:
        """The label of the step that changes of its documents go to."""
        return self.join if self.is_by_path else self.documents

    def subscriptions(self, contribution: WireContribution, path: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """For each edge below, the keys to which one of its documents subscribes a row."""
        for child, links in zip(self.planned.references, contribution.links, strict=True):
            yield child.index, links
        for child in self.planned.found_by_path:
            yield child.index, (child.edge.path if isinstance(child.edge, Fixed) else path,)


class KeyedView(DistributedPlan[KeyedEdge]):
    """The one view of a plan.

    Attributes:
        view: The view.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, KeyedEdge)
        (self.view,) = plan.views

    @cached_property
    def by_name(self) -> dict[str, KeyedEdge]:
        """The edges by name."""
        return {edge.edge.name: edge for edge in self.edges}
