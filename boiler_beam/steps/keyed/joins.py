"""The steps that join documents with the rows that subscribe to their keys, and those that choose among the matches."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from boiler_beam.events import Change, DeadLetter
from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.documents import DocumentHead, observe
from boiler_beam.steps.keyed.logs import DocumentLog, Sizes, WeightLog
from boiler_beam.steps.keyed.membership import EdgeStep
from boiler_beam.steps.keyed.messages import CandidateDelta, DocumentDelta, DocumentState, Message, SubscriptionDelta
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.keyed.tiers import TIERS, Bounds, Ranking

__all__ = ["LimitStep", "PathCountStep", "PathJoinStep", "ReferrersJoinStep"]

NEVER_SEEN = DocumentState(0, None, None, 0)
"""A document of which no version came."""


class PathJoinHead(msgspec.Struct, array_like=True):
    """What is kept of a document: its record, its state as rows get it, and the sizes of the log of rows."""

    document: DocumentHead = msgspec.field(default_factory=DocumentHead)
    state: DocumentState | None = None
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

    def take(self, cell: Cell, key: Key, message: Change | Message) -> None:
        head: PathJoinHead = self.heads.read(cell)
        rows = WeightLog(cell.logs[0], head.rows)
        match message:
            case Change():
                refuse = self.report if key.part in (None, 0) else _ignore
                found = observe(self.edge, head.document, message, self.settings.horizon(), refuse)
                if found is not None:
                    for delta in found.deltas:
                        self._change(head, rows, message.path, delta.new, found.version)
                    self.count_documents(message.path, found.number)
            case SubscriptionDelta():
                rows.add(message.row, message.weight)
                state = head.state or NEVER_SEEN
                version = max(message.version, state.version)
                self.change_match(message.row, message.key, None, state, message.weight, version)
            case _:
                raise self.unexpected(message)
        self.heads.write(cell, head)

    def _change(self, head: PathJoinHead, rows: WeightLog, path: str, new: DocumentState, version: int) -> None:
        old, head.state = head.state or NEVER_SEEN, new
        for row, weight in rows.items():
            self.change_match(row, path, old, new, weight, version)

    def empty_since(self, cell: Cell) -> int | None:
        head: PathJoinHead = self.heads.read(cell)
        since = head.document.empty_since()
        return None if since is None or any(WeightLog(cell.logs[0], head.rows).items()) else since


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

    def take(self, cell: Cell, key: Key, message: Change | Message) -> None:
        head: ReferrersJoinHead = self.heads.read(cell)
        rows, documents = WeightLog(cell.logs[0], head.rows), DocumentLog(cell.logs[1], head.documents)
        match message:
            case DocumentDelta():
                new = message.new if message.new.contribution is not None else None
                documents.change(message.path, message.old, new)
                if message.old is not None or new is not None:
                    for row, weight in rows.items():
                        self.change_match(row, message.path, message.old, new, weight, message.version)
            case SubscriptionDelta():
                rows.add(message.row, message.weight)
                for path, state, times in documents.items():
                    version = max(message.version, state.version)
                    self.change_match(message.row, path, None, state, message.weight * times, version)
            case _:
                raise self.unexpected(message)
        self.heads.write(cell, head)

    def empty_since(self, cell: Cell) -> int | None:
        head: ReferrersJoinHead = self.heads.read(cell)
        is_used = any(WeightLog(cell.logs[0], head.rows).items())
        return None if is_used or any(DocumentLog(cell.logs[1], head.documents).items()) else 0


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

    def take(self, cell: Cell, key: Key, message: Change | Message) -> None:
        if not isinstance(message, CandidateDelta):
            raise self.unexpected(message)
        head: PathCount = self.heads.read(cell)
        self.count(head, message)
        if head.states or head.sent is not None:
            self.heads.write(cell, head)
        else:
            cell.write(None)

    def count(self, head: PathCount, message: CandidateDelta) -> None:
        """Changes the number of paths to a state of a document; sends the row the newest state that is left."""
        state, weight = message.state, message.weight
        known = head.states.get(state.sequence)
        after = weight + (known[0] if known is not None else 0)
        if after:  # the state that was added is kept: the retracted one comes without fields
            head.states[state.sequence] = after, known[1] if known is not None and weight < 0 else state
        else:
            del head.states[state.sequence]
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

    def take(self, cell: Cell, key: Key, message: Change | Message) -> None:
        if not isinstance(message, CandidateDelta):
            raise self.unexpected(message)
        head: _LimitHead = self.heads.read(cell)
        self._choose(head, cell, message)
        self.heads.write(cell, head)

    def _choose(self, head: _LimitHead, cell: Cell, message: CandidateDelta) -> None:
        """Takes a candidate, and sends the row what changed in its members: the first candidates."""
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
