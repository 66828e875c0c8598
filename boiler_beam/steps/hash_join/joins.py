"""The joins of a hash join: rows that request a document, and the document, meet in the partition of its path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from boiler_beam.plan import Referrers
from boiler_beam.steps.hash_join.matches import FirstDocuments, Matches, Requests, add_request
from boiler_beam.steps.hash_join.messages import Document, LookupRequest, Match, Taint, ViewTaint
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
                for index in message.contributions:
                    inputs[index].documents.setdefault(message.key, []).append(message)
    matches = Matches(plan, level, send)
    for edge, found in zip(plan.edges, inputs, strict=True):
        for match in found.first.settled():
            matches.show(edge, match)
        if edge.match_level == level:
            _join(edge, inputs, matches, send)
    matches.finish()


class _Inputs:
    """The messages to one partition, for one edge: candidates, requests, and documents by key."""

    def __init__(self, limit: int) -> None:
        self.documents: dict[str, list[Document]] = {}
        self.requests: Requests = {}
        self.first = FirstDocuments(limit)


def _join(edge: JoinedEdge, inputs: Sequence[_Inputs], matches: Matches, send: Send) -> None:
    """Joins documents with the rows that request their keys; of referrers, with the rows that have the parent."""
    is_referring = isinstance(edge.edge, Referrers)
    at_key = edge.parent if is_referring and edge.parent is not None else edge
    requests, documents = inputs[at_key.index].requests, inputs[at_key.index].documents
    for key, some in inputs[edge.index].documents.items():
        parents = documents.get(key, ())
        is_shown = any(one.contributions[at_key.index] is not None for one in parents)
        is_hidden = is_referring and at_key.meets_children and not is_shown
        if key not in requests or is_hidden:
            continue
        for one in some:
            contribution = one.contributions[edge.index]
            if contribution is None:
                _taint(edge, one.path, requests[key], send)
            else:
                matches.add(edge, contribution, one.path, one.version, one.fields, requests[key])


def _taint(edge: JoinedEdge, document: str, rows: Iterable[str] | None, send: Send) -> None:
    view_index = edge.planned.view_index
    if rows is None:
        send(WRITE, ViewTaint(view_index, PossibleMember(document)))
    else:
        send(ROWS, Taint(view_index, False, document, list(rows)))
