"""What the steps of a stream ask a plan: which edges hang on which, and what a document wants of them."""

from __future__ import annotations

from functools import cached_property

from boiler_beam.plan import Fixed, Plan, Reference, Referrers
from boiler_beam.steps.messages import Role
from boiler_beam.steps.partition.levels import PartitionedPlan

__all__ = ["StreamPlan"]


class StreamPlan(PartitionedPlan):
    """A plan with its edges numbered; lists go by an edge's number.

    Args:
        plan: The plan.
        is_local: Whether the steps run in one process that delivers all messages of a change, in order, before it
            renders: then rows look documents up, wait for nothing, and what is gone leaves nothing behind.
    """

    def __init__(self, plan: Plan, *, is_local: bool = False) -> None:
        super().__init__(plan)
        self.is_local = is_local
        self.places = [(view, edge.name) for view, edge in self.edges]

    @cached_property
    def below(self) -> list[list[int]]:
        """The edges that hang on each edge by its documents' own paths, or by none: referrers, fixed documents."""
        return [
            [child for child in self._children(number) if not isinstance(self.edges[child][1], Reference)]
            for number in range(len(self.edges))
        ]

    def links(self, role: Role, path: str) -> list[tuple[int, list[str]]]:
        """The keys that the edges below an edge want for one of its documents."""
        found = [(link.edge, link.paths) for link in role.links]
        for child in self.below[role.edge]:
            edge = self.edges[child][1]
            found.append((child, [edge.path if isinstance(edge, Fixed) else path]))
        return found

    @cached_property
    def awaited(self) -> list[bool]:
        """Whether a row waits until what it wants over an edge is answered: the row knows what it wants."""
        found = []
        for number, (_, edge) in enumerate(self.edges):
            parent = self.parent[number]
            is_known = parent is not None and self.travels[parent]
            is_answered = self.travels[number] and edge.limit is None and not isinstance(edge, Referrers)
            found.append(is_known and is_answered and not self.is_local)
        return found
