"""What a document contributes at an edge: where rows find it, what it refers to, what it adds to aggregates.

It is a function of the document alone, built once for each edge of a plan, and used by all executors but the oracle.
Users' functions (`where=`, `of=`, `by=`, properties) run in it: where one raises, the document is absent from that
edge, aggregate or reference (S10a).

>>> from boiler_beam.plan import compile_plan
>>> from boiler_beam.samples.meeting import OrganizationSummary, User
>>> users, tickets = compile_plan([OrganizationSummary]).planned_edges
>>> user = User(path="users/u1", version=7, first_name="Ann", last_name="Gray", organization="org1")
>>> contributions_of(users).contribute(user, print).keys
{'org1': 'org1'}
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from typing_extensions import assert_never

from boiler_beam.compare import sort_key
from boiler_beam.models import DomainModel, stored_value
from boiler_beam.plan import Aggregate, Fixed, Group, PlannedEdge, Reference, Referrers, Root
from boiler_beam.plan.fieldpath import FieldPath
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import (
    NOTHING,
    FunctionRaised,
    aggregated_value,
    group_ids_of,
    is_shown,
    known_references,
    references,
    targets,
)
from boiler_beam.views.fold import Count

__all__ = ["Contribution", "Contributions", "Refuse", "contributions_of", "keyed_links_of", "links_of"]

T = TypeVar("T")
Refuse = Callable[[FunctionRaised], None]
"""Called with what a user's function raised."""
Paths = tuple[str, ...]
OfDocument = Callable[[DomainModel, Refuse], T]
"""A function of one document, which reports what users' functions raise."""


class Contribution(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What one document contributes at an edge that shows it.

    Attributes:
        keys: The keys under which rows find it, each once. Root: the row's id. Group: a dict from the rows' ids to the
            group's keys. Reference or fixed document: its own path. Referrers: the paths of the parents it refers to.
        links: For each of `PlannedEdge.references`, the paths that it refers to, each once.
        values: What it adds to each of `PlannedEdge.aggregates`; `NOTHING` where it does not count.
        sort_key: Its position in the edge's order, as bytes that no other document has; empty if there is no limit.
    """

    keys: Collection[str]
    links: tuple[Paths, ...]
    values: tuple[Any, ...]
    sort_key: bytes


class Contributions(NamedTuple):
    """The functions of one edge's documents.

    Attributes:
        contribute: What a document contributes; None where the edge does not show it, or no row can find it.
        keys: `Contribution.keys` alone; empty where there is no contribution.
        shows: Whether the edge shows a document.
        may_raise: Whether users' functions take part. Then the result may differ the next time: a join that retracts an
            earlier contribution keeps it.
    """

    contribute: OfDocument[Contribution | None]
    keys: OfDocument[Collection[str]]
    shows: OfDocument[bool]
    may_raise: bool


def contributions_of(planned: PlannedEdge) -> Contributions:
    """Builds the functions of an edge once, so that a document needs no decisions about the edge.

    Args:
        planned: The edge.
    """
    edge, shows_all = planned.edge, planned.shows_all
    shows = _tried(is_shown, edge, False)
    keys_of = _keys(planned)
    children = [child.edge for child in planned.references if isinstance(child.edge, Reference)]
    links = [links_of(child) for child in children]
    values_of = [_value_of(aggregate) for _, aggregate in planned.aggregates]
    order_of = _tried(_sort_key, edge, b"") if edge.limit is not None else None
    only_path = edge.path if isinstance(edge, Fixed) else None

    def keys(document: DomainModel, refuse: Refuse) -> Collection[str]:
        if only_path is not None and document.path != only_path:
            return ()
        return keys_of(document, refuse) if shows_all or shows(document, refuse) else ()

    def contribute(document: DomainModel, refuse: Refuse) -> Contribution | None:
        found = keys(document, refuse)
        if not found:
            return None
        return Contribution(
            found,
            tuple([link_of(document, refuse) for link_of in links]) if links else (),
            tuple([value_of(document, refuse) for value_of in values_of]) if values_of else (),
            b"" if order_of is None else order_of(document, refuse),
        )

    aggregates = [aggregate for _, aggregate in planned.aggregates]
    return Contributions(contribute, keys, shows, _may_raise(edge, children, aggregates))


def _may_raise(edge: Edge, children: Sequence[Reference], aggregates: Sequence[Aggregate]) -> bool:
    """Whether users' functions decide what documents contribute."""
    keys = edge.by if isinstance(edge, Group) else (edge.by,) if isinstance(edge, Referrers) else ()
    fields = [*keys, *(child.field for child in children)]
    return edge.may_raise or any(one.may_raise for one in fields) or any(one.may_raise for one in aggregates)


def _tried(function: Callable[[Any, Any], T], what: Any, absent: T) -> OfDocument[T]:
    """Wraps a function: if it raises, the error is reported and the result is `absent`."""

    def call(document: DomainModel, refuse: Refuse) -> T:
        try:
            return function(what, document)
        except FunctionRaised as error:
            refuse(error)
            return absent

    return call


def _value_of(aggregate: Aggregate) -> OfDocument[Any]:
    """Returns the function that reads what a document adds to an aggregate."""
    if isinstance(aggregate.fold, Count) and aggregate.where is None:
        return lambda document, refuse: 0  # every document counts
    return _tried(aggregated_value, aggregate, NOTHING)


def _sort_key(edge: Edge, document: Any) -> bytes:
    return b"" if edge.order is None else sort_key(edge.order.ranks(document), edge.order.descending, document.path)


def _keys(planned: PlannedEdge) -> OfDocument[Any]:
    """Returns the function that reads `Contribution.keys`."""
    edge = planned.edge
    match edge:
        case Root():
            row_id = planned.view.row_id
            return lambda document, refuse: (row_id(document.path),)
        case Group():
            return _tried(lambda ids, document: ids(document), group_ids_of(edge), {})
        case Reference() | Fixed():
            return lambda document, refuse: (document.path,)
        case Referrers():
            return _paths(edge.by) or _tried(lambda referrers, document: tuple(targets(referrers, document)), edge, ())
        case _:
            assert_never(edge)


def links_of(edge: Reference) -> OfDocument[Paths]:
    """Returns the function that reads the paths to which a parent document refers, each once, in the field's order."""
    return _paths(edge.field) or _tried(_references, edge, ())


def _references(edge: Reference, document: Any) -> Paths:
    return tuple(dict.fromkeys([path for _, path in references(edge, document)]))


def keyed_links_of(edge: Reference) -> Callable[[DomainModel], list[tuple[str | None, str]]]:
    """Returns the function that reads these paths with their keys in a map, sorted by key; it reports no errors."""
    known = partial(known_references, edge)
    if not (edge.field.is_map and edge.field.holds_paths):
        return known
    stored = stored_value(edge.field.text)

    def items(document: DomainModel) -> list[tuple[str | None, str]]:
        refs = stored(document)
        return sorted(refs.items()) if refs and type(next(iter(refs.values()))) is str else known(document)

    return items


def _paths(field: FieldPath) -> OfDocument[Paths] | None:
    """Returns a fast reader of the paths in a plain field of references; None for other fields."""
    is_map = field.is_map
    if not field.holds_paths:
        return None
    stored = stored_value(field.text)

    def one(document: DomainModel, refuse: Refuse) -> Paths:
        ref = stored(document)
        return () if ref is None else (ref if type(ref) is str else ref.path,)

    def several(document: DomainModel, refuse: Refuse) -> Paths:
        refs = stored(document)
        if not refs:
            return ()
        values = refs.values() if is_map else refs
        if type(next(iter(values))) is not str:
            values = [ref.path for ref in values if ref is not None]
        return tuple(dict.fromkeys(values))

    return several if field.is_many else one
