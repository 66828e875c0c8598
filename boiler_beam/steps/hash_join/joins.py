"""The joins of a hash join: rows that request a document, and the document, meet in the partition of its path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from boiler_beam.plan import Reference, Referrers
from boiler_beam.steps.hash_join.limits import FirstDocuments
from boiler_beam.steps.hash_join.matches import Matches, Requests, add_request
from boiler_beam.steps.hash_join.messages import ChildDocument, Document, LookupRequest, Match, Taint, ViewTaint
from boiler_beam.steps.hash_join.plan import ROWS, WRITE, HashJoinPlan, JoinedEdge, Send
from boiler_beam.steps.taint import PossibleMember

__all__ = ["join_level"]


def join_level(plan: HashJoinPlan, level: int, messages: Iterable[Any], send: Send) -> None:
    """Joins, in one partition, the documents that came to it with the rows that request them."""
    inputs = [_Inputs(edge.edge.limit or 0) for edge in plan.edges]
    for message in messages:
        match message:
            case Match():
                inputs[message.edge_index].first.add(message)
            case LookupRequest():
                add_request(inputs[message.edge_index].requests, message.path, message.rows)
            case Document():
                for index, contribution in message.contributions.items():
                    if contribution is None:
                        inputs[index].invalid.add(message.path)
                    else:
                        inputs[index].documents[message.path] = message
            case ChildDocument():
                inputs[message.edge_index].children.append(message)
    matches = Matches(plan, level, send)
    for edge, found in zip(plan.edges, inputs, strict=True):
        for match in found.first.settled():
            matches.show(edge, match)
        if isinstance(edge.edge, Reference) and edge.match_level == level:
            _join_references(edge, found, matches, send)
        elif isinstance(edge.edge, Referrers) and found.children:
            assert edge.parent is not None
            _join_referrers(edge, found, inputs[edge.parent.index], matches, send)
    matches.finish()


class _Inputs:
    """The messages to one partition, for one edge."""

    def __init__(self, limit: int) -> None:
        self.documents: dict[str, Document] = {}
        self.invalid: set[str] = set()
        self.requests: Requests = {}
        self.children: list[ChildDocument] = []
        self.first = FirstDocuments(limit)


def _join_references(edge: JoinedEdge, inputs: _Inputs, matches: Matches, send: Send) -> None:
    """Documents with the rows that request their paths."""
    for path, rows in inputs.requests.items():
        if path in inputs.invalid:
            _taint(edge, path, rows, send)
        document = inputs.documents.get(path)
        contribution = None if document is None else document.contributions[edge.index]
        if document is not None and contribution is not None:
            matches.add(edge, contribution, path, document.version, document.fields, rows)


def _join_referrers(edge: JoinedEdge, inputs: _Inputs, parents: _Inputs, matches: Matches, send: Send) -> None:
    """Documents with the rows of the parents that they name; a parent that is missing or hidden has none."""
    assert edge.parent is not None
    rows_of, shown = parents.requests, parents.documents if edge.parent.meets_children else None
    for child in inputs.children:
        if child.parent not in rows_of or (shown is not None and child.parent not in shown):
            continue
        rows = rows_of[child.parent]
        if child.contribution is None:
            _taint(edge, child.path, rows, send)
        else:
            matches.add(edge, child.contribution, child.path, child.version, child.fields, rows)


def _taint(edge: JoinedEdge, document: str, rows: Iterable[str] | None, send: Send) -> None:
    view_index = edge.planned.view_index
    if rows is None:
        send(WRITE, ViewTaint(view_index, PossibleMember(document)))
    else:
        send(ROWS, Taint(view_index, False, document, list(rows)))
