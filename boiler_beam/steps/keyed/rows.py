"""The step at a row: adds up the messages to it, and renders the row when no message is missing.

It keeps the documents of the row, since it can't look them up elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import msgspec
from typing_extensions import assert_never

from boiler_beam.events import DeadLetter, EncodedRow, Stamp, Touch
from boiler_beam.plan import Group
from boiler_beam.steps.emission import Emitted, emissions, is_deleted, uncertain
from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.logs import Sizes, WeightedLog
from boiler_beam.steps.keyed.messages import (
    Claim,
    DistinctDelta,
    DocumentState,
    FirstValues,
    MembershipDelta,
    ValueDelta,
)
from boiler_beam.steps.keyed.plan import EPOCH, KeyedEdge, KeyedView
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.keyed.step import Step
from boiler_beam.steps.newest import digest_of
from boiler_beam.steps.row import Copy, render
from boiler_beam.values import from_wire, to_wire

__all__ = ["DocumentKey", "KeptDocuments", "RowHead", "RowStep", "log_of_documents"]

_NO_VALUES: tuple[int, tuple[Any, ...]] = 0, ()


DocumentKey = tuple[int, str, int]
"""A document of a row in one of its states: edge index, path, sequence."""
RowLog = WeightedLog[DocumentKey, DocumentState | None]


def log_of_documents(cell: Cell, sizes: Sizes) -> RowLog:
    """The documents of a row. One that was retracted before it came is None."""
    return WeightedLog(cell.logs[0], sizes, tuple[DocumentKey, int, DocumentState | None])


class KeptDocuments:
    """The documents of one row, by edge.

    Attributes:
        is_waiting: Whether a message is still on its way (S8): there is a document in two states, or with a negative
            weight, or a subscription without an answer.
        read: A bit mask, by edge index, of the edges that were read, and of those above them.
    """

    def __init__(self, view: KeyedView, kept: dict[DocumentKey, tuple[int, DocumentState | None]]) -> None:
        self._view, self.read = view, 0
        self._kept: list[dict[str, DocumentState]] = [{} for _ in view.edges]
        self._decoded: dict[str, dict[str, Any]] = {}
        is_settled = True
        for (edge_index, path, _), (weight, state) in kept.items():
            if weight < 0 or state is None or path in self._kept[edge_index]:
                is_settled = False
            else:
                self._kept[edge_index][path] = state
        self._subscribed: dict[int, set[str]] = {edge.index: set() for edge in view.edges if edge.is_awaited}
        for edge in view.edges:  # parents first
            for path, one in self._kept[edge.index].items():
                if one.contribution is not None and self._belongs(edge, path):
                    for child, keys in edge.subscriptions(one.contribution, path):
                        if child in self._subscribed:
                            self._subscribed[child].update(keys)
        is_answered = all(keys <= self._kept[index].keys() for index, keys in self._subscribed.items())
        self.is_waiting = not (is_settled and is_answered)

    def _belongs(self, edge: KeyedEdge, path: str) -> bool:
        """Whether the row subscribes to a document that it keeps; else the document is about to leave."""
        return not edge.is_awaited or path in self._subscribed[edge.index]

    def __call__(self, name: str) -> dict[str, Any]:
        """The documents that the row has over an edge, by path."""
        found = self._decoded.get(name)
        if found is None:
            edge = self._view.by_name[name]
            self.read |= edge.planned.bits
            found = self._decoded[name] = {
                path: edge.decode(path, one.version, one.fields)
                for path, one in self._kept[edge.index].items()
                if one.fields is not None and self._belongs(edge, path)
            }
        return found


class RowHead(msgspec.Struct, array_like=True, eq=False):
    """What is kept of a row beside its documents.

    Attributes:
        version: The newest version of all messages that reached it (S7).
        members: How many members a group's row has.
        key: The group's key, as on the wire.
        aggregates: By aggregate index, the packed accumulator; or the number of distinct values, where these are
            counted; or the newest sequence and values of `FirstValues`, where values are kept in order.
        emitted: The last emission at each of its paths.
        read: A bit mask, by edge index, of the edges that the last rendering read: a change over another edge does not
            make the row dirty. None if it was never rendered, or the last rendering failed or had to wait.
        documents: The sizes of the log of its documents.
        is_dirty: Whether it must be rendered.
        failing: The digests of the dead letters of its last rendering: a repeated failure is reported once.
    """

    version: int = 0
    members: int = 0
    key: Any = None
    aggregates: dict[int, Any] = {}
    emitted: dict[str, Emitted] = {}
    read: int | None = None
    documents: Sizes = msgspec.field(default_factory=Sizes)
    is_dirty: bool = False
    failing: tuple[bytes, ...] = ()

    def has_read(self, edge_index: int) -> bool:
        """Whether a change over an edge may change the row."""
        return self.read is None or bool(self.read >> edge_index & 1)


class RowStep(Step):
    """Key: a row. Adds up what comes; `render` emits its copies, or claims their paths where other rows may do so.

    MembershipDelta(org1, users/u1, member +1, num_users +1)     org1 exists, and has one user
    MembershipDelta(org1, tickets/t1, num_attending +1)          and one who attends
    MembershipDelta(org1, users/u1, member -1, num_users -1)     it has no member: it is no row
    """

    head_type: ClassVar[type[Any]] = RowHead
    number_of_logs: ClassVar[int] = 1

    def update(
        self, head: RowHead, cell: Cell, key: Key, message: MembershipDelta | DistinctDelta | FirstValues | Touch
    ) -> bool:
        is_read = True
        match message:
            case MembershipDelta():
                log, edge_index, path = log_of_documents(cell, head.documents), message.edge_index, message.path
                if message.old is not None:
                    log.add((edge_index, path, message.old), -message.weight, None)
                if message.new is not None:
                    log.add((edge_index, path, message.new.sequence), message.weight, message.new)
                for delta in message.values:
                    self._accumulate(head, message.path, delta)
                if message.member is not None:
                    head.members += message.member.weight
                    head.key = message.member.key if message.member.weight > 0 else head.key
                is_read = bool(message.values) or message.member is not None or head.has_read(message.edge_index)
            case DistinctDelta():
                index = message.aggregate_index
                head.aggregates[index] = head.aggregates.get(index, 0) + message.weight
            case FirstValues():
                sequence, _ = head.aggregates.get(message.aggregate_index, _NO_VALUES)
                if sequence < message.sequence:
                    head.aggregates[message.aggregate_index] = message.sequence, message.values
            case Touch():
                head.emitted[message.path] = uncertain(head.emitted.get(message.path))
            case _:
                assert_never(message)
        head.version = max(head.version, message.version)
        head.is_dirty = head.is_dirty or is_read
        return head.is_dirty

    def _accumulate(self, head: RowHead, path: str, delta: ValueDelta) -> None:
        fold = self.view.view.aggregates[delta.aggregate_index].fold
        state, value = self._accumulator(head, delta.aggregate_index), from_wire(delta.value)
        for _ in range(abs(delta.weight)):
            (fold.add if delta.weight > 0 else fold.retract)(state, path, value)
        head.aggregates[delta.aggregate_index] = to_wire(fold.pack(state))

    def _accumulator(self, head: RowHead, index: int) -> Any:
        fold = self.view.view.aggregates[index].fold
        return fold.unpack(from_wire(head.aggregates[index])) if index in head.aggregates else fold.empty()

    def render(self, cell: Cell, row_id: str) -> bool:
        """Emits what changed of a dirty row.

        Returns:
            False where a message is on its way (S8): when it arrives, the row becomes dirty again.
        """
        head: RowHead = self.heads.read(cell)
        if not head.is_dirty:
            return True
        documents = KeptDocuments(self.view, log_of_documents(cell, head.documents).sum())
        head.is_dirty = False
        if documents.is_waiting:
            head.read = None
            self.heads.write(cell, head)
            return False
        copies = self._copies(head, row_id, documents)
        unknown = {copy.path for copy in copies if copy.fields is None}
        head.read = None if unknown else documents.read
        for path in unknown - head.emitted.keys():
            self.output.leave_unchanged(path)
        paths, now = self.view.view.paths, self.settings.now()
        for path, _, new, fields in emissions(head.emitted, paths, copies, head.version, EPOCH, now):
            if paths.is_unique:
                self.output.emit(EncodedRow(path, Stamp(self.settings.generation, new.version, new.seq), fields))
            else:
                self.output.send(Claim(path, row_id, new.seq, fields, new.version))
        self.heads.write(cell, head)
        return True

    def _copies(self, head: RowHead, row_id: str, documents: KeptDocuments) -> Sequence[Copy]:
        """The copies of the row as it is now; none where there is no row."""
        view = self.view.view
        exists = head.members > 0 if isinstance(view.root, Group) else bool(documents(view.root.name))
        key, copies, dead_letters = from_wire(head.key), list[Copy](), list[DeadLetter]()
        if exists and all(documents(edge.name) for edge in view.required):
            aggregate = partial(self._aggregate, head)
            copies = render(view, row_id, key, documents, aggregate, dead_letters.append)
        digests = tuple(map(digest_of, dead_letters))
        for dead_letter, digest in zip(dead_letters, digests, strict=True):
            if digest not in head.failing:
                self.output.refuse(dead_letter)
        head.failing = digests
        return copies

    def _aggregate(self, head: RowHead, index: int) -> Any:
        fold = self.view.view.aggregates[index].fold
        if fold.keeps == "distinct":
            return head.aggregates.get(index, 0)
        if fold.keeps == "accumulator":
            return fold.result(self._accumulator(head, index))
        state = fold.empty()
        _, values = head.aggregates.get(index, _NO_VALUES)
        for value in values:
            fold.add(state, "", from_wire(value))
        return fold.result(state)

    def empty_since(self, head: RowHead, cell: Cell) -> int | None:
        is_emitted = not all(map(is_deleted, head.emitted.values()))
        if is_emitted or head.members or head.is_dirty:
            return None
        return None if log_of_documents(cell, head.documents).sum() else head.version
