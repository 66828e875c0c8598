"""The step that keeps an aggregate's values in order, and gives its row the first ones (S12)."""

from __future__ import annotations

from typing import Any

import msgspec

from boiler_beam.compare import same_value
from boiler_beam.steps.stream.cells import Ranking

__all__ = ["RankHead", "rank"]


class RankHead(msgspec.Struct, array_like=True, eq=False):
    """What was given last."""

    sequence: int = 0
    values: list[Any] = []


def rank(head: RankHead, ranking: Ranking[Any], limit: int | None, version: int) -> bool:
    """Takes the first values where they changed; gives whether they did.

    Added(largest, c1, +3)          [3]
    Added(largest, c1, +7)          [7]
    Added(largest, c1, +5)          nothing: 7 is still the largest
    Added(largest, c1, -7, +6)      [6]
    """
    values = list(ranking.first(limit))
    if same_value(values, head.values):
        return False
    head.sequence, head.values = max(head.sequence + 1, version), values
    return True
