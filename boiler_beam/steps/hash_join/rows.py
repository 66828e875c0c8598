"""The last stages of a hash join: documents and accumulators meet at the row, whose getters run; then claims settle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from boiler_beam.events import DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import PlannedView, Root
from boiler_beam.steps.claims import Claims
from boiler_beam.steps.hash_join.messages import (
    Accumulators,
    AggregateValue,
    Failure,
    GroupKeys,
    Member,
    RowCopy,
    Rows,
    Statistics,
    Taint,
)
from boiler_beam.steps.hash_join.plan import CLAIMS, WRITE, HashJoinPlan, JoinedEdge, Send
from boiler_beam.steps.missing import Absences, absence_of
from boiler_beam.steps.row import Copy, render
from boiler_beam.steps.taint import taint_copies
from boiler_beam.values import from_wire

__all__ = ["render_rows", "settle_claims"]

_NOTHING: dict[str, Any] = {}


def render_rows(plan: HashJoinPlan, messages: Iterable[Any], send: Send) -> None:
    """Puts the rows of one partition together and runs their getters."""
    decoded: dict[tuple[int, str], DomainModel] = {}
    views = [_ViewRows(plan, view, decoded, send) for view in plan.plan.planned_views]
    for message in messages:
        match message:
            case Member():
                views[plan.edges[message.edge_index].planned.view_index].add_document(message)
            case Accumulators():
                views[message.view_index].add_accumulators(message)
            case AggregateValue():
                for row in views[message.view_index].addressed(message.rows):
                    row.values.setdefault(message.aggregate_index, {})[message.path] = message.value
            case GroupKeys():
                for row_id, key in message.by_row.items():
                    row = views[message.view_index].rows[row_id]
                    row.exists, row.key = True, from_wire(key)
            case Taint():
                for row in views[message.view_index].addressed(message.rows):
                    row.tainted_by[message.document] = row.tainted_by.get(message.document, False) or message.is_root
    for view in views:
        view.render()
    send(WRITE, Statistics(absences={one.view.index: one.absences for one in views}))


@dataclass(slots=True)
class _Row:
    """The messages to one row, or to all rows of a view.

    Attributes:
        documents: By the edge's name, then by path.
        accumulators: By `aggregate_index`.
        values: Values that are added once for each document: by `aggregate_index`, then by the document's path.
        key: The group's key.
        exists: Whether a document makes it.
        tainted_by: The invalid documents that may belong to it, and whether each may make it.
    """

    documents: dict[str, dict[str, Member]] = field(default_factory=dict)
    accumulators: dict[int, Any] = field(default_factory=dict)
    values: dict[int, dict[str, Any]] = field(default_factory=dict)
    key: Any = None
    exists: bool = False
    tainted_by: dict[str, bool] = field(default_factory=dict)


class _ViewRows:
    """The rows of one view in this partition, and the messages for all its rows."""

    def __init__(
        self, plan: HashJoinPlan, view: PlannedView, decoded: dict[tuple[int, str], DomainModel], send: Send
    ) -> None:
        self.plan, self.view, self.send = plan, view, send
        self.absences = Absences()
        self._decoded, self._number_of_dead_letters = decoded, 0
        self.rows = defaultdict[str, _Row](_Row)
        self._shared = _Row()

    def addressed(self, ids: Rows) -> list[_Row]:
        """The rows that a message is for; if it is for all rows, the one that holds what they share."""
        return [self._shared] if ids is None else [self.rows[row_id] for row_id in ids]

    def add_document(self, message: Member) -> None:
        planned = self.plan.edges[message.edge_index].planned
        makes_row = isinstance(planned.edge, Root)
        for row in self.addressed(message.rows):
            row.documents.setdefault(planned.edge.name, {})[message.path] = message
            row.exists = row.exists or makes_row

    def add_accumulators(self, message: Accumulators) -> None:
        index = message.aggregate_index
        fold = self.view.view.aggregates[index].fold
        for row_id, packed in message.by_row.items():
            known, state = self.rows[row_id].accumulators, fold.unpack(from_wire(packed))
            if index in known:
                fold.merge(known[index], state)
            else:
                known[index] = state

    def render(self) -> None:
        """Runs the getters of every row that exists."""
        view = self.view.view
        for row_id, row in self.rows.items():
            tainted_by = tuple(sorted(one for one, makes_row in row.tainted_by.items() if row.exists or makes_row))
            number = self._number_of_dead_letters
            copies: Sequence[Copy] = ()
            if row.exists:
                documents = self._documents_of(row)
                copies = self._copies(row_id, row, documents)
                if self._number_of_dead_letters > number:
                    self.absences.failed += all(copy.fields is None for copy in copies)
                elif not copies and not tainted_by:
                    self.absences.add(absence_of(view, documents))
            stage = WRITE if view.paths.is_unique else CLAIMS
            for copy in taint_copies(view, row_id, copies, tainted_by) if tainted_by else copies:
                self.send(stage, RowCopy(*copy, self.view.index, row_id))

    def _messages(self, row: _Row, name: str) -> dict[str, Member]:
        return row.documents.get(name) or self._shared.documents.get(name) or _NOTHING

    def _documents_of(self, row: _Row) -> Callable[[str], dict[str, DomainModel]]:
        """The documents that a row has over each edge, by the edge's name."""
        return cache(
            lambda name: {path: self._document(message) for path, message in self._messages(row, name).items()}
        )

    def _document(self, message: Member) -> DomainModel:
        edge: JoinedEdge = self.plan.edges[message.edge_index]
        if edge.is_narrowed:
            return edge.decode(message.path, message.version, message.fields)  # type: ignore[no-any-return]
        key = edge.edge.type_index, message.path
        document = self._decoded.get(key)
        if document is None:
            document = self._decoded[key] = edge.decode(message.path, message.version, message.fields)
        return document

    def _refuse(self, dead_letter: DeadLetter) -> None:
        self._number_of_dead_letters += 1
        self.send(WRITE, Failure(dead_letter))

    def _copies(self, row_id: str, row: _Row, documents: Callable[[str], dict[str, DomainModel]]) -> Sequence[Copy]:
        view = self.view.view
        if not all(self._messages(row, edge.name) for edge in view.required):
            return ()
        return render(view, row_id, row.key, documents, lambda index: self._aggregate(row, index), self._refuse)

    def _aggregate(self, row: _Row, index: int) -> Any:
        fold = self.view.view.aggregates[index].fold
        state = row.accumulators.get(index)
        if state is None:
            state = fold.empty()
        for source in (row, self._shared):
            for path, value in source.values.get(index, _NOTHING).items():
                fold.add(state, path, from_wire(value))
        return fold.result(state)


def settle_claims(plan: HashJoinPlan, messages: Iterable[Any], send: Send) -> None:
    """Decides, in one partition of row paths, which row has each path (S11)."""
    claims = [Claims(view.name) for view in plan.plan.views]
    for message in messages:
        claims[message.view_index].add(message.row_id, Copy(message.path, message.fields, message.tainted_by))
    for view_index, some in enumerate(claims):
        for copy in some.settled():
            send(WRITE, RowCopy(*copy, view_index, ""))
        for dead_letter in some.refused():
            send(WRITE, Failure(dead_letter))
