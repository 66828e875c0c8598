"""The step at a document: sends what its newest version contributes, and retracts what the last one contributed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from typing_extensions import assert_never

from boiler_beam.compare import same_value
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Fixed, Group, Reference, Referrers, Root
from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.membership import EdgeStep
from boiler_beam.steps.keyed.messages import DocumentDelta, DocumentState, MemberDelta, MembershipDelta
from boiler_beam.steps.keyed.plan import KeyedEdge
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.newest import DocumentRecord, judge

__all__ = ["DocumentHead", "DocumentStep", "take_version"]

Refuse = Callable[[DeadLetter], None]


class DocumentHead(msgspec.Struct, array_like=True, eq=False):
    """What is kept of a document at one edge.

    Attributes:
        sequence: That of its last state, at least the version that it had then (S9); 0 where none was sent.
        known: Its current version, and what was refused of it (S2).
        sent: Its state as it was sent, without fields, to be retracted when it changes (S10); None if it is not shown.
        keys: where rows find that state, as `DistributedEdge.contributed` returns it.
    """

    sequence: int = 0
    known: DocumentRecord = DocumentRecord()
    sent: DocumentState | None = None
    keys: dict[str, Any] = {}

    def state(self, edge: KeyedEdge) -> DocumentState:
        """Its state with the fields that rows need; without a contribution if it is missing or not shown."""
        if self.sent is None:
            return DocumentState(self.sequence, None, None, max(self.known.version, 0))
        if not edge.planned.carries_fields:
            return self.sent
        return msgspec.structs.replace(self.sent, fields=edge.row_fields(self.known.fields))

    def empty_since(self) -> int | None:
        """The version of the deletion, if nothing else is kept of the document; else None."""
        return self.known.version if self.known.is_deletion and self.known.invalid is None else None


def take_version(edge: KeyedEdge, head: DocumentHead, change: Change, horizon: int, refuse: Refuse) -> bool:
    """Takes a version of a document, perhaps not for the first time, into its head.

    Returns:
        Whether its state is another one now: not if the current version stays, or nothing changed on which rows depend.
    """
    head.known, is_current, document = judge(edge.codec, head.known, change, refuse, horizon=horizon)
    found = None if document is None else edge.contributed(document, change, refuse)
    keys, contribution = found or ({}, None)
    old = head.sent
    if not is_current or (old is None and contribution is None):
        return False
    if contribution is not None and old is not None and not edge.planned.carries_fields:
        is_same = contribution.is_same_as(old.contribution) and same_value(head.keys, keys)
        if is_same:
            return False
    head.sequence, head.keys = max(head.sequence + 1, change.version), keys
    head.sent = None if found is None else DocumentState(head.sequence, contribution, None, change.version)
    return True


class DocumentStep(EdgeStep):
    """Key: a document of a root, a group or referrers.

    Keeps what it sent; sends what changes to rows (root, group), or to the keys of parents (referrers).

    users/u1 of organization A       row A has it
    users/u1 of organization B       row A no longer has it; row B has it
    users/u1 deleted                 row B no longer has it
    """

    head_type: ClassVar[type[Any]] = DocumentHead

    def update(self, head: DocumentHead, cell: Cell, key: Key, message: Change) -> None:
        existed, old, before = head.known.exists, head.sent, head.keys
        if take_version(self.edge, head, message, self.settings.horizon(), self.report):
            new, version = head.state(self.edge), max(message.version, message.event_time)
            for at, group_key in (before | head.keys).items():
                was, now = old if at in before else None, new if at in head.keys else None
                self._change_at(at, group_key, message.path, was, now, version)
        self.count_document(message.path, head.known.exists - existed)

    def _change_at(
        self, key: str, group_key: Any, path: str, old: DocumentState | None, new: DocumentState | None, version: int
    ) -> None:
        """Replaces the state of a document at a key; None: it is not at this key."""
        edge = self.edge
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
        weight = (new is not None) - (old is not None)
        member = MemberDelta(weight, group_key) if weight and isinstance(edge.edge, Group) else None
        if edge.edge.limit is None:
            self.change_member(key, path, old, new, 1, version, member)
            return
        if member is not None:
            self.output.send(MembershipDelta(edge.index, key, path, 1, None, None, [], member, version))
        self.change_match(key, path, old, new, 1, version)

    def empty_since(self, head: DocumentHead, cell: Cell) -> int | None:
        return head.empty_since()
