"""What the steps of a stream ask a plan: which edges hang on which, and what a document wants of them."""

from __future__ import annotations

from functools import cached_property

from boiler_beam.plan import Aggregate, Edge, Fixed, Plan, Reference, Referrers, Root
from boiler_beam.steps.stream.messages import Role

__all__ = ["StreamPlan"]


class _NumberedPlan:
    """A plan with its edges numbered; lists go by an edge's number.

    Attributes:
        plan: The plan.
        edges: View (its place) and edge.
        of_family: The numbers of the edges that show documents of each family.
        parent: The number of the edge that it hangs on, or None.
        shows_all: Whether it shows every document of its family.
        aggregates: The aggregates over it, with their places in the view.
        references: The edges that hang on it and follow a field of its documents.
        travels: Whether its documents are needed at the row: read, required, or what gives a dict its order.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.edges: list[tuple[int, Edge]] = list(plan.edges())
        numbers = range(len(self.edges))
        number_of = {(view, edge.name): number for number, (view, edge) in enumerate(self.edges)}
        self.of_family: list[list[int]] = [
            [number for number in numbers if self.edges[number][1].family == family]
            for family in range(len(plan.families))
        ]
        self.parent = [number_of[view, edge.parent] if edge.parent else None for view, edge in self.edges]
        self.shows_all = [
            (edge.where, edge.order, edge.model) == (None, None, plan.families[edge.family].base)
            for _, edge in self.edges
        ]
        self.aggregates: list[tuple[tuple[int, Aggregate], ...]] = [
            plan.views[view].aggregates_of[edge.name] for view, edge in self.edges
        ]
        self.references: list[list[tuple[int, Reference]]] = [
            [(child, edge) for child in self._children(number) if isinstance(edge := self.edges[child][1], Reference)]
            for number in numbers
        ]

    def _children(self, number: int) -> list[int]:
        return [child for child, parent in enumerate(self.parent) if parent == number]

    @cached_property
    def travels(self) -> list[bool]:
        """See the class."""
        needed = [
            edge.is_read or isinstance(edge, Root) or (isinstance(edge, (Reference, Fixed)) and edge.is_required)
            for _, edge in self.edges
        ]
        for number, (_, edge) in enumerate(self.edges):
            parent = self.parent[number]
            is_ordered_by_parent = isinstance(edge, Reference) and edge.field.is_many and edge.order is None
            if edge.is_read and is_ordered_by_parent and parent is not None:
                needed[parent] = True
        return needed

    @cached_property
    def travelling(self) -> list[frozenset[str] | None]:
        """Of each edge the stored names of the fields that go to rows; None for all."""
        found: list[frozenset[str] | None] = []
        for number, (_, edge) in enumerate(self.edges):
            names = None
            if edge.only is not None:
                needed = {*edge.only, *(edge.order.fields if edge.order is not None else ())}
                needed |= {child.field.text.partition(".")[0] for _, child in self.references[number]}
                names = self.plan.families[edge.family].stored_names(needed)
            found.append(names)
        return found


class StreamPlan(_NumberedPlan):
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
        """See `_NumberedPlan`; where rows look documents up, the edges above those that they read are on the way."""
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
