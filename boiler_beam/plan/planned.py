"""A plan: the views of one run, with numbered edges, and the facts about an edge that executors derive from the plan.

index  view            edge       parent
0      MeetingSession  meeting
1      MeetingSession  location   0
2      MeetingSession  tickets    0
3      Organizations   users
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from boiler_beam.models import DocumentType
from boiler_beam.plan.tree import Aggregate, Edge, Fixed, Reference, Referrers, Root, ViewPlan
from boiler_beam.values import Database

__all__ = ["Plan", "PlanName", "PlannedEdge", "PlannedView"]


@dataclass(frozen=True, eq=False, repr=False)
class PlannedEdge:
    """An edge with its index in a plan.

    Attributes:
        index: Its index in `Plan.planned_edges`.
        position: Its index in its view.
        view_index: The index of its view in `Plan.views`.
        view: That view.
        edge: What was declared.
        parent: The parent edge; None for a root or group.
        children: The child edges.
        shows_all: Whether it shows every document of its type: it has no `where=`, no order, and no subclass as model.
    """

    index: int
    position: int
    view_index: int
    view: ViewPlan
    edge: Edge
    parent: PlannedEdge | None
    shows_all: bool
    children: list[PlannedEdge] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{self.view.name}.{self.edge.name}"

    @cached_property
    def aggregates(self) -> tuple[tuple[int, Aggregate], ...]:
        """The aggregates over it, each with its index in `ViewPlan.aggregates`."""
        return self.view.aggregates_of[self.edge.name]

    @cached_property
    def references(self) -> tuple[PlannedEdge, ...]:
        """The child edges that follow references: their keys are in a field of this edge's documents."""
        return tuple(child for child in self.children if isinstance(child.edge, Reference))

    @cached_property
    def found_by_path(self) -> tuple[PlannedEdge, ...]:
        """The other child edges: rows find their documents by the path of this edge's document, or by a fixed path."""
        return tuple(child for child in self.children if not isinstance(child.edge, Reference))

    @cached_property
    def has_dependents(self) -> bool:
        """Whether aggregates or children depend on its documents."""
        return bool(self.aggregates or self.children)

    @cached_property
    def bits(self) -> int:
        """A bit mask of the positions of this edge and of all edges above it."""
        return 1 << self.position | (0 if self.parent is None else self.parent.bits)

    @cached_property
    def is_shared(self) -> bool:
        """Whether all rows of the view have the same documents over it: a fixed document, and what is below it."""
        return isinstance(self.edge, Fixed) or (self.parent is not None and self.parent.is_shared)

    @cached_property
    def carries_fields(self) -> bool:
        """Whether rows need the fields of its documents: to exist, for a getter, or to order a child edge's dict."""
        if self.edge.is_read or self.edge.is_required or isinstance(self.edge, Root):
            return True
        return any(child.edge.is_read and child.edge.order is None and child._is_list for child in self.children)

    @property
    def _is_list(self) -> bool:
        return isinstance(self.edge, Reference) and self.edge.field.is_many

    @cached_property
    def counts_paths(self) -> bool:
        """Whether a row may reach one document through several parents, so that it must be counted once (S10)."""
        if self.parent is None or not self.parent.edge.is_many or self.edge.limit is not None:
            return False
        is_repeated = not (isinstance(self.edge, Referrers) and not self.edge.by.is_many)
        return is_repeated and self.has_dependents


@dataclass(frozen=True, eq=False)
class PlannedView:
    """A view with its index in a plan, and its edges: parents first; the first one is the root or group."""

    index: int
    view: ViewPlan
    edges: tuple[PlannedEdge, ...]


class PlanName(NamedTuple):
    """What another process needs to compile the same plan.

    Attributes:
        views: The views as `module:Class`.
        database: The database whose documents are read.
    """

    views: tuple[str, ...]
    database: Database = Database()


@dataclass(frozen=True, repr=False)
class Plan:
    """The views of one run, and the collections that they read, each document of which is decoded once.

    Attributes:
        views: The views.
        document_types: The models of each collection that they read.
        database: The database whose documents are read: references into it are joined, others are kept as they are.
    """

    views: tuple[ViewPlan, ...]
    document_types: tuple[DocumentType, ...] = field(compare=False)
    database: Database = field(default_factory=Database)

    @property
    def name(self) -> PlanName:
        """What another process needs to compile this plan."""
        return PlanName(tuple(view.reference_name for view in self.views), self.database)

    def __repr__(self) -> str:
        return f"Plan({', '.join(view.name for view in self.views)})"

    @cached_property
    def _found(self) -> dict[str, tuple[tuple[int, ...], bool]]:
        """A cache of `types_of`: for each collection its types, and whether some of them are in `_fixed`."""
        return {}

    @cached_property
    def _fixed(self) -> dict[int, frozenset[str]]:
        """For each document type that only `document()` edges read: the paths of these documents."""
        read: dict[int, list[Edge]] = {index: [] for index in range(len(self.document_types))}
        for _, edge in self.edges():
            read[edge.type_index].append(edge)
        return {
            index: frozenset(edge.path for edge in edges if isinstance(edge, Fixed))
            for index, edges in read.items()
            if all(isinstance(edge, Fixed) for edge in edges)
        }

    @cached_property
    def collections(self) -> list[str]:
        """The patterns of the collections whose documents it reads."""
        return [document_type.pattern.text for document_type in self.document_types]

    def types_of(self, path: str) -> tuple[int, ...]:
        """The indexes of the document types that the document at a path belongs to.

        A type that only `document()` edges read has only the documents that these name: others in the same collection
        may have any fields.
        """
        collection = path[: path.rfind("/")]
        if "/" in collection:
            collection = "/".join(path.split("/")[::2])  # without the ids of its parents
        found = self._found.get(collection)
        if found is None:
            some = tuple(index for index, one in enumerate(self.document_types) if one.pattern.match(path) is not None)
            found = self._found[collection] = some, not self._fixed.keys().isdisjoint(some)
        indexes, has_fixed = found
        if not has_fixed:
            return indexes
        return tuple(index for index in indexes if path in self._fixed.get(index, (path,)))

    def edges(self) -> Iterator[tuple[int, Edge]]:
        """All edges, each with the index of its view."""
        for view_index, view in enumerate(self.views):
            for edge in view.edges:
                yield view_index, edge

    @cached_property
    def planned_views(self) -> tuple[PlannedView, ...]:
        """The views with their edges numbered."""
        found, index = [], 0
        for view_index, view in enumerate(self.views):
            by_name: dict[str, PlannedEdge] = {}
            for position, edge in enumerate(view.edges):
                parent = by_name[edge.parent] if edge.parent else None
                base = self.document_types[edge.type_index].base
                shows_all = edge.where is None and edge.order is None and edge.model is base
                one = by_name[edge.name] = PlannedEdge(index, position, view_index, view, edge, parent, shows_all)
                if parent is not None:
                    parent.children.append(one)
                index += 1
            found.append(PlannedView(view_index, view, tuple(by_name.values())))
        return tuple(found)

    @cached_property
    def planned_edges(self) -> tuple[PlannedEdge, ...]:
        """All edges, by `PlannedEdge.index`."""
        return tuple(edge for view in self.planned_views for edge in view.edges)
