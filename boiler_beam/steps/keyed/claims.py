"""The step at a row path that several rows may claim: the smallest row has it (S11)."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from boiler_beam.events import EncodedRow, Stamp, Touch
from boiler_beam.steps.claims import contested, losers
from boiler_beam.steps.emission import Emitted, emit, is_deleted, uncertain
from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.messages import Claim
from boiler_beam.steps.keyed.plan import EPOCH
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.keyed.step import Step

__all__ = ["ClaimStep"]


class _ClaimHead(msgspec.Struct, array_like=True):
    """The last claim of each row (its sequence, and its fields or None), and the last emission at the path."""

    claims: dict[str, tuple[int, bytes | None]] = {}
    emitted: Emitted | None = None

    def current(self) -> dict[str, bytes]:
        """The rows that claim the path, with their fields."""
        return {row: fields for row, (_, fields) in self.claims.items() if fields is not None}


class ClaimStep(Step):
    """Key: a row path. Keeps what each row claims it for; emits what the smallest row does, when that changes.

    Claim(names/ann, u2, {...})     emitted
    Claim(names/ann, u1, {...})     emitted: u1 is smaller; u2 is a dead letter
    Claim(names/ann, u1, None)      that of u2 is emitted again
    """

    head_type: ClassVar[type[Any]] = _ClaimHead

    def update(self, head: _ClaimHead, cell: Cell, key: Key, message: Claim | Touch) -> None:
        if isinstance(message, Claim):
            self._claim(head, message)
        else:
            head.emitted = uncertain(head.emitted)
        claims = head.current()
        fields = claims[min(claims)] if claims else None
        new = emit(head.emitted, message.version, fields, EPOCH, self.settings.now())
        if new is not None:
            head.emitted = new
            self.output.emit(EncodedRow(key.name, Stamp(self.settings.generation, new.version, new.seq), fields))

    def _claim(self, head: _ClaimHead, message: Claim) -> None:
        """Takes a claim, unless a later one of its row came before; rows that lose the path by it are dead letters."""
        before = losers(head.current())
        if message.row in head.claims and head.claims[message.row][0] >= message.sequence:
            return
        head.claims[message.row] = message.sequence, message.fields
        for row in losers(head.current()):
            if row not in before:
                self.output.refuse(contested(self.view.view.name, message.path, row))

    def empty_since(self, head: _ClaimHead, cell: Cell) -> int | None:
        return head.emitted.version if head.emitted is not None and is_deleted(head.emitted) else None
