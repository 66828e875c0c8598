"""The steps that join documents with the rows that subscribe to their keys, and those that choose among the matches."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter
from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.documents import DocumentHead, take_version
from boiler_beam.steps.keyed.logs import Sizes, WeightedLog, add_weight
from boiler_beam.steps.keyed.membership import EdgeStep
from boiler_beam.steps.keyed.messages import CandidateDelta, DocumentDelta, DocumentState, SubscriptionDelta
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.keyed.tiers import TIERS, Bounds, Ranking

__all__ = ["LimitStep", "PathCountStep", "PathJoinStep", "ReferrersJoinStep"]


class PathJoinHead(DocumentHead, array_like=True):
    """What is kept of a document, and the sizes of the log of rows."""

    rows: Sizes = msgspec.field(default_factory=Sizes)


class PathJoinStep(EdgeStep):
    """Key: a document of a reference, or a shard of a fixed document.

    Keeps its state, and in a log the rows that subscribe to it. A row that subscribes to a missing document gets a
    message, too (S8).

        SubscriptionDelta(items/i1, row o1, +1)     o1: items/i1 is missing
        Change(items/i1, A)                         o1: no longer missing, but A
        Change(items/i1, B)                         o1: no longer A, but B
        SubscriptionDelta(items/i1, row o1, -1)     o1: no longer B
    """

    head_type: ClassVar[type[Any]] = PathJoinHead
    number_of_logs: ClassVar[int] = 1

    def update(self, head: PathJoinHead, cell: Cell, key: Key, message: Change | SubscriptionDelta) -> None:
        rows = _subscribers(cell, head.rows)
        match message:
            case Change():
                refuse = self.report if key.part in (None, 0) else _ignore
                existed, old = head.known.exists, head.sent or head.state(self.edge)
                if take_version(self.edge, head, message, self.settings.horizon(), refuse):
                    new, version = head.state(self.edge), max(message.version, message.event_time)
                    for row, (weight, _) in rows.sum().items():
                        self.change_match(row, message.path, old, new, weight, version)
                self.count_document(message.path, head.known.exists - existed)
            case SubscriptionDelta():
                rows.add(message.row, message.weight, None)
                state = head.state(self.edge)
                version = max(message.version, state.version)
                self.change_match(message.row, message.key, None, state, message.weight, version)
            case _:
                assert_never(message)

    def empty_since(self, head: PathJoinHead, cell: Cell) -> int | None:
        since = head.empty_since()
        return None if since is None or _subscribers(cell, head.rows).sum() else since


def _subscribers(cell: Cell, sizes: Sizes) -> WeightedLog[str, None]:
    """How often each row subscribes to the key of a cell."""
    return WeightedLog(cell.logs[0], sizes, tuple[str, int, None])


def _ignore(dead_letter: DeadLetter) -> None:
    """The first shard of a document reports what is wrong with it."""


class ReferrersJoinHead(msgspec.Struct, array_like=True):
    """The sizes of the two logs at a parent's path."""

    rows: Sizes = msgspec.field(default_factory=Sizes)
    documents: Sizes = msgspec.field(default_factory=Sizes)


class ReferrersJoinStep(EdgeStep):
    """Key: the path of a parent to which documents refer.

    Keeps in logs the rows that subscribe to it, and the documents that refer to it.

        SubscriptionDelta(users/u1, row org1, +1)          nothing refers to it yet
        DocumentDelta(users/u1, tickets/t1, None -> A)     org1: tickets/t1 is A
        DocumentDelta(users/u1, tickets/t1, A -> B)        org1: no longer A, but B
        SubscriptionDelta(users/u1, row org1, -1)          org1: no longer B
    """

    head_type: ClassVar[type[Any]] = ReferrersJoinHead
    number_of_logs: ClassVar[int] = 2

    def update(self, head: ReferrersJoinHead, cell: Cell, key: Key, message: DocumentDelta | SubscriptionDelta) -> None:
        rows, documents = _subscribers(cell, head.rows), _referring(cell, head.documents)
        match message:
            case DocumentDelta():
                for state, times in ((message.old, -1), (message.new, 1)):
                    if state is not None:
                        documents.add((message.path, state.sequence), times, state)
                for row, (weight, _) in rows.sum().items():
                    self.change_match(row, message.path, message.old, message.new, weight, message.version)
            case SubscriptionDelta():
                rows.add(message.row, message.weight, None)
                for (path, _), (times, state) in documents.sum().items():
                    version = max(message.version, state.version)
                    self.change_match(message.row, path, None, state, message.weight * times, version)
            case _:
                assert_never(message)

    def empty_since(self, head: ReferrersJoinHead, cell: Cell) -> int | None:
        is_used = _subscribers(cell, head.rows).sum() or _referring(cell, head.documents).sum()
        return None if is_used else 0


def _referring(cell: Cell, sizes: Sizes) -> WeightedLog[tuple[str, int], DocumentState]:
    """The documents that refer to the key of a cell, by path and sequence."""
    return WeightedLog(cell.logs[1], sizes, tuple[tuple[str, int], int, DocumentState])


class PathCount(msgspec.Struct, array_like=True):
    """What is kept of one row and one document.

    Attributes:
        states: By sequence, how many paths lead to the document in that state; several while messages are on their way.
        sent: The state that the row has.
    """

    states: dict[int, tuple[int, DocumentState]] = {}
    sent: DocumentState | None = None


class PathCountStep(EdgeStep):
    """Key: a row and a document that several paths may lead to; the row has it once (S10).

    CandidateDelta(o1, i1, +1, A)     o1 has i1: A
    CandidateDelta(o1, i1, +1, A)     nothing: o1 has it
    CandidateDelta(o1, i1, -1, A)     nothing: a path is left
    CandidateDelta(o1, i1, -1, A)     o1 no longer has i1
    """

    head_type: ClassVar[type[Any]] = PathCount

    def update(self, head: PathCount, cell: Cell, key: Key, message: CandidateDelta) -> None:
        add_weight(head.states, message.state.sequence, message.weight, message.state)
        new = None
        if sum(times for times, _ in head.states.values()) > 0:
            there = [one for times, one in head.states.values() if times > 0]
            new = max(there, key=lambda one: one.sequence)
        sent = head.sent
        if (new.sequence if new is not None else None) == (sent.sequence if sent is not None else None):
            return
        self.change_member(message.row, message.path, sent, new, 1, message.version)
        head.sent = new


class _LimitHead(msgspec.Struct, array_like=True):
    shown: dict[str, DocumentState] = {}
    bounds: Bounds = msgspec.field(default_factory=Bounds)


class LimitStep(EdgeStep):
    """Key: a row, of an edge with a limit.

    Keeps the candidates in the edge's order (S12), and the members: the first of them. The cost of a change depends on
    the limit, not on the number of candidates.

        CandidateDelta(c1, m1, +1, sent 1)      c1 has m1
        CandidateDelta(c1, m2, +1, sent 2)      limit 1, newest first: c1 no longer has m1; it has m2
        CandidateDelta(c1, m2, -1, sent 2)      c1 no longer has m2; it has m1
    """

    head_type: ClassVar[type[Any]] = _LimitHead
    number_of_logs: ClassVar[int] = TIERS

    def update(self, head: _LimitHead, cell: Cell, key: Key, message: CandidateDelta) -> None:
        state, limit, version = message.state, self.edge.edge.limit or 0, message.version
        if state.contribution is None:
            return
        assert state.contribution.sort_key is not None
        rank = state.contribution.sort_key + b"\0" + state.sequence.to_bytes(8, "big")
        ranking = Ranking(cell.logs, head.bounds, tuple[str, DocumentState], max(64, 2 * limit))
        ranking.add(rank, message.weight, (message.path, state))
        after: dict[str, DocumentState] = dict(ranking.first(limit))
        for path in [path for path in head.shown if path not in after]:
            self.change_member(message.row, path, head.shown.pop(path), None, 1, version)
        for path, new in after.items():
            old = head.shown.get(path)
            if old is None or old.sequence != new.sequence:
                self.change_member(message.row, path, old, new, 1, version)
                head.shown[path] = new
