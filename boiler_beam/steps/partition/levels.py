"""A plan with its edges numbered, and placed in the levels of joins that a partitioned backfill goes through."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from boiler_beam.plan import Aggregate, Edge, Fixed, Plan, Reference, Referrers, Root

__all__ = ["CLAIMS", "ROWS", "WRITE", "PartitionedPlan", "Send"]

ROWS, CLAIMS, WRITE = -1, -2, -3
"""Where messages go beside the joins (1, 2, ...): to the rows' partitions, to those of row paths, and to the sink."""

Send = Callable[[int, Any], None]
"""Takes where a message goes, and the message."""


class PartitionedPlan:
    """A plan with its edges numbered and placed in levels; lists go by an edge's number.

    Attributes:
        plan: The plan.
        edges: View (its place) and edge.
        of_family: The numbers of the edges that show documents of each family.
        parent: The number of the edge that it hangs on, or None.
        reach_level: The join that knows which rows reach its documents; 0 where each document knows them itself.
        level: The join that knows which rows have them: the next one where the edge has a limit.
        announces: Whether its rows must be sent to where its documents lie, for its referrers to meet them.
        repeats: Whether one document can come to a row from several partitions over this edge.
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
        self.reach_level: list[int] = []
        self.level: list[int] = []
        for number, (_, edge) in enumerate(self.edges):
            self.reach_level.append(self._reach_level(number, edge))
            self.level.append(self.reach_level[number] + (edge.limit is not None))
        self.announces = [self._announces(number) for number in numbers]
        self.repeats = [self._repeats(number) for number in numbers]
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

    def _reach_level(self, number: int, edge: Edge) -> int:
        parent = self.parent[number]
        if parent is None or isinstance(edge, Fixed):
            return 0
        match edge:
            case Reference():
                return self.level[parent] + 1
            case Referrers():
                if isinstance(self.edges[parent][1], Root):
                    return 0  # a root's path says which row it makes
                return self.level[parent] + (0 if self.meets_children(parent) else 1)
            case _:
                raise AssertionError("a root hangs on nothing")

    def meets_children(self, number: int) -> bool:
        """Whether the rows of an edge are known where its documents lie, in a join that referrers can come to."""
        edge = self.edges[number][1]
        return isinstance(edge, Reference) and edge.limit is None

    def _announces(self, number: int) -> bool:
        if self.meets_children(number) or isinstance(self.edges[number][1], Root):
            return False
        return any(isinstance(self.edges[child][1], Referrers) for child in self._children(number))

    def _repeats(self, number: int) -> bool:
        edge = self.edges[number][1]
        is_everywhere = isinstance(edge, Referrers) and self.level[number] > 0 and edge.by.is_many
        return is_everywhere and edge.limit is None

    @cached_property
    def depth(self) -> int:
        """How many joins there are."""
        return max(self.level)

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
