"""The step at a document: its newest version says what it is at every edge, and the difference is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, Reference, Referrers, Root
from boiler_beam.steps.functions import group_ids, is_shown, targets
from boiler_beam.steps.messages import Role
from boiler_beam.steps.partition.ask import Asking
from boiler_beam.steps.stream.messages import Candidate, Lies, Owned
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.show import Send, State, show

__all__ = ["Document", "DocumentCell", "Said"]


@dataclass(frozen=True)
class Said:
    """What a document said that it is at one edge.

    Attributes:
        state: What it is.
        keys: Where: its own path, the parents that it refers to, or the rows that it makes, with their keys.
    """

    state: State
    keys: dict[str, Any]


@dataclass
class DocumentCell:
    """What is kept of one document beside its newest version.

    Attributes:
        sequence: How many states it was in, and at least its newest version (S9).
        said: What it said at each edge: what is taken back when it says something else (S10).
    """

    sequence: int = 0
    said: dict[int, Said] = field(default_factory=dict)


class Document:
    """Key: a document. Keeps what it said at each edge; sends where it lies now, and where it no longer does.

    users/u1 of organization A       lies at its own path; its row A has it
    users/u1 of organization B       row A no longer has it, row B has; at its own path it changed
    users/u1 deleted                 row B no longer has it; at its own path it is missing
    """

    def __init__(self, plan: StreamPlan, send: Send, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan, self.send = plan, send
        self._asking = Asking(plan, lambda place, message: refuse(message.letter))

    def changed(self, cell: DocumentCell, family: int, document: DomainModel | None, change: Change) -> None:
        """Another version stands (`document` None: it is deleted)."""
        cell.sequence = max(cell.sequence + 1, change.version)
        for number in self.plan.of_family[family]:
            old = cell.said.get(number)
            new = None if document is None else self._said(cell.sequence, number, document, change)
            if old is not None or new is not None:
                self._tell(cell, number, change, old, new)
            if new is not None:
                cell.said[number] = new
            elif old is not None:
                del cell.said[number]

    def _said(self, sequence: int, number: int, document: DomainModel, change: Change) -> Said | None:
        view, edge = self.plan.edges[number]
        tried = self._asking.tried
        if not (self.plan.shows_all[number] or tried(is_shown, view, edge, document, change)):
            return None
        path = change.path
        match edge:
            case Root():
                keys: dict[str, Any] = {self.plan.plan.views[view].row_id(path): None}
            case Group():
                keys = dict(tried(group_ids, view, edge, document, change) or ())
            case Fixed():
                keys = {path: None} if path == edge.path else {}
            case Reference():
                keys = {path: None}
            case Referrers():
                keys = dict.fromkeys(tried(targets, view, edge, document, change) or ())
            case _:
                assert_never(edge)
        if not keys:
            return None
        role = self._asking.role(number, view, document, change)
        return Said(State(sequence, role, bytes(change.fields), change.version), keys)

    def _tell(self, cell: DocumentCell, number: int, change: Change, old: Said | None, new: Said | None) -> None:
        view, edge = self.plan.edges[number]
        path, version = change.path, change.version
        before, after = old.keys if old is not None else {}, new.keys if new is not None else {}
        for key in [*before, *(key for key in after if key not in before)]:
            was = old.state if old is not None and key in before else None
            now = new.state if new is not None and key in after else None
            if not isinstance(edge, (Root, Group)):
                role: Role | None = now.role if now is not None else None
                fields = now.fields if now is not None else b""
                self.send(Lies(number, key, path, cell.sequence, role, fields, version))
                continue
            weight = int(now is not None) - int(was is not None)
            if isinstance(edge, Group) and weight:
                self.send(Owned(view, key, (after if now is not None else before)[key], weight, version))
            if edge.limit is None:
                show(self.plan, self.send, number, key, path, was, now, version)
            else:
                state = now or was
                assert state is not None
                self.send(
                    Candidate(
                        number, key, path, weight, state.sequence, state.role, state.fields, state.version, version
                    )
                )
