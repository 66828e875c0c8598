"""The accumulators of rows: values are added and retracted in any order (S10)."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import islice
from typing import Any

from typing_extensions import assert_never, override

from boiler_beam.views.fold import Fold

__all__ = ["Accumulator", "accumulator_of"]


class Accumulator:
    """The accumulator of one aggregate of one row; this base class holds the fold's own: sums, counts, custom ones."""

    __slots__ = ("_fold", "_held")

    def __init__(self, fold: Fold, held: Any) -> None:
        self._fold, self._held = fold, held

    def add(self, path: str, value: Any) -> None:
        """Adds the value of the document at a path."""
        self._fold.add(self._held, path, value)

    def retract(self, path: str, value: Any) -> None:
        """Retracts a value that was added."""
        self._fold.retract(self._held, path, value)

    def result(self) -> Any:
        """The aggregate's value."""
        return self._fold.result(self._held)


class _DistinctAccumulator(Accumulator):
    """Holds how many documents have each value."""

    __slots__ = ()

    @override
    def add(self, path: str, value: Any) -> None:
        key = self._fold.rank(path, value)
        self._held[key] = self._held.get(key, 0) + 1

    @override
    def retract(self, path: str, value: Any) -> None:
        key = self._fold.rank(path, value)
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]

    @override
    def result(self) -> int:
        return len(self._held)


class _RankingAccumulator(Accumulator):
    """Holds the values by sort key; the keys are sorted when the result is read, and kept sorted from then on (S12).

    >>> from boiler_beam.views.fold import Extreme
    >>> largest = accumulator_of(Extreme(largest=True))
    >>> for path, value in (("d/1", 3), ("d/2", 7), ("d/3", 5)):
    ...     largest.add(path, value)
    >>> largest.result(), largest.retract("d/2", 7), largest.result()
    (7, None, 5)
    """

    __slots__ = ("_order",)

    def __init__(self, fold: Fold, held: Any) -> None:
        super().__init__(fold, held)
        self._order: list[bytes] | None = None

    @override
    def add(self, path: str, value: Any) -> None:
        key = self._fold.rank(path, value)
        self._held[key] = path, value
        if self._order is not None:
            insort(self._order, key)

    @override
    def retract(self, path: str, value: Any) -> None:
        key = self._fold.rank(path, value)
        del self._held[key]
        if self._order is not None:
            del self._order[bisect_left(self._order, key)]

    @override
    def result(self) -> Any:
        if self._order is None:
            self._order = sorted(self._held)
        state = self._fold.empty()
        for key in islice(self._order, self._fold.limit):
            self._fold.add(state, *self._held[key])
        return self._fold.result(state)


def accumulator_of(fold: Fold) -> Accumulator:
    """An empty accumulator."""
    match fold.keeps:
        case "accumulator":
            return Accumulator(fold, fold.empty())
        case "distinct":
            return _DistinctAccumulator(fold, {})
        case "ranking":
            return _RankingAccumulator(fold, {})
        case _:
            assert_never(fold.keeps)
