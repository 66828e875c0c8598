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
        is_local: Whether the steps run in one process that delivers what a change sends before it renders: then rows
            look documents up, and wait for nothing.

    Attributes:
        places: View (its place) and name of each edge.
    """

    def __init__(self, plan: Plan, *, is_local: bool = False) -> None:
        super().__init__(plan)
        self.is_local = is_local
        self.places = [(view, edge.name) for view, edge in self.edges]

    @cached_property
    def travels(self) -> list[bool]:
        """See `PartitionedPlan`; where rows look documents up, the edges above those that they read are on the way."""
        needed = list(super().travels)
        if self.is_local:
            for number in reversed(range(len(self.edges))):
                parent = self.parent[number]
                if needed[number] and parent is not None and self.edges[number][1].limit is None:
                    needed[parent] = True
        return needed

    @cached_property
    def below(self) -> list[list[int]]:
        """The edges that hang on each edge by its documents' own paths, or by none: referrers, fixed documents."""
        return [
            [child for child in self._children(number) if not isinstance(self.edges[child][1], Reference)]
            for number in range(len(self.edges))
        ]

    @cached_property
    def hangs(self) -> list[bool]:
        """Whether something hangs on an edge: aggregates, or other edges."""
        return [
            bool(self.aggregates[number] or self.references[number] or self.below[number])
            for number in range(len(self.edges))
        ]

    @cached_property
    def is_open(self) -> list[bool]:
        """Whether many documents can lie at a key of an edge; else it is the one that the key names, or none."""
        return [isinstance(edge, Referrers) for _, edge in self.edges]

    @cached_property
    def is_bare(self) -> list[bool]:
        """Whether nothing is kept of what a document is at an edge: rows look it up, and nothing hangs on it."""
        return [
            self.is_local
            and isinstance(edge, Reference)
            and edge.limit is None
            and self.shows_all[number]
            and not self.hangs[number]
            for number, (_, edge) in enumerate(self.edges)
        ]

    @cached_property
    def counts_ways(self) -> list[bool]:
        """Whether several ways can lead from a row to one document, and what hangs on it must count it once."""
        found = []
        for number, (_, edge) in enumerate(self.edges):
            parent = self.parent[number]
            is_from_many = parent is not None and self.edges[parent][1].is_many
            is_repeated = is_from_many and not (isinstance(edge, Referrers) and not edge.by.is_many)
            found.append(is_repeated and edge.limit is None and self.hangs[number])
        return found

    def links(self, role: Role, path: str) -> list[tuple[int, list[str]]]:
        """The keys that the edges below an edge want for one of its documents."""
        found = [(link.edge, link.paths) for link in role.links]
        for child in self.below[role.edge]:
            edge = self.edges[child][1]
            found.append((child, [edge.path if isinstance(edge, Fixed) else path]))
        return found

    @cached_property
    def awaited(self) -> list[bool]:
        """Whether a row waits until what it wants over an edge is answered: the row knows what it wants (S8)."""
        found = []
        for number, (_, edge) in enumerate(self.edges):
            parent = self.parent[number]
            is_known = parent is not None and self.travels[parent]
            is_answered = self.travels[number] and edge.limit is None and not self.is_open[number]
            found.append(is_known and is_answered)
        return found
