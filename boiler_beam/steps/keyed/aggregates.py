"""The steps of aggregates whose values do not fit in a row: distinct values, and values in order."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from boiler_beam.compare import same_value
from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.messages import DistinctDelta, FirstValues, RankedValuesDelta, ValueCountDelta
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.keyed.step import Step
from boiler_beam.steps.keyed.tiers import TIERS, Bounds, Ranking
from boiler_beam.values import from_wire

__all__ = ["DistinctStep", "RankingStep"]


class _Count(msgspec.Struct, array_like=True):
    number: int = 0


class DistinctStep(Step):
    """Key: a row and a value that an aggregate counts once. Keeps how many documents have it.

    ValueCountDelta(c1, "Ann", +1)     c1 counts one value more
    ValueCountDelta(c1, "Ann", +1)     nothing
    ValueCountDelta(c1, "Ann", -2)     c1 counts one value less
    """

    head_type: ClassVar[type[Any]] = _Count

    def update(self, head: _Count, cell: Cell, key: Key, message: ValueCountDelta) -> None:
        before = head.number
        head.number += message.weight
        weight = (head.number > 0) - (before > 0)
        if weight:
            self.output.send(DistinctDelta(message.aggregate_index, message.row, weight, message.version))


class _RankingHead(msgspec.Struct, array_like=True, eq=False):
    sequence: int = 0
    values: list[Any] = []
    bounds: Bounds = msgspec.field(default_factory=Bounds)


class RankingStep(Step):
    """Key: a row, of an aggregate that needs its values in order (S12). Sends the first ones when they change.

    RankedValuesDelta(largest, c1, +3)         [3]
    RankedValuesDelta(largest, c1, +7)         [7]
    RankedValuesDelta(largest, c1, +5)         nothing: 7 is still the largest
    RankedValuesDelta(largest, c1, -7, +6)     [6]
    """

    head_type: ClassVar[type[Any]] = _RankingHead
    number_of_logs: ClassVar[int] = TIERS

    def update(self, head: _RankingHead, cell: Cell, key: Key, message: RankedValuesDelta) -> None:
        index, version = message.aggregate_index, message.version
        fold = self.view.view.aggregates[index].fold
        ranking = Ranking(cell.logs, head.bounds, Any, max(64, 2 * (fold.limit or 0)))
        for value, weight in message.values:
            ranking.add(fold.rank(message.path, from_wire(value)), weight, value)
        values = list(ranking.first(fold.limit))
        if not same_value(values, head.values):
            head.sequence, head.values = max(head.sequence + 1, version), values
            self.output.send(FirstValues(index, message.row, values, head.sequence, version))
