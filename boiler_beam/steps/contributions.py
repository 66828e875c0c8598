"""What a document says at an edge: whether it is shown, where it is found, what it refers to, what it adds.

Each is a function of the document alone, made once for each edge of a plan. All executors but the oracle take it from
here, so that it is decided once.

| of a document | gives | asked at |
| --- | --- | --- |
| `shows` | whether the edge shows it | every edge |
| `keys` | where rows find it: the ids of rows, the paths of parents, or its own path | every edge |
| `links` | the paths that it refers to | each `reference` that is attached to the edge |
| `values` | what it adds to each aggregate, `NOTHING` where it does not count | edges with aggregates |
| `sort_key` | its place among the documents of a row | edges with a limit |

What a user wrote runs in here (`where=`, `of=`, `by=`, properties). Where it raises, the document is absent from that
edge, aggregate or reference (S10a): `refuse` takes a `FunctionRaised` that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, get_origin

from typing_extensions import assert_never

from boiler_beam.compare import sort_key
from boiler_beam.models import DomainModel
from boiler_beam.plan import Aggregate, Fixed, Group, PlannedEdge, Reference, Referrers, Root
from boiler_beam.plan.fieldpath import FieldPath
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import NOTHING, FunctionRaised, contribution, group_ids, is_shown, references, targets
from boiler_beam.values import Ref

__all__ = ["Contribution", "Contributions", "Question", "Refuse", "contributions_of"]

T = TypeVar("T")
Refuse = Callable[[FunctionRaised], None]
"""Takes what a user's function raised."""
Paths = tuple[str, ...]


@dataclass(frozen=True)
class Question(Generic[T]):
    """One thing that a document is asked.

    Attributes:
        ask: Gives the answer; `absent`, and tells `refuse`, where a user's function raises.
        absent: The answer for a document that is not there.
        may_raise: Whether a user's code answers. Then it need not answer alike when it is asked again: who must know an
            earlier answer keeps it.
    """

    ask: Callable[[DomainModel, Refuse], T]
    absent: T
    may_raise: bool = False


class Contribution(NamedTuple):
    """What one document says at an edge that shows it.

    Attributes:
        keys: Where rows find it; of a group the rows' ids, each with the key that it is made of.
        links: For each of `PlannedEdge.references`, the paths that it refers to.
        values: What it adds to each of `PlannedEdge.aggregates`; `NOTHING` where it does not count.
        sort_key: Its place in the edge's order; empty where the edge has no limit.
    """

    keys: Iterable[str]
    links: tuple[Paths, ...]
    values: tuple[Any, ...]
    sort_key: bytes


@dataclass(frozen=True)
class Contributions:
    """What the documents of one edge are asked.

    Attributes:
        shows: Whether the edge shows the document.
        keys: Where rows find it, each key once.
        group_keys: Of a group, each row's id with the key that it is made of.
        links: For each of `PlannedEdge.references`, the paths that the document refers to, each once.
        values: What it adds to each of `PlannedEdge.aggregates`.
        sort_key: Its place in the edge's order, which no other document has.
        ask: All of it; None of a document that the edge does not show, or that no row can find.
        may_raise: Whether a user's code answers one of these questions.
    """

    shows: Question[bool]
    keys: Question[Paths]
    group_keys: Question[tuple[tuple[str, Any], ...]]
    links: tuple[Question[Paths], ...]
    values: Question[tuple[Any, ...]]
    sort_key: Question[bytes]
    ask: Callable[[DomainModel, Refuse], Contribution | None]
    may_raise: bool


def contributions_of(planned: PlannedEdge) -> Contributions:
    """What the documents of an edge are asked.

    Args:
        planned: The edge.
    """
    edge = planned.edge
    children = [child.edge for child in planned.references]
    shows = _asks(is_shown, edge, False, may_raise=edge.may_raise) if not planned.shows_all else _ALWAYS
    keys, group_keys = _keys(planned), _group_keys(edge)
    links = tuple(_links(child) for child in children if isinstance(child, Reference))
    values = _values([aggregate for _, aggregate in planned.aggregates])
    order = _asks(_place, edge, b"", may_raise=edge.may_raise)
    may_raise = shows.may_raise or keys.may_raise or values.may_raise or order.may_raise
    may_raise = may_raise or any(link.may_raise for link in links)
    return Contributions(
        shows, keys, group_keys, links, values, order,
        _asks_all(planned, shows, keys, group_keys, links, values, order),
        may_raise,
    )  # fmt: skip


def _asks_all(
    planned: PlannedEdge,
    shows: Question[bool],
    keys: Question[Paths],
    group_keys: Question[tuple[tuple[str, Any], ...]],
    links: tuple[Question[Paths], ...],
    values: Question[tuple[Any, ...]],
    order: Question[bytes],
) -> Callable[[DomainModel, Refuse], Contribution | None]:
    """All questions in one; those that have one answer for every document are not asked."""
    is_shown, keys_of, group_keys_of = shows.ask, keys.ask, group_keys.ask
    links_of, values_of, order_of = [link.ask for link in links], values.ask, order.ask
    is_group, is_limited = isinstance(planned.edge, Group), planned.edge.limit is not None
    shows_all, has_values = planned.shows_all, bool(planned.aggregates)

    def ask(document: DomainModel, refuse: Refuse) -> Contribution | None:
        if not (shows_all or is_shown(document, refuse)):
            return None
        found: Iterable[str] = dict(group_keys_of(document, refuse)) if is_group else keys_of(document, refuse)
        if not found:
            return None
        return Contribution(
            found,
            tuple([link_of(document, refuse) for link_of in links_of]) if links_of else (),
            values_of(document, refuse) if has_values else (),
            order_of(document, refuse) if is_limited else b"",
        )

    return ask


_ALWAYS: Question[bool] = Question(lambda document, refuse: True, False)


def _asks(function: Callable[[Any, Any], T], what: Any, absent: T, *, may_raise: bool) -> Question[T]:
    def ask(document: DomainModel, refuse: Refuse) -> T:
        try:
            return function(what, document)
        except FunctionRaised as error:
            refuse(error)
            return absent

    return Question(ask, absent, may_raise)


def _place(edge: Edge, document: Any) -> bytes:
    return b"" if edge.order is None else sort_key(edge.order.ranks(document), edge.order.descending, document.path)


def _keys(planned: PlannedEdge) -> Question[Paths]:
    edge = planned.edge
    match edge:
        case Root():
            row_id = planned.view.row_id
            return Question(lambda document, refuse: (row_id(document.path),), ())
        case Group():
            return _asks(_row_ids, edge, (), may_raise=any(part.may_raise for part in edge.by))
        case Reference() | Fixed():
            return Question(lambda document, refuse: (document.path,), ())
        case Referrers():
            return _paths(edge.by) or _asks(_targets, edge, (), may_raise=edge.by.may_raise)
        case _:
            assert_never(edge)


def _row_ids(edge: Group, document: Any) -> Paths:
    return tuple([row for row, _ in group_ids(edge, document)])


def _group_keys(edge: Edge) -> Question[tuple[tuple[str, Any], ...]]:
    if not isinstance(edge, Group):
        return Question(lambda document, refuse: (), ())
    may_raise = any(part.may_raise for part in edge.by)
    return _asks(lambda group, document: tuple(group_ids(group, document)), edge, (), may_raise=may_raise)


def _links(edge: Reference) -> Question[Paths]:
    return _paths(edge.field) or _asks(_references, edge, (), may_raise=edge.field.may_raise)


def _references(edge: Reference, document: Any) -> Paths:
    return tuple(dict.fromkeys([path for _, path in references(edge, document)]))


def _targets(edge: Referrers, document: Any) -> Paths:
    return tuple(targets(edge, document))


def _paths(field: FieldPath) -> Question[Paths] | None:
    """The paths in a plain field of references; None where it is another one."""
    name, is_ref = field.text, field.annotation is Ref or get_origin(field.annotation) is Ref
    if field.may_raise or not field.is_plain or not is_ref:
        return None

    def one(document: DomainModel, refuse: Refuse) -> Paths:
        ref = getattr(document, name)
        return () if ref is None else (ref.path,)

    def several(document: DomainModel, refuse: Refuse) -> Paths:
        refs = getattr(document, name)
        if not refs:
            return ()
        return tuple(dict.fromkeys([ref.path for ref in (refs.values() if is_map else refs) if ref is not None]))

    is_map = field.is_map
    return Question(several if field.is_many else one, ())


def _values(aggregates: list[Aggregate]) -> Question[tuple[Any, ...]]:
    questions = [_asks(contribution, one, NOTHING, may_raise=one.may_raise).ask for one in aggregates]
    absent = (NOTHING,) * len(aggregates)
    may_raise = any(one.may_raise for one in aggregates)
    if len(questions) == 1:
        (only,) = questions
        return Question(lambda document, refuse: (only(document, refuse),), absent, may_raise)
    return Question(lambda document, refuse: tuple([ask(document, refuse) for ask in questions]), absent, may_raise)
