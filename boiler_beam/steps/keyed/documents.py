"""The step at a document: sends what its newest version contributes, and retracts what the last one contributed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import msgspec
from typing_extensions import assert_never

from boiler_beam.compare import same_value
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Fixed, Group, Reference, Referrers, Root
from boiler_beam.steps.distributed import Contributed
from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.membership import EdgeStep
from boiler_beam.steps.keyed.messages import (
    CandidateDelta,
    DocumentDelta,
    DocumentState,
    MemberDelta,
    MembershipDelta,
    Message,
)
from boiler_beam.steps.keyed.plan import KeyedEdge
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.newest import DocumentRecord, judge

__all__ = ["DocumentHead", "DocumentStep", "KeyDelta", "Observation", "observe"]

Refuse = Callable[[DeadLetter], None]


class SentState(msgspec.Struct, frozen=True, array_like=True, gc=False, eq=False):
    """What was sent of a document, to be retracted when it changes (S10).

    Attributes:
        state: Its state, without fields.
        keys: Those of `Contributed`.
    """

    state: DocumentState
    keys: dict[str, Any]


class DocumentHead(msgspec.Struct, array_like=True):
    """What is kept of a document at one edge.

    Attributes:
        sequence: That of its last state, at least its newest version (S9); 0 where it was never seen.
        known: Its current version, and what was refused of it (S2).
        sent: What was sent of it; None where the edge does not show it.
    """

    sequence: int = 0
    known: DocumentRecord = DocumentRecord()
    sent: SentState | None = None

    def empty_since(self) -> int | None:
        """The version of the deletion, if nothing else is kept of the document; else None."""
        return self.known.version if self.known.is_deletion and self.known.invalid is None else None


class KeyDelta(NamedTuple):
    """A document joined, left or changed at a key.

    Attributes:
        key: The key.
        group_key: For a group, the group's key as on the wire; else None.
        old: The state that was sent before, without fields; None if the document was not at the key.
        new: Its state now; without a contribution if it is not at the key.
    """

    key: str
    group_key: Any
    old: DocumentState | None
    new: DocumentState


class Observation(NamedTuple):
    """What changes when a version becomes the current one.

    Attributes:
        deltas: One for each key where the document was, or is.
        version: The version that they carry: that of the change, or the time of its event where that is later.
        number: 1 where the document came into being, -1 where it was deleted.
    """

    deltas: list[KeyDelta]
    version: int
    number: int


def observe(edge: KeyedEdge, head: DocumentHead, change: Change, horizon: int, refuse: Refuse) -> Observation | None:
    """Takes a version of a document, perhaps not for the first time.

    Args:
        edge: The edge.
        head: What is kept of the document; it is brought up to date.
        change: The version.
        horizon: The time before which deletions are forgotten.
        refuse: Takes the dead letters.

    Returns:
        What changes; None where the current version stays.
    """
    existed = head.known.exists
    head.known, is_current, document = judge(edge.codec, head.known, change, refuse, horizon=horizon)
    if not is_current:
        return None
    head.sequence = max(head.sequence + 1, change.version)
    found = None if document is None else edge.contributed(document, change, refuse)
    deltas = _deltas(edge, head, found, change)
    return Observation(deltas, max(change.version, change.event_time), head.known.exists - existed)


def _deltas(edge: KeyedEdge, head: DocumentHead, found: Contributed | None, change: Change) -> list[KeyDelta]:
    """One delta for each key where the document was or is; none if nothing changed on which rows depend."""
    old, carries_fields = head.sent, edge.planned.carries_fields
    if old is None and found is None:
        return []
    if not carries_fields and old is not None and found is not None and _is_same(old, found):
        return []
    missing = DocumentState(head.sequence, None, None, change.version)
    new = missing
    head.sent = None
    if found is not None:
        sent = DocumentState(head.sequence, found.contribution, None, change.version)
        head.sent = SentState(sent, found.keys)
        new = msgspec.structs.replace(sent, fields=bytes(change.fields)) if carries_fields else sent
    before, after = {} if old is None else old.keys, {} if found is None else found.keys
    return [
        KeyDelta(
            key,
            group_key,
            old.state if old is not None and key in before else None,
            new if key in after else missing,
        )
        for key, group_key in (before | after).items()
    ]


def _is_same(old: SentState, found: Contributed) -> bool:
    return found.contribution.is_same_as(old.state.contribution) and same_value(old.keys, found.keys)


class DocumentStep(EdgeStep):
    """Key: a document of a root, a group or referrers.

    Keeps what it sent; sends what changes to rows (root, group), or to the keys of parents (referrers).

    users/u1 of organization A       row A has it
    users/u1 of organization B       row A no longer has it; row B has it
    users/u1 deleted                 row B no longer has it
    """

    head_type: ClassVar[type[Any]] = DocumentHead

    def take(self, cell: Cell, key: Key, message: Change | Message) -> None:
        if not isinstance(message, Change):
            raise self.unexpected(message)
        head: DocumentHead = self.heads.read(cell)
        found = observe(self.edge, head, message, self.settings.horizon(), self.report)
        if found is not None:
            for delta in found.deltas:
                self._send(message.path, delta, found.version)
            self.count_documents(message.path, found.number)
        self.heads.write(cell, head)

    def _send(self, path: str, delta: KeyDelta, version: int) -> None:
        edge, key, old, new = self.edge, delta.key, delta.old, delta.new
        match edge.edge:
            case Referrers():
                self.output.send(DocumentDelta(edge.index, key, path, old, new, version))
                return
            case Root() | Group():
                pass
            case Reference() | Fixed():
                raise AssertionError(f"{self.label}: such a document is joined at its own path")
            case _:
                assert_never(edge.edge)
        now = None if new.contribution is None else new
        weight = (now is not None) - (old is not None)
        member = MemberDelta(weight, delta.group_key) if weight and isinstance(edge.edge, Group) else None
        if edge.edge.limit is None:
            self.change_member(key, path, old, now, 1, version, member)
            return
        if member is not None:
            self.output.send(MembershipDelta(edge.index, key, path, 1, None, None, [], member, version))
        for state, times in ((old, -1), (now, 1)):
            if state is not None:
                self.output.send(CandidateDelta(edge.index, key, path, times, state, version))

    def empty_since(self, cell: Cell) -> int | None:
        head: DocumentHead = self.heads.read(cell)
        return head.empty_since()
