"""The plan: a frozen tree of edges for each view, which every executor reads and none changes.

meeting (root) -+- location   reference meeting.location
                +- users      reference meeting.users
                +- tickets    reference meeting.tickets
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from boiler_beam.events import View
from boiler_beam.models import DomainModel
from boiler_beam.plan.fieldpath import FieldPath
from boiler_beam.plan.ordering import Ordering
from boiler_beam.plan.rowpath import RowPath
from boiler_beam.views import Store, ViewModel
from boiler_beam.views.fold import Fold

__all__ = ["Aggregate", "Edge", "Fixed", "Group", "Reference", "Referrers", "Root", "ViewPlan"]


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
        is_required: Whether there is no row without its document.
        makes_rows: Whether its documents make the rows.
        has_many_at_key: Whether many documents can be joined to a row by one key; else the key is a document's path.
    """

    makes_rows: ClassVar[bool] = False
    has_many_at_key: ClassVar[bool] = False

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
    is_required: bool = False

    @property
    def may_raise(self) -> bool:
        """Whether a user's code says what it shows: `where=`, or a property that `order_by=` names."""
        return self.where is not None or (self.order is not None and self.order.may_raise)


@dataclass(frozen=True, kw_only=True)
class Root(_Edge):
    """One row for each of its documents."""

    makes_rows: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Group(_Edge):
    """One row for each value of `by`; its documents are the members.

    Attributes:
        by: What the key is read from: one path, or the parts of a tuple.
        is_tuple: Whether the key is a tuple.
    """

    makes_rows: ClassVar[bool] = True
    has_many_at_key: ClassVar[bool] = True

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


@dataclass(frozen=True, kw_only=True)
class Referrers(_Edge):
    """The documents whose field `by` names one of the parent's documents."""

    has_many_at_key: ClassVar[bool] = True

    by: FieldPath


@dataclass(frozen=True, kw_only=True)
class Fixed(_Edge):
    """One document that all rows share."""

    path: str


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
        may_raise: Whether a user's function or property is called, or a value may be refused: then an answer is kept
            where a later one must match it.
    """

    name: str
    edge: str
    fold: Fold
    where: Callable[[Any], Any] | None = field(compare=False, repr=False)
    of: Callable[[Any], Any] = field(compare=False, repr=False)
    may_raise: bool = field(compare=False, repr=False)


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
