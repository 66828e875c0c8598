"""The plan: a frozen tree of edges for each view, which every executor reads and none changes.

meeting (root) -+- location   reference meeting.location
                +- users      reference meeting.users
                +- tickets    reference meeting.tickets
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from boiler_beam.events import View
from boiler_beam.models import DomainModel, FamilyCodec
from boiler_beam.plan.fieldpath import FieldPath
from boiler_beam.plan.ordering import Ordering
from boiler_beam.plan.rowpath import RowPath
from boiler_beam.values import Database
from boiler_beam.views import Store, ViewModel
from boiler_beam.views.fold import Fold

__all__ = ["Aggregate", "Edge", "Fixed", "Group", "Plan", "PlanName", "Reference", "Referrers", "Root", "ViewPlan"]


@dataclass(frozen=True, kw_only=True)
class _Edge:
    """What every edge has.

    Attributes:
        name: Its attribute in the store.
        model: The class of its documents; others of the family count as missing.
        family: The place of that class's family in `Plan.families`.
        parent: The edge it hangs on; None for what makes the row.
        is_many: Whether a row holds a dict of documents, or one.
        keyed_by: What the keys of that dict are.
        where: Which documents it shows: a pure function of the document.
        order: In which order a row has them, and which are its first; None: in that of the references, or by path.
        limit: How many of them a row has at the most.
        only: The fields that getters read of its documents; None for all.
        is_read: Whether a getter may read it (else aggregates and other edges alone need it).
    """

    name: str
    model: type[DomainModel]
    family: int
    parent: str | None
    is_many: bool
    keyed_by: Literal["doc_id", "path", "map"] = "doc_id"
    where: Callable[[Any], Any] | None = field(default=None, compare=False, repr=False)
    order: Ordering | None = None
    limit: int | None = None
    only: tuple[str, ...] | None = None
    is_read: bool = True


@dataclass(frozen=True, kw_only=True)
class Root(_Edge):
    """One row for each of its documents."""


@dataclass(frozen=True, kw_only=True)
class Group(_Edge):
    """One row for each value of `by`; its documents are the members.

    Attributes:
        by: What the key is read from: one path, or the parts of a tuple.
        is_tuple: Whether the key is a tuple.
    """

    by: tuple[FieldPath, ...]
    is_tuple: bool

    @property
    def text(self) -> str:
        """What it groups by, for people."""
        return ", ".join(path.text for path in self.by)


@dataclass(frozen=True, kw_only=True)
class Reference(_Edge):
    """The documents that a field of the parent's documents names."""

    field: FieldPath
    is_required: bool


@dataclass(frozen=True, kw_only=True)
class Referrers(_Edge):
    """The documents whose field `by` names one of the parent's documents."""

    by: FieldPath


@dataclass(frozen=True, kw_only=True)
class Fixed(_Edge):
    """One document that all rows share."""

    path: str
    is_required: bool


Edge = Root | Group | Reference | Referrers | Fixed


@dataclass(frozen=True)
class Aggregate:
    """An aggregate of a view.

    Attributes:
        name: Its attribute.
        edge: The edge that it runs over.
        fold: How values become one.
        where: Which documents count, or None for all.
        of: What is counted of a document; None is skipped.
    """

    name: str
    edge: str
    fold: Fold
    where: Callable[[Any], Any] | None = field(compare=False, repr=False)
    of: Callable[[Any], Any] = field(compare=False, repr=False)


@dataclass(frozen=True)
class ViewPlan:
    """What one view compiles to.

    Attributes:
        model: The class, known elsewhere as `module:Class`.
        name: The class's name.
        paths: Where its rows lie.
        edges: The edges, parents first; the first is the root or group.
        aggregates: The aggregates.
        properties: Attribute and stored name of each field of the row.
        case: How names in rows are written.
        visibility: Those of `viewers` and `editors` that it declares.
        has_paths: Whether it declares `paths()`, which says of how many copies a row is made.
        max_paths: How many copies a row may have.
        fingerprint: Changes when the plan, a getter's code or `revision=` does (S13).
    """

    model: type[ViewModel]
    name: str
    paths: RowPath
    edges: tuple[Edge, ...]
    aggregates: tuple[Aggregate, ...]
    properties: tuple[tuple[str, str], ...]
    case: str
    visibility: tuple[str, ...]
    has_paths: bool
    max_paths: int
    fingerprint: str

    @cached_property
    def store(self) -> type[Store]:
        """The class `Store` of the view."""
        store = self.model.declared_store()
        assert store is not None
        return store

    @cached_property
    def root(self) -> Root | Group:
        """What makes the rows."""
        root = self.edges[0]
        assert isinstance(root, (Root, Group))
        return root

    @cached_property
    def by_name(self) -> dict[str, Edge]:
        """The edges by name."""
        return {edge.name: edge for edge in self.edges}

    @cached_property
    def children(self) -> dict[str, tuple[Edge, ...]]:
        """The edges that hang on each edge."""
        return {one.name: tuple(edge for edge in self.edges if edge.parent == one.name) for one in self.edges}

    @cached_property
    def aggregates_of(self) -> dict[str, tuple[tuple[int, Aggregate], ...]]:
        """The aggregates over each edge, with their places in `aggregates`."""
        return {
            edge.name: tuple((i, one) for i, one in enumerate(self.aggregates) if one.edge == edge.name)
            for edge in self.edges
        }

    @cached_property
    def aggregate_places(self) -> dict[str, int]:
        """The place of each aggregate in `aggregates`, by name."""
        return {one.name: place for place, one in enumerate(self.aggregates)}

    def row_id(self, path: str) -> str:
        """The id of the row that a root document makes."""
        return path[path.rfind("/") + 1 :] if self.paths.root is None else path

    @cached_property
    def fields(self) -> tuple[tuple[str, str | None], ...]:
        """What is computed of a row: each attribute, and its stored name, None of a hidden one."""
        properties = [(name, None if name.startswith("_") else stored) for name, stored in self.properties]
        return (*properties, *((name, f"_{name}") for name in self.visibility))

    @cached_property
    def target(self) -> View:
        """What a sink must know of it."""
        return View(self.name, self.paths.template, tuple(stored for _, stored in self.fields if stored is not None))

    @property
    def reference_name(self) -> str:
        """`module:Class`, by which another process finds the class."""
        return f"{self.model.__module__}:{self.model.__qualname__}"


class PlanName(NamedTuple):
    """What another process makes a plan of.

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
        families: The models of each collection that they read.
        database: The database whose documents are read: references into it are joined, others are kept as they are.
    """

    views: tuple[ViewPlan, ...]
    families: tuple[FamilyCodec, ...] = field(compare=False)
    database: Database = field(default_factory=Database)

    @property
    def name(self) -> PlanName:
        """What another process makes this plan of."""
        return PlanName(tuple(view.reference_name for view in self.views), self.database)

    def __repr__(self) -> str:
        return f"Plan({', '.join(view.name for view in self.views)})"

    @cached_property
    def _found(self) -> dict[str, tuple[tuple[int, ...], bool]]:
        return {}

    @cached_property
    def _fixed(self) -> dict[int, frozenset[str]]:
        """Of each family that `document()` alone reads, the paths that it names."""
        read: dict[int, list[Edge]] = {place: [] for place in range(len(self.families))}
        for _, edge in self.edges():
            read[edge.family].append(edge)
        return {
            place: frozenset(edge.path for edge in edges if isinstance(edge, Fixed))
            for place, edges in read.items()
            if all(isinstance(edge, Fixed) for edge in edges)
        }

    @property
    def collections(self) -> list[str]:
        """The patterns of the collections whose documents it reads."""
        return [family.pattern.text for family in self.families]

    def families_of(self, path: str) -> tuple[int, ...]:
        """The families (places in `families`) that a document at this path belongs to.

        A family of which views read single documents alone has no others: what lies beside them in `config` may be
        of any shape.
        """
        collection = path[: path.rfind("/")]
        if "/" in collection:
            collection = "/".join(path.split("/")[::2])  # without the ids of its parents
        found = self._found.get(collection)
        if found is None:
            some = tuple(i for i, family in enumerate(self.families) if family.pattern.match(path) is not None)
            found = self._found[collection] = some, not self._fixed.keys().isdisjoint(some)
        places, has_fixed = found
        if not has_fixed:
            return places
        return tuple(place for place in places if path in self._fixed.get(place, (path,)))

    def edges(self) -> Iterator[tuple[int, Edge]]:
        """All edges, each with its view's place."""
        for place, view in enumerate(self.views):
            for edge in view.edges:
                yield place, edge
