"""A backfill in partitions: every document is asked once, where it lies, and messages alone travel from then on.

    observed -> 0: newest versions; each says what it is at every edge  -> wants, hanging documents, documents that wait
             -> 1 ... n: the join of each level: who wants a document, and the document, meet in its partition
             -> rows: values and folded accumulators meet in the row's partition, and getters run

The *level* of an edge is the join that knows which rows reach its documents. All edges of a level share one grouping:

    meeting 0 (root) -> users 1, tickets 1, location 1
    users 0 (group)  -> tickets 1 (referrers: they hang in the partition of the user that they name)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import cached_property
from typing import Any, assert_never

import msgspec

from boiler_beam.errors import RenderError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, Plan, Reference, Referrers, Root
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import NOTHING, FunctionRaised, contribution, group_ids, is_shown, references, targets
from boiler_beam.steps.messages import (
    Contribution,
    Document,
    Failure,
    Hang,
    Invalid,
    Link,
    Observed,
    Own,
    Rendered,
    Role,
    State,
    Statistics,
    Taint,
    Unknown,
    Value,
    Want,
)
from boiler_beam.steps.newest import NewestVersions, dead_letter_of
from boiler_beam.steps.row import is_missing, render
from boiler_beam.values import from_wire, to_wire

__all__ = ["ROWS", "WRITE", "PartitionedPlan", "ask_documents", "join_level", "render_rows"]

ROWS, WRITE = -1, -2
"""Where messages go beside the joins (1, 2, ...): to the rows' partitions, and to the sink."""

Send = Callable[[int, Any], None]
"""Takes where a message goes, and the message."""


class PartitionedPlan:
    """A plan with its edges numbered and placed in levels."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.edges: list[tuple[int, Edge]] = list(plan.edges())
        self._number = {(view, edge.name): number for number, (view, edge) in enumerate(self.edges)}
        self.of_family: list[list[int]] = [
            [number for number, (_, edge) in enumerate(self.edges) if edge.family == family]
            for family in range(len(plan.families))
        ]
        self.parent = [self._number[view, edge.parent] if edge.parent else None for view, edge in self.edges]
        self.children = [
            [child for child, parent in enumerate(self.parent) if parent == number] for number in range(len(self.edges))
        ]
        self.level: list[int] = []
        for number, (_, edge) in enumerate(self.edges):
            self.level.append(self._level(number, edge))
        numbers = range(len(self.edges))
        self.announces = [self._announces(number) for number in numbers]
        self.repeats = [self._repeats(number) for number in numbers]
        self.shows_all = [edge.where is None and edge.model is plan.families[edge.family].base for _, edge in self.edges]

    def _level(self, number: int, edge: Edge) -> int:
        parent = self.parent[number]
        if parent is None or isinstance(edge, Fixed):
            return 0
        match edge:
            case Reference():
                return self.level[parent] + 1
            case Referrers():
                if isinstance(self.edges[parent][1], Root):
                    return 0  # a root's path says which row it makes
                return self.level[parent] + (0 if self._meets_children(parent) else 1)
            case _:
                raise AssertionError("a root hangs on nothing")

    def _meets_children(self, number: int) -> bool:
        """Whether the rows of an edge are known where its documents lie, in a join that referrers can come to."""
        return isinstance(self.edges[number][1], Reference)

    def _announces(self, number: int) -> bool:
        """Whether an edge's rows must be sent to where its documents lie, for its referrers to meet them."""
        if self._meets_children(number) or isinstance(self.edges[number][1], Root):
            return False
        return any(isinstance(self.edges[child][1], Referrers) for child in self.children[number])

    @cached_property
    def depth(self) -> int:
        """How many joins there are."""
        return max(self.level)

    @cached_property
    def travels(self) -> list[bool]:
        """Of each edge, whether its documents are needed at the row: read, required, or what gives a dict its order."""
        needed = [edge.is_read or isinstance(edge, Root) or (isinstance(edge, (Reference, Fixed)) and edge.is_required) for _, edge in self.edges]
        for number, (_, edge) in enumerate(self.edges):
            parent = self.parent[number]
            if edge.is_read and edge.is_many and isinstance(edge, Reference) and parent is not None:
                needed[parent] = True
        return needed

    def _repeats(self, number: int) -> bool:
        """Whether one document can come to a row from several partitions over this edge."""
        edge = self.edges[number][1]
        return isinstance(edge, Referrers) and self.level[number] > 0 and edge.by.is_many

    def row_path(self, view: int, row_id: str) -> str:
        before, behind = self.plan.views[view].row_path
        return f"{before}{row_id}{behind}"


class _Reached:
    """Tells rows, accumulators and the next join of the documents that rows reached."""

    def __init__(self, plan: PartitionedPlan, level: int, send: Send) -> None:
        self.plan, self.next_level, self.send = plan, level + 1, send
        self.wants: dict[tuple[int, str], dict[str, None] | None] = {}
        self.states: dict[tuple[int, int], dict[str, Any]] = {}

    def tell(self, role: Role, path: str, version: int, fields: bytes, rows: Iterable[str] | None) -> None:
        """A document was reached by rows over the edge of its role."""
        number = role.edge
        view, _ = self.plan.edges[number]
        ids = None if rows is None else list(rows)
        if self.plan.travels[number]:
            self.send(ROWS, Value(number, path, version, fields, ids))
        for place, value in role.contributions:
            if ids is None or self.plan.repeats[number]:
                self.send(ROWS, Contribution(view, place, path, value, ids))
                continue
            fold = self.plan.plan.views[view].aggregates[place].fold
            states = self.states.setdefault((view, place), {})
            known = from_wire(value)
            for row in ids:
                if row not in states:
                    states[row] = fold.empty()
                fold.add(states[row], path, known)
        for link in role.links:
            for child in link.paths:
                self.want(link.edge, child, ids)
        if self.plan.announces[number]:
            self.want(number, path, ids)

    def want(self, edge: int, path: str, rows: Iterable[str] | None) -> None:
        """Rows want a document over an edge, in the next join."""
        if rows is None:
            self.wants[edge, path] = None
            return
        known = self.wants.setdefault((edge, path), {})
        if known is not None:
            known.update(dict.fromkeys(rows))

    def finish(self) -> None:
        """Sends what was gathered."""
        for (edge, path), rows in self.wants.items():
            self.send(self.next_level, Want(edge, path, None if rows is None else list(rows)))
        for (view, place), states in self.states.items():
            fold = self.plan.plan.views[view].aggregates[place].fold
            self.send(ROWS, State(view, place, {row: to_wire(fold.pack(state)) for row, state in states.items()}))


def ask_documents(plan: PartitionedPlan, observed: Iterable[Observed], send: Send) -> None:
    """Of one partition's changes: the newest versions, and what each document says at every edge."""

    def refuse(letter: DeadLetter) -> None:
        send(WRITE, Failure(letter))

    versions = NewestVersions(plan.plan, refuse)
    versions.add_all(Change(one.path, one.version, msgspec.Raw(one.fields)) for one in observed)
    reached = _Reached(plan, 0, send)
    own: dict[int, dict[str, Any]] = {}
    for family, documents in enumerate(versions.documents):
        changes = versions.changes[family]
        for path, document in documents.items():
            _Asked(plan, reached, own, send, document, changes[path]).ask(plan.of_family[family])
        for path in versions.invalid[family]:
            readings = [reading for reading in (documents.get(path), versions.partial(family, path)) if reading is not None]
            _tell_invalid(plan, plan.of_family[family], path, readings, send)
    for view, keys in own.items():
        send(ROWS, Own(view, keys))
    reached.finish()
    invalid = [family for family, some in enumerate(versions.invalid) if some]
    send(WRITE, Statistics(0, sum(map(len, versions.documents)), 0, invalid))


class _Asked:
    """One document, asked what it is at every edge of its family."""

    def __init__(
        self, plan: PartitionedPlan, reached: _Reached, own: dict[int, dict[str, Any]], send: Send,
        document: DomainModel, change: Change,
    ) -> None:  # fmt: skip
        self.plan, self.reached, self.own, self.send = plan, reached, own, send
        self.document, self.change = document, change

    def ask(self, numbers: list[int]) -> None:
        waiting: dict[int, list[Role]] = {}
        path, version = self.document.path, self.document.version
        fields = b""
        for number in numbers:
            view, edge = self.plan.edges[number]
            if not (self.plan.shows_all[number] or self._tried(is_shown, view, edge, self.document)):
                continue
            role = self._role(number, view, edge)
            if not fields:
                fields = bytes(self.change.fields)
            match edge:
                case Root():
                    self.reached.tell(role, path, version, fields, [self.document.doc_id])
                case Group():
                    keys = self._tried(group_ids, view, edge, self.document) or []
                    if keys:
                        self.own.setdefault(view, {}).update((row, to_wire(_plain(key))) for row, key in keys)
                        self.reached.tell(role, path, version, fields, [row for row, _ in keys])
                case Fixed():
                    if path == edge.path:
                        self.reached.tell(role, path, version, fields, None)
                case Reference():
                    waiting.setdefault(self.plan.level[number], []).append(role)
                case Referrers():
                    self._hang(number, view, edge, role, fields)
                case _:
                    assert_never(edge)
        for level, roles in waiting.items():
            self.send(level, Document(path, version, fields, roles))

    def _role(self, number: int, view: int, edge: Edge) -> Role:
        contributions = []
        for place, aggregate in self.plan.plan.views[view].aggregates_of[edge.name]:
            value = self._tried(contribution, view, aggregate, self.document)
            if value is not None and value is not NOTHING:
                contributions.append((place, to_wire(value)))
        links = []
        for child in self.plan.children[number]:
            child_edge = self.plan.edges[child][1]
            if isinstance(child_edge, Reference):
                found = self._tried(references, view, child_edge, self.document)
                if found:
                    links.append(Link(child, list(dict.fromkeys(path for _, path in found))))
        return Role(number, contributions, links)

    def _hang(self, number: int, view: int, edge: Referrers, role: Role, fields: bytes) -> None:
        parents = self._tried(targets, view, edge, self.document) or []
        path, version = self.document.path, self.document.version
        if self.plan.level[number] == 0:
            if parents:
                self.reached.tell(role, path, version, fields, [parent[parent.rfind("/") + 1 :] for parent in parents])
            return
        travels = self.plan.travels[number]
        for parent in parents:
            self.send(self.plan.level[number], Hang(number, parent, path, version, fields if travels else b"", role))

    def _tried(self, function: Callable[[Any, Any], Any], view: int, what: Any, document: DomainModel) -> Any:
        try:
            return function(what, document)
        except FunctionRaised as error:
            message = f"{self.plan.plan.views[view].name}: {error}"
            self.send(WRITE, Failure(dead_letter_of("down", error.code, message, self.change)))
            return None


def _plain(key: Any) -> Any:
    """A group key as a Firestore value: an Enum's member by its value."""
    return key.value if isinstance(key, Enum) else key


def _typed(key: Any, edge: Group) -> Any:
    """The key as the group's field has it."""
    kind = edge.by.annotation
    return kind(key) if isinstance(kind, type) and issubclass(kind, Enum) else key


def _tell_invalid(plan: PartitionedPlan, numbers: list[int], path: str, readings: list[Any], send: Send) -> None:
    """Taints what an invalid document may reach (S5)."""
    waiting: dict[int, list[int]] = {}
    for number in numbers:
        view, edge = plan.edges[number]
        match edge:
            case Root():
                send(ROWS, Taint(view, True, [path[path.rfind("/") + 1 :]]))
            case Fixed():
                if path == edge.path:
                    send(ROWS, Taint(view, False, None))
            case Reference():
                waiting.setdefault(plan.level[number], []).append(number)
            case Group():
                rows = dict.fromkeys(row for reading in readings for row, _ in _known(group_ids, edge, reading))
                if rows:
                    send(ROWS, Taint(view, True, list(rows)))
            case Referrers():
                parents = list(dict.fromkeys(one for reading in readings for one in _known(targets, edge, reading)))
                if plan.level[number] == 0:
                    if parents:
                        send(ROWS, Taint(view, False, [parent[parent.rfind("/") + 1 :] for parent in parents]))
                else:
                    for parent in parents:
                        send(plan.level[number], Hang(number, parent, path, 0, b"", None))
            case _:
                assert_never(edge)
    for level, edges in waiting.items():
        send(level, Invalid(path, edges))


def _known(function: Callable[[Any, Any], Any], edge: Edge, reading: Any) -> Any:
    try:
        return function(edge, reading)
    except FunctionRaised:  # the field that would say it is the invalid one
        return ()


def join_level(plan: PartitionedPlan, level: int, messages: Iterable[Any], send: Send) -> None:
    """Of one partition: brings together those who want documents, and the documents that lie or hang there."""
    documents: dict[tuple[int, str], tuple[Document, Role]] = {}
    invalid: set[tuple[int, str]] = set()
    wants: dict[int, dict[str, dict[str, None] | None]] = {}
    hanging: dict[int, list[Hang]] = {}
    for message in messages:
        match message:
            case Document():
                for role in message.roles:
                    documents[role.edge, message.path] = (message, role)
            case Invalid():
                invalid.update((edge, message.path) for edge in message.edges)
            case Want():
                _add_rows(wants.setdefault(message.edge, {}), message.path, message.rows)
            case Hang():
                hanging.setdefault(message.edge, []).append(message)
    reached = _Reached(plan, level, send)
    for number, (view, edge) in enumerate(plan.edges):
        if isinstance(edge, Reference) and plan.level[number] == level:
            for path, rows in wants.get(number, {}).items():
                if (number, path) in invalid:
                    send(ROWS, Taint(view, False, None if rows is None else list(rows)))
                if (found := documents.get((number, path))) is not None:
                    document, role = found
                    reached.tell(role, path, document.version, document.fields, rows)
        elif isinstance(edge, Referrers) and number in hanging:
            parent = plan.parent[number]
            assert parent is not None
            parents = wants.get(parent, {})
            if plan.level[parent] == level:  # a parent that is missing or hidden hangs nothing on a row
                parents = {path: rows for path, rows in parents.items() if (parent, path) in documents}
            for hang, rows in _rows_of_hanging(hanging[number], parents):
                if hang.role is None:
                    send(ROWS, Taint(view, False, None if rows is None else list(rows)))
                else:
                    reached.tell(hang.role, hang.path, hang.version, hang.fields, rows)
    reached.finish()


def _add_rows(known: dict[str, dict[str, None] | None], path: str, rows: Iterable[str] | None) -> None:
    if rows is None or known.setdefault(path, {}) is None:
        known[path] = None
    else:
        known[path].update(dict.fromkeys(rows))  # type: ignore[union-attr]


def _rows_of_hanging(hanging: list[Hang], parents: dict[str, dict[str, None] | None]) -> Iterable[tuple[Hang, Iterable[str] | None]]:
    """Each hanging document once, with the rows of all its parents here."""
    first: dict[tuple[str, bool], Hang] = {}
    rows: dict[str, dict[str, None] | None] = {}
    for hang in hanging:
        if hang.parent in parents:
            key = f"{hang.path}\0{hang.role is None}"
            first.setdefault((hang.path, hang.role is None), hang)
            _add_rows(rows, key, parents[hang.parent])
    return [(hang, rows[f"{path}\0{is_invalid}"]) for (path, is_invalid), hang in first.items()]


class _Row:
    """What came to one row."""

    __slots__ = ("contributions", "has_own", "is_root_tainted", "is_tainted", "key", "states", "values")

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Value]] = {}
        self.states: dict[int, Any] = {}
        self.contributions: dict[int, dict[str, Any]] = {}
        self.key: Any = None
        self.has_own = self.is_tainted = self.is_root_tainted = False


def render_rows(plan: PartitionedPlan, messages: Iterable[Any], send: Send) -> None:
    """Of one partition of rows: puts each row together and runs its getters."""
    rows: list[dict[str, _Row]] = [{} for _ in plan.plan.views]
    shared: list[_Row] = [_Row() for _ in plan.plan.views]  # what every row of a view reached

    def addressed(view: int, ids: list[str] | None) -> Iterable[_Row]:
        if ids is None:
            return (shared[view],)
        known = rows[view]
        return [known.get(row) or known.setdefault(row, _Row()) for row in ids]

    for message in messages:
        match message:
            case Value():
                view, edge = plan.edges[message.edge]
                for row in addressed(view, message.rows):
                    row.values.setdefault(edge.name, {})[message.path] = message
                    if isinstance(edge, Root):
                        row.has_own = True
            case State():
                fold = plan.plan.views[message.view].aggregates[message.aggregate].fold
                for row_id, packed in message.states.items():
                    (row,) = addressed(message.view, [row_id])
                    state = fold.unpack(from_wire(packed))
                    if message.aggregate in row.states:
                        fold.merge(row.states[message.aggregate], state)
                    else:
                        row.states[message.aggregate] = state
            case Contribution():
                for row in addressed(message.view, message.rows):
                    row.contributions.setdefault(message.aggregate, {})[message.path] = message.value
            case Own():
                for row_id, key in message.keys.items():
                    (row,) = addressed(message.view, [row_id])
                    row.has_own, row.key = True, from_wire(key)
            case Taint():
                for row in addressed(message.view, message.rows):
                    row.is_tainted = True
                    row.is_root_tainted = row.is_root_tainted or message.is_root
    renderer = _Renderer(plan, send)
    for view, known in enumerate(rows):
        for row_id, row in known.items():
            renderer.row(view, row_id, row, shared[view])


class _Renderer:
    def __init__(self, plan: PartitionedPlan, send: Send) -> None:
        self.plan, self.send = plan, send
        self._documents: list[dict[str, DomainModel]] = [{} for _ in plan.plan.families]

    def row(self, view: int, row_id: str, row: _Row, shared: _Row) -> None:
        """Renders one row, if it exists."""
        view_plan, path = self.plan.plan.views[view], self.plan.row_path(view, row_id)
        if row.is_root_tainted or (row.has_own and (row.is_tainted or shared.is_tainted)):
            self.send(WRITE, Unknown(view, path))
            return
        if not row.has_own:
            return

        known: dict[str, dict[str, DomainModel]] = {}

        def reached(name: str) -> dict[str, DomainModel]:
            found = known.get(name)
            if found is None:
                values = row.values.get(name) or shared.values.get(name) or {}
                family = view_plan.by_name[name].family
                found = known[name] = {path: self._decoded(family, value) for path, value in values.items()}
            return found

        def aggregate(place: int) -> Any:
            fold = view_plan.aggregates[place].fold
            state = row.states.get(place)
            if state is None:
                state = fold.empty()
            for source in (row, shared):
                for member, value in source.contributions.get(place, {}).items():
                    fold.add(state, member, from_wire(value))
            return fold.result(state)

        if any(is_missing(edge, row.values.get(edge.name) or shared.values.get(edge.name) or {}) for edge in view_plan.edges):  # type: ignore[arg-type]
            return
        key = _typed(row.key, view_plan.root) if isinstance(view_plan.root, Group) else row_id
        try:
            self.send(WRITE, Rendered(view, path, render(view_plan, path, key, reached, aggregate)))
        except RenderError as error:
            self.send(WRITE, Failure(DeadLetter(stage="render", code=error.code, message=str(error), path=path)))
            self.send(WRITE, Unknown(view, path))

    def _decoded(self, family: int, value: Value) -> DomainModel:
        known = self._documents[family]
        document = known.get(value.path)
        if document is None:
            document = known[value.path] = self.plan.plan.families[family].decode(value.path, value.version, value.fields)
        return document
