"""The last stage of a partitioned backfill: values and accumulators meet in the row's partition, and getters run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from boiler_beam.events import DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Edge, Group, Root, ViewPlan
from boiler_beam.steps.claims import Claims
from boiler_beam.steps.messages import Absent, Claim, Contribution, Failure, Own, Rendered, State, Taint, Unknown, Value
from boiler_beam.steps.missing import Absences, unmade
from boiler_beam.steps.partition.levels import CLAIMS, WRITE, PartitionedPlan, Send
from boiler_beam.steps.row import Copy, is_missing, render
from boiler_beam.steps.taint import marked
from boiler_beam.values import from_wire

__all__ = ["render_rows", "settle_claims"]

_NOTHING: dict[str, Any] = {}


def render_rows(plan: PartitionedPlan, messages: Iterable[Any], send: Send) -> None:
    """Of one partition of rows: puts each row together and runs its getters."""
    documents: dict[tuple[int, str], DomainModel] = {}
    views = [_Rows(plan, place, documents, send) for place in range(len(plan.plan.views))]
    for message in messages:
        match message:
            case Value():
                views[plan.edges[message.edge][0]].value(message)
            case State():
                views[message.view].state(message)
            case Contribution():
                for row in views[message.view].addressed(message.rows):
                    row.contributions.setdefault(message.aggregate, {})[message.path] = message.value
            case Own():
                for row_id, key in message.keys.items():
                    (row,) = views[message.view].addressed([row_id])
                    row.has_own, row.key = True, from_wire(key)
            case Taint():
                for row in views[message.view].addressed(message.rows):
                    row.tainted_by[message.document] = row.tainted_by.get(message.document, False) or message.is_root
    for view in views:
        view.render()
        if view.absences != Absences():
            send(WRITE, Absent(view.place, **asdict(view.absences)))


class _Row:
    """What came to one row."""

    __slots__ = ("contributions", "has_own", "key", "states", "tainted_by", "values")

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Value]] = {}
        self.states: dict[int, Any] = {}
        self.contributions: dict[int, dict[str, Any]] = {}
        self.key: Any = None
        self.has_own = False
        self.tainted_by: dict[str, bool] = {}
        """The invalid documents that may belong to the row, each with whether it may make it."""


class _Rows:
    """The rows of one view in this partition, and what every row of it reached."""

    def __init__(
        self, plan: PartitionedPlan, place: int, documents: dict[tuple[int, str], DomainModel], send: Send
    ) -> None:
        self.plan, self.place, self.documents, self.send = plan, place, documents, send
        self.view: ViewPlan = plan.plan.views[place]
        self.rows: dict[str, _Row] = {}
        self.shared = _Row()
        self.absences, self.number_of_letters = Absences(), 0

    def addressed(self, ids: list[str] | None) -> list[_Row]:
        """The rows that a message is for."""
        if ids is None:
            return [self.shared]
        found = []
        for row_id in ids:
            row = self.rows.get(row_id)
            if row is None:
                row = self.rows[row_id] = _Row()
            found.append(row)
        return found

    def value(self, message: Value) -> None:
        """A document that rows reached."""
        edge = self.plan.edges[message.edge][1]
        is_own = isinstance(edge, Root)
        for row in self.addressed(message.rows):
            row.values.setdefault(edge.name, {})[message.path] = message
            if is_own:
                row.has_own = True

    def state(self, message: State) -> None:
        """Accumulators of one aggregate."""
        place, fold = message.aggregate, self.view.aggregates[message.aggregate].fold
        for row_id, packed in message.states.items():
            (row,) = self.addressed([row_id])
            state = fold.unpack(from_wire(packed))
            if place in row.states:
                fold.merge(row.states[place], state)
            else:
                row.states[place] = state

    def render(self) -> None:
        """Runs the getters of every row that exists."""
        for row_id, row in self.rows.items():
            tainted_by = tuple(sorted(one for one, is_root in row.tainted_by.items() if row.has_own or is_root))
            number = self.number_of_letters
            copies: Sequence[Copy] = ()
            if row.has_own:
                reached = self._reached(row)
                copies = self._copies(row_id, row, reached)
                if self.number_of_letters > number:
                    self.absences.failed += all(copy.fields is None for copy in copies)
                elif not copies and not tainted_by:
                    self.absences.add(unmade(self.view, reached))
            for copy in marked(self.view, row_id, copies, tainted_by) if tainted_by else copies:
                self._send(row_id, copy)

    def _send(self, row_id: str, copy: Copy) -> None:
        if not self.view.paths.is_unique:
            self.send(CLAIMS, Claim(copy.path, self.place, row_id, copy.fields, copy.tainted_by))
        else:
            send_copy(self.place, copy, self.send)

    def _values(self, row: _Row, name: str) -> dict[str, Value]:
        return row.values.get(name) or self.shared.values.get(name) or _NOTHING

    def _reached(self, row: _Row) -> Callable[[str], dict[str, DomainModel]]:
        """The documents that a row has over each edge, by its name."""
        known: dict[str, dict[str, DomainModel]] = {}

        def reached(name: str) -> dict[str, DomainModel]:
            found = known.get(name)
            if found is None:
                edge, values = self.view.by_name[name], self._values(row, name)
                found = known[name] = {path: self._decoded(edge, value) for path, value in values.items()}
            return found

        return reached

    def _refuse(self, letter: DeadLetter) -> None:
        self.number_of_letters += 1
        self.send(WRITE, Failure(letter))

    def _copies(self, row_id: str, row: _Row, reached: Callable[[str], dict[str, DomainModel]]) -> Sequence[Copy]:
        shared, view = self.shared, self.view
        if any(is_missing(edge, self._values(row, edge.name)) for edge in view.edges):  # type: ignore[arg-type]
            return ()

        def aggregate(place: int) -> Any:
            fold = view.aggregates[place].fold
            state = row.states.get(place)
            if state is None:
                state = fold.empty()
            for source in (row, shared):
                for member, value in source.contributions.get(place, _NOTHING).items():
                    fold.add(state, member, from_wire(value))
            return fold.result(state)

        if isinstance(view.root, Group):
            key = tuple(row.key) if view.root.is_tuple else row.key
        else:
            key = row_id[row_id.rfind("/") + 1 :]
        return render(view, row_id, key, reached, aggregate, self._refuse)

    def _decoded(self, edge: Edge, value: Value) -> Any:
        codec = self.plan.plan.families[edge.family]
        if self.plan.travelling[value.edge] is not None:
            return codec.partial(value.path, value.version, value.fields)
        document = self.documents.get((edge.family, value.path))
        if document is None:
            document = codec.decode(value.path, value.version, value.fields)
            self.documents[edge.family, value.path] = document
        return document


def send_copy(view: int, copy: Copy, send: Send) -> None:
    """A copy goes to the sink."""
    path, fields, tainted_by = copy
    send(WRITE, Unknown(view, path, tainted_by) if fields is None else Rendered(view, path, fields, tainted_by))


def settle_claims(plan: PartitionedPlan, messages: Iterable[Any], send: Send) -> None:
    """Of one partition of row paths: says which row has each path (S11)."""
    claims = [Claims(view.name) for view in plan.plan.views]
    for message in messages:
        claims[message.view].add(message.row, Copy(message.path, message.fields, message.tainted_by))
    for place, some in enumerate(claims):
        for copy in some.settled():
            send_copy(place, copy, send)
        for letter in some.refused():
            send(WRITE, Failure(letter))
