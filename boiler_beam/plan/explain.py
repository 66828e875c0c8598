"""Prints a plan: the edges of each view, the collections, and which rows the change of a document affects."""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import assert_never

from boiler_beam.plan.impure import warnings_of
from boiler_beam.plan.planned import Plan
from boiler_beam.plan.tree import Edge, Fixed, Group, Reference, Referrers, Root, ViewPlan
from boiler_beam.views.fold import Collect

__all__ = ["explain"]


def explain(plan: Plan) -> str:
    """Returns a description of a plan for people.

    >>> from boiler_beam.plan import compile_plan
    >>> from boiler_beam.samples.meeting import OrganizationSummary
    >>> print(explain(compile_plan([OrganizationSummary])))
    OrganizationSummary: rows at organization_summaries/{id}
    users: group of users by organization (dict; no getter reads it)
    └─ tickets: referrers, tickets whose field user refers to edge users (dict; no getter reads it)
    aggregates: num_users over users, num_attending over tickets, num_hearing_aid over users
    <BLANKLINE>
    users: a change affects
      OrganizationSummary.users: the row of its organization; also that of the old one, if it changes;
        adds to num_users, num_hearing_aid
    <BLANKLINE>
    tickets: a change affects
      OrganizationSummary.tickets: the rows with the document to which its field user refers;
        adds to num_attending
    """
    parts = ["\n".join(_view(view)) for view in plan.views]
    for index, document_type in enumerate(plan.document_types):
        lines = [f"{document_type.pattern.text}: a change affects"]
        for view in plan.views:
            for edge in view.edges:
                if edge.type_index == index:
                    lines += _affected(view, edge)
        lines += [f"  note: {note}" for note in document_type.notes()]
        parts.append("\n".join(lines))
    if warnings := warnings_of(plan):
        parts.append("\n".join(f"warning: {warning}" for warning in warnings))
    return "\n\n".join(parts)


def _view(view: ViewPlan) -> Iterator[str]:
    yield f"{view.name}: rows at {view.paths.template}"
    if view.has_paths:
        yield f"copies: paths() says where, up to {view.max_paths:,} for each row; each is a write of its own"
    if not view.paths.is_unique:
        yield "warning: two rows may want one path; the smaller id has it, the other is a dead letter"
    yield from _branch(view, view.root, "", "")
    if view.aggregates:
        yield f"aggregates: {', '.join(f'{one.name} over {one.edge}' for one in view.aggregates)}"
    for one in view.aggregates:
        if isinstance(one.fold, Collect) and one.fold.limit is None:
            yield f"warning: {one.name} collects without a limit: every change of a member sends all of them again"


def _branch(view: ViewPlan, edge: Edge, indent: str, mark: str) -> Iterator[str]:
    notes = ["dict" if edge.is_many else "one document"]
    if isinstance(edge, (Reference, Fixed)) and edge.is_required:
        notes.append("required: no row without it")
    if edge.where is not None:
        notes.append("where= filters")
    if edge.order is not None and edge.order.names:
        notes.append(f"by {', '.join(edge.order.names)}")
    if edge.limit is not None:
        notes.append(f"the first {edge.limit:,}")
    if edge.only is not None:
        notes.append(f"only {', '.join(edge.only)}")
    if not edge.is_read:
        notes.append("no getter reads it")
    yield f"{indent}{mark}{edge.name}: {_way(edge)} ({'; '.join(notes)})"
    children = view.children[edge.name]
    below = indent + {"": "", "├─ ": "│  ", "└─ ": "   "}[mark]
    for child in children:
        yield from _branch(view, child, below, "└─ " if child is children[-1] else "├─ ")


def _way(edge: Edge) -> str:
    collection = edge.model.__boiler__.collection
    name = collection.text if collection is not None else ""
    match edge:
        case Root():
            return f"root, one row for each of {name}"
        case Group():
            return f"group of {name} by {edge.text}"
        case Reference():
            return f"reference {edge.parent}.{edge.field.text}, in {name}"
        case Referrers():
            return f"referrers, {name} whose field {edge.by.text} refers to edge {edge.parent}"
        case Fixed():
            return f"document {edge.path}"
        case _:
            assert_never(edge)


def _affected(view: ViewPlan, edge: Edge) -> Iterator[str]:
    sums = [one.name for _, one in view.aggregates_of[edge.name]]
    ends = ";" if sums else ""
    yield f"  {view.name}.{edge.name}: {_rows(edge)}{ends}"
    if sums:
        yield f"    adds to {', '.join(sums)}"


def _rows(edge: Edge) -> str:
    match edge:
        case Root():
            return "its own row"
        case Group():
            return f"the row of its {edge.text}; also that of the old one, if it changes"
        case Reference():
            return f"the rows that refer to it by {edge.parent}.{edge.field.text}"
        case Referrers():
            return f"the rows with the document to which its field {edge.by.text} refers"
        case Fixed():
            return "every row"
        case _:
            assert_never(edge)
