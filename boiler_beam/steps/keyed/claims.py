"""The step at a row path that several rows may claim: the smallest row has it (S11)."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from boiler_beam.events import EncodedRow, Stamp, Touch
from boiler_beam.steps.claims import ClaimedPath, contested
from boiler_beam.steps.emission import is_deleted, uncertain
from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.messages import Claim
from boiler_beam.steps.keyed.plan import EPOCH
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.keyed.step import Step

__all__ = ["ClaimStep"]


class _ClaimHead(ClaimedPath, array_like=True):
    """What is kept of the path, and the sequence of each row's last claim, also of one that was given up."""

    sequences: dict[str, int] = msgspec.field(default_factory=dict)


class ClaimStep(Step):
    """Key: a row path. Keeps what each row claims it for; emits what the smallest row does, when that changes.

    Claim(names/ann, u2, {...})     emitted
    Claim(names/ann, u1, {...})     emitted: u1 is smaller; u2 is a dead letter
    Claim(names/ann, u1, None)      that of u2 is emitted again
    """

    head_type: ClassVar[type[Any]] = _ClaimHead

    def update(self, head: _ClaimHead, cell: Cell, key: Key, message: Claim | Touch) -> None:
        if isinstance(message, Touch):
            head.emitted = uncertain(head.emitted)
        elif head.sequences.get(message.row, -1) < message.sequence:  # else a later claim of the row came before
            head.sequences[message.row] = message.sequence
            for row in head.claim(message.row, message.fields):
                self.output.refuse(contested(self.view.view.name, message.path, row))
        emission = head.emit(message.version, EPOCH, self.settings.now())
        if emission is not None:
            new, fields = emission
            self.output.emit(EncodedRow(key.name, Stamp(self.settings.generation, new.version, new.seq), fields))

    def empty_since(self, head: _ClaimHead, cell: Cell) -> int | None:
        return head.emitted.version if head.emitted is not None and is_deleted(head.emitted) else None
