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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_origin

from typing_extensions import assert_never

from boiler_beam.compare import sort_key
from boiler_beam.models import DomainModel
from boiler_beam.plan import Aggregate, Fixed, Group, PlannedEdge, Reference, Referrers, Root
from boiler_beam.plan.fieldpath import FieldPath
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import NOTHING, FunctionRaised, contribution, group_ids, is_shown, references, targets
from boiler_beam.values import Ref

__all__ = ["Contributions", "Question", "Refuse", "contributions_of"]

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
        may_raise: Whether a user's code answers, or an answer may be refused. Then it need not answer alike when it is
            asked again: who must know an earlier answer keeps it.
    """

    ask: Callable[[DomainModel, Refuse], T]
    absent: T
    may_raise: bool = False


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
    """

    shows: Question[bool]
    keys: Question[Paths]
    group_keys: Question[tuple[tuple[str, Any], ...]]
    links: tuple[Question[Paths], ...]
    values: Question[tuple[Any, ...]]
    sort_key: Question[bytes]


def contributions_of(planned: PlannedEdge) -> Contributions:
    """What the documents of an edge are asked.

    Args:
        planned: The edge.
    """
    edge = planned.edge
    children = [child.edge for child in planned.references]
    return Contributions(
        shows=_asks(is_shown, edge, False, may_raise=edge.may_raise) if not planned.shows_all else _ALWAYS,
        keys=_keys(planned),
        group_keys=_group_keys(edge),
        links=tuple(_links(child) for child in children if isinstance(child, Reference)),
        values=_values([aggregate for _, aggregate in planned.aggregates]),
        sort_key=_asks(_place, edge, b"", may_raise=edge.may_raise),
    )


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
            return _asks(_row_ids, edge, (), may_raise=True)
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
    return _asks(lambda group, document: tuple(group_ids(group, document)), edge, (), may_raise=True)


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
