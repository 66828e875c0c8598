"""A ranking as logs: tiers of which each holds 64 times as much as the one before, refilled from the next (S12).

The bounds of the tiers, kept in the head, say which tier a key belongs to. So an item is added or taken away without
reading a tier, and the first items are read from the first tier. A tier that runs dry is refilled from the next one;
the rest of one that overflows goes to the next one: each item goes through each tier once.

>>> from boiler_beam.steps.keyed.cells import ListLog
>>> tiers = Ranking([ListLog() for _ in range(TIERS)], Bounds(), tuple[str], least=2)
>>> for number in range(9):
...     tiers.add(bytes([9 - number]), 1, (f"item {9 - number}",))
>>> tiers.add(bytes([1]), -1, ("item 1",))
>>> list(tiers.first(2))
[('item 2',), ('item 3',)]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec

from boiler_beam.steps.keyed.cells import Log
from boiler_beam.steps.keyed.logs import Sizes, WeightedLog

__all__ = ["TIERS", "Bounds", "Ranking"]

TIERS = 4
_TIMES = 64


class Bounds(msgspec.Struct, array_like=True):
    """The bounds of the tiers.

    Attributes:
        last: The last key of each tier; None where the tier takes all keys that are left.
        sizes: The sizes of each tier's log.
    """

    last: list[bytes | None] = msgspec.field(default_factory=lambda: [None] * TIERS)
    sizes: list[Sizes] = msgspec.field(default_factory=lambda: [Sizes() for _ in range(TIERS)])


class Ranking:
    """Items in the order of their keys.

    Args:
        logs: One for each tier.
        bounds: The bounds of the tiers; they are updated.
        type_: The type of an item.
        least: How many items the first tier holds when it is refilled, at least as many as are asked for.
    """

    def __init__(self, logs: Sequence[Log], bounds: Bounds, type_: Any, least: int = _TIMES) -> None:
        self._bounds, self._least = bounds, least
        entry = tuple[bytes, int, type_]
        self._tiers: list[WeightedLog[bytes, Any]] = [
            WeightedLog(log, sizes, entry) for log, sizes in zip(logs, bounds.sizes, strict=True)
        ]

    def _tier_of(self, key: bytes) -> int:
        return next(tier for tier, last in enumerate(self._bounds.last) if last is None or key <= last)

    def add(self, key: bytes, weight: int, item: Any) -> None:
        """Adds an item `weight` times, or retracts it; no two items have one key."""
        self._tiers[self._tier_of(key)].add(key, weight, item)

    def first(self, limit: int | None) -> Iterable[Any]:
        """The first items whose weights are positive; all where there is no limit."""
        if limit is None:
            found = [pair for tier in self._tiers for pair in tier.sum().items()]
        else:
            found = list(self._filled(0, limit).items())
        found.sort(key=lambda pair: pair[0])
        return islice((item for _, (weight, item) in found if weight > 0), limit)

    def _filled(self, tier: int, least: int) -> dict[bytes, tuple[int, Any]]:
        """The items of a tier, which is refilled where it holds too few, and cut where it holds far too many."""
        found = self._tiers[tier].sum()
        last, capacity = self._bounds.last, self._least * _TIMES**tier
        if tier == TIERS - 1:
            return found
        if last[tier] is not None and sum(weight > 0 for weight, _ in found.values()) < least:
            below = self._filled(tier + 1, capacity)
            keys = sorted(below)
            moving = keys[:capacity]
            for key in moving:
                found[key] = below.pop(key)
            last[tier] = moving[-1] if len(keys) > capacity else last[tier + 1]
            self._tiers[tier].rewrite(found)
            self._tiers[tier + 1].rewrite(below)
        elif len(found) > 4 * capacity:
            keys = sorted(found)
            for key in keys[2 * capacity :]:
                self._tiers[tier + 1].add(key, *found.pop(key))
            last[tier] = keys[2 * capacity - 1]
            self._tiers[tier].rewrite(found)
        return found
