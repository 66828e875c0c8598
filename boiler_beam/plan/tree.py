"""The plan: for each view a frozen tree of edges, which every executor reads and none changes.

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
    """The common part of all edges.

    Attributes:
        name: Its attribute in the store.
        model: The class of its documents; documents of other classes in the collection count as missing.
        type_index: The index of the document type of that class in `Plan.document_types`.
        parent: The name of the parent edge; None for the root or group.
        is_many: Whether a row has a dict of documents (a to-many edge), or one document.
        keyed_by: The keys of that dict: the documents' ids or paths, or the keys of the map that holds the references.
        where: A pure function of the document; documents for which it is false count as missing.
        order: The order of the documents in a row; None: the order of the references, or by path.
        limit: The maximal number of documents in a row: the first ones in that order.
        only: The fields that getters read of its documents; None for all.
        is_read: Whether a getter may read it (otherwise only aggregates and child edges need it).
        is_required: Whether there is no row without its document.
        makes_rows: Whether it is the root or group, whose documents determine which rows there are.
        has_many_at_key: Whether many documents can be joined to a row by one key; otherwise the key is a document's
            path.
    """

    makes_rows: ClassVar[bool] = False
    has_many_at_key: ClassVar[bool] = False

    name: str
    model: type[DomainModel]
    type_index: int
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
        """Whether a user's function selects or orders its documents: `where=`, or a property in `order_by=`."""
        return self.where is not None or (self.order is not None and self.order.may_raise)


@dataclass(frozen=True, kw_only=True)
class Root(_Edge):
    """The root: one row for each of its documents."""

    makes_rows: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Group(_Edge):
    """A group: one row for each value of `by`; its documents are the members.

    Attributes:
        by: The field paths of the key: one, or the parts of a tuple.
        is_tuple: Whether the key is a tuple.
    """

    makes_rows: ClassVar[bool] = True
    has_many_at_key: ClassVar[bool] = True

    by: tuple[FieldPath, ...]
    is_tuple: bool

    @property
    def text(self) -> str:
        """The key's field paths, for messages."""
        return ", ".join(path.text for path in self.by)


@dataclass(frozen=True, kw_only=True)
class Reference(_Edge):
    """The documents that a field of the parent edge's documents refers to."""

    field: FieldPath


@dataclass(frozen=True, kw_only=True)
class Referrers(_Edge):
    """The documents whose field `by` refers to one of the parent edge's documents."""

    has_many_at_key: ClassVar[bool] = True

    by: FieldPath


@dataclass(frozen=True, kw_only=True)
class Fixed(_Edge):
    """One fixed document that all rows share."""

    path: str


Edge = Root | Group | Reference | Referrers | Fixed


@dataclass(frozen=True)
class Aggregate:
    """A compiled aggregate of a view.

    Attributes:
        name: Its attribute in the view.
        edge: The name of its edge.
        fold: How values are combined.
        where: Selects documents; None for all.
        of: Returns the value of a document; None is skipped.
        may_raise: Whether a user's function or property is called, or a value may be refused. Then the contribution is
            stored, so that exactly the same one is retracted later.
    """

    name: str
    edge: str
    fold: Fold
    where: Callable[[Any], Any] | None = field(compare=False, repr=False)
    of: Callable[[Any], Any] = field(compare=False, repr=False)
    may_raise: bool = field(compare=False, repr=False)


@dataclass(frozen=True)
class ViewPlan:
    """The compiled form of one view.

    Attributes:
        model: The class.
        name: The class's name.
        paths: The paths of its rows.
        edges: The edges, parents first; the first is the root or group.
        aggregates: The aggregates.
        properties: Attribute and stored name of each field of the row.
        case: The case of the stored names, `"camel"` or `"snake"`.
        visibility: Which of `viewers` and `editors` it declares.
        has_paths: Whether it declares `paths()`.
        max_paths: The maximal number of copies of a row.
        fingerprint: A hash that changes when the plan, a getter's code or `revision=` changes; then all rows are
            computed again (S13).
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
        """The root or group."""
        root = self.edges[0]
        assert isinstance(root, (Root, Group))
        return root

    @cached_property
    def required(self) -> tuple[Edge, ...]:
        """The edges without whose document there is no row (S4)."""
        return tuple(edge for edge in self.edges if edge.is_required)

    @cached_property
    def by_name(self) -> dict[str, Edge]:
        """The edges by name."""
        return {edge.name: edge for edge in self.edges}

    @cached_property
    def unread(self) -> frozenset[str]:
        """The names of the edges that no getter was seen to read."""
        return frozenset(edge.name for edge in self.edges if not edge.is_read)

    @cached_property
    def children(self) -> dict[str, tuple[Edge, ...]]:
        """The child edges of each edge."""
        return {one.name: tuple(edge for edge in self.edges if edge.parent == one.name) for one in self.edges}

    @cached_property
    def aggregates_of(self) -> dict[str, tuple[tuple[int, Aggregate], ...]]:
        """The aggregates over each edge, with their indexes in `aggregates`."""
        return {
            edge.name: tuple((i, one) for i, one in enumerate(self.aggregates) if one.edge == edge.name)
            for edge in self.edges
        }

    @cached_property
    def aggregate_indexes(self) -> dict[str, int]:
        """The index of each aggregate in `aggregates`, by name."""
        return {one.name: index for index, one in enumerate(self.aggregates)}

    def row_id(self, path: str) -> str:
        """Returns the id of a root document's row."""
        return path[path.rfind("/") + 1 :] if self.paths.root is None else path

    @cached_property
    def fields(self) -> tuple[tuple[str, str | None], ...]:
        """The computed attributes of a row with their stored names; None for attributes that are not stored."""
        properties = [(name, None if name.startswith("_") else stored) for name, stored in self.properties]
        return (*properties, *((name, f"_{name}") for name in self.visibility))

    @cached_property
    def restricted(self) -> dict[str, frozenset[str]]:
        """The viewers of each property that only some viewers of a row may see, by its stored name."""
        declared = self.model.declared_properties()
        found: dict[str, frozenset[str]] = {
            stored: getattr(declared[name], "viewers", frozenset()) for name, stored in self.properties
        }
        return {stored: viewers for stored, viewers in found.items() if viewers}

    @cached_property
    def target(self) -> View:
        """The facts about the view that a sink needs."""
        stored = dict(self.properties)
        return View(
            self.name,
            self.paths.template,
            tuple(name for _, name in self.fields if name is not None),
            tuple(stored[name] for name in dict.fromkeys(self.model.__boiler__.indexed)),
        )

    @property
    def reference_name(self) -> str:
        """The class as `module:Class`, by which another process imports it."""
        return f"{self.model.__module__}:{self.model.__qualname__}"
