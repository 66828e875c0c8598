"""The step at a path that several rows may want: the smallest row has it (S11)."""

from __future__ import annotations

from collections.abc import Callable

from boiler_beam.events import DeadLetter
from boiler_beam.steps.claims import contested
from boiler_beam.steps.stream.cells import ClaimCell, Emitted
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.row import emit

__all__ = ["Claim"]


class Claim:
    """Key: a view and a path. Keeps what each row wants it to hold; gives what the smallest row wants, when it changes.

    Claimed(names/ann, u2, {...})     given
    Claimed(names/ann, u1, {...})     given: u1 is smaller; u2 is a dead letter
    Claimed(names/ann, u1, None)      u2's is given again
    """

    def __init__(self, plan: StreamPlan, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan, self.refuse = plan, refuse

    def claimed(self, cell: ClaimCell, view: int, path: str, row: str, sequence: int, fields: bytes | None) -> None:
        """A row wants the path to hold something else; each that loses it by that is a dead letter."""
        before = sorted(one for one, _ in cell.claims.items())
        cell.claims.put(row, sequence, fields)
        if before in ([], [row]):
            return
        after = sorted(one for one, _ in cell.claims.items())
        for one in after[1:]:
            if one not in before[1:]:
                self.refuse(contested(self.plan.plan.views[view].name, path, one))

    def settle(
        self, cell: ClaimCell, version: int, epoch: int, now: int | None = None
    ) -> tuple[Emitted, bytes | None] | None:
        """What is to be given of the path; None where the sink holds it."""
        claims = dict(cell.claims.items())
        fields = claims[min(claims)] if claims else None
        new = emit(cell.emitted, version, fields, epoch, now)
        if new is None:
            return None
        cell.emitted = new
        return new, fields
