"""The first stage of a partitioned backfill: newest versions, and what each document says at every edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, Reference, Referrers, Root
from boiler_beam.steps.functions import NOTHING, FunctionRaised, contribution, group_ids, is_shown, references, targets
from boiler_beam.steps.messages import (
    Document,
    Failure,
    Hang,
    Invalid,
    Link,
    MayBelong,
    Observed,
    Own,
    Role,
    Statistics,
    Taint,
    Unreadable,
)
from boiler_beam.steps.newest import NewestVersions, dead_letter_of
from boiler_beam.steps.partition.levels import ROWS, WRITE, PartitionedPlan, Send
from boiler_beam.steps.partition.reached import Reached
from boiler_beam.steps.taint import suspicion
from boiler_beam.values import to_wire

__all__ = ["Asking", "ask_documents"]


def ask_documents(plan: PartitionedPlan, observed: Iterable[Observed | Unreadable], send: Send) -> None:
    """Of one partition's changes: the newest versions, and what each document says at every edge."""

    def refuse(letter: DeadLetter) -> None:
        send(WRITE, Failure(letter))

    versions = NewestVersions(plan.plan, refuse)
    for one in observed:
        if isinstance(one, Unreadable):
            versions.add_unreadable(one.path)
        else:
            versions.add(Change(one.path, one.version, msgspec.Raw(one.fields)))
    asking = Asking(plan, send)
    for type_index, known in enumerate(versions.types):
        for path, document in known.documents.items():
            asking.ask(plan.of_family[type_index], document, known.change_of(path))
        for path in known.invalid:
            current, partial = known.documents.get(path), known.partial(path)
            _tell_invalid(plan, plan.of_family[type_index], path, current, partial, send)
    asking.finish()
    invalid = [type_index for type_index, known in enumerate(versions.types) if known.invalid]
    numbers = [(len(known.documents), len(known.invalid)) for known in versions.types]
    send(WRITE, Statistics(0, versions.number_of_documents, 0, invalid, numbers))


class Asking:
    """Asks documents what they are at every edge of their family: all that a user wrote of one document runs here."""

    def __init__(self, plan: PartitionedPlan, send: Send) -> None:
        self.plan, self.send = plan, send
        self.reached = Reached(plan, 0, send)
        self.own: dict[int, dict[str, Any]] = {}
        self._bare = [Role(number, [], [], []) for number in range(len(plan.edges))]

    def finish(self) -> None:
        """Sends what was gathered."""
        for view, keys in self.own.items():
            self.send(ROWS, Own(view, keys))
        self.reached.finish()

    def ask(self, numbers: list[int], document: DomainModel, change: Change) -> None:
        """Asks a document what it is at some edges, and tells it."""
        waiting: dict[int, list[Role]] = {}
        path, version, fields = change.path, change.version, bytes(change.fields)
        for number in numbers:
            view, edge = self.plan.edges[number]
            if isinstance(edge, Fixed) and path != edge.path:
                continue
            if not (self.plan.shows_all[number] or self.tried(is_shown, view, edge, document, change)):
                continue
            match edge:
                case Root():
                    role, row_id = self.role(number, view, document, change), self.plan.plan.views[view].row_id(path)
                    self.reached.tell(role, path, version, fields, (row_id,))
                case Group():
                    keys = self.tried(group_ids, view, edge, document, change)
                    if keys:
                        role = self.role(number, view, document, change)
                        self.own.setdefault(view, {}).update((row, to_wire(key)) for row, key in keys)
                        self.reached.tell(role, path, version, fields, [row for row, _ in keys])
                case Fixed():
                    self.reached.tell(self.role(number, view, document, change), path, version, fields, None)
                case Reference():
                    role = self.role(number, view, document, change)
                    waiting.setdefault(self.plan.reach_level[number], []).append(role)
                case Referrers():
                    parents = self.tried(targets, view, edge, document, change)
                    if parents:
                        self._hang(self.role(number, view, document, change), view, parents, change, fields)
                case _:
                    assert_never(edge)
        for level, roles in waiting.items():
            self.send(level, Document(path, version, fields, roles))

    def role(self, number: int, view: int, document: DomainModel, change: Change) -> Role:
        """What the document adds to the aggregates over an edge, and what the edges that hang on it refer to."""
        aggregates, children = self.plan.aggregates[number], self.plan.references[number]
        edge = self.plan.edges[number][1]
        if not aggregates and not children and edge.limit is None:
            return self._bare[number]
        contributions = []
        for place, aggregate in aggregates:
            value = self.tried(contribution, view, aggregate, document, change)
            if value is not None and value is not NOTHING:
                contributions.append((place, to_wire(value)))
        links = []
        for child, reference in children:
            if found := self.tried(references, view, reference, document, change):
                links.append(Link(child, list(dict.fromkeys([path for _, path in found]))))
        is_cut = edge.limit is not None and edge.order is not None
        ranks = [to_wire(rank) for rank in edge.order.ranks(document)] if is_cut and edge.order else []
        return Role(number, contributions, links, ranks)

    def _hang(self, role: Role, view: int, parents: list[str], change: Change, fields: bytes) -> None:
        number, path, version = role.edge, change.path, change.version
        level = self.plan.reach_level[number]
        if level == 0:
            row_id = self.plan.plan.views[view].row_id
            self.reached.tell(role, path, version, fields, [row_id(parent) for parent in parents])
            return
        if not self.plan.travels[number]:
            fields = b""
        for parent in parents:
            self.send(level, Hang(number, parent, path, version, fields, role))

    def tried(
        self, function: Callable[[Any, Any], Any], view: int, what: Any, document: DomainModel, change: Change
    ) -> Any:
        """What a function of a document gives; None, and a dead letter, where it raises (S10a)."""
        try:
            return function(what, document)
        except FunctionRaised as error:
            message = f"{self.plan.plan.views[view].name}: {error}"
            self.send(WRITE, Failure(dead_letter_of("down", error.code, message, change)))
            return None


def _tell_invalid(
    plan: PartitionedPlan, numbers: list[int], path: str, standing: Any, partial: Any, send: Send
) -> None:
    """Tells the rows that an invalid document may belong to (S5)."""
    waiting: dict[int, list[int]] = {}
    for number in numbers:
        view, edge = plan.edges[number]
        keys, unknown = suspicion(edge, path, standing, partial)
        if unknown is not None:
            send(WRITE, MayBelong(view, path, unknown))
        level, row_id = plan.reach_level[number], plan.plan.views[view].row_id
        match edge:
            case _ if not keys:
                continue
            case Root():
                send(ROWS, Taint(view, True, path, [row_id(path)]))
            case Group():
                send(ROWS, Taint(view, True, path, list(keys)))
            case Reference():
                waiting.setdefault(level, []).append(number)
            case Referrers() if level == 0:
                send(ROWS, Taint(view, False, path, [row_id(parent) for parent in keys]))
            case Referrers():
                for parent in keys:
                    send(level, Hang(number, parent, path, 0, b"", None))
            case Fixed():
                raise AssertionError("a fixed document has no keys")
            case _:
                assert_never(edge)
    for level, edges in waiting.items():
        send(level, Invalid(path, edges))
