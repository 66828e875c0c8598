"""What an aggregate of one row holds: contributions are added and taken back, in whatever order they come."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import islice
from typing import Any, Protocol

from typing_extensions import assert_never

from boiler_beam.views.fold import Fold

__all__ = ["Accumulator", "accumulator_of"]


class Accumulator(Protocol):
    """What one aggregate of one row holds."""

    def add(self, path: str, value: Any) -> None:
        """Adds the contribution of the document at a path."""

    def retract(self, path: str, value: Any) -> None:
        """Takes back what was added."""

    def result(self) -> Any:
        """The aggregate's value."""


class _FoldAccumulator:
    """A fold's own state: sums, counts, means, and a user's own aggregates."""

    __slots__ = ("_fold", "_state")

    def __init__(self, fold: Fold) -> None:
        self._fold, self._state = fold, fold.empty()

    def add(self, path: str, value: Any) -> None:
        self._fold.add(self._state, path, value)

    def retract(self, path: str, value: Any) -> None:
        self._fold.retract(self._state, path, value)

    def result(self) -> Any:
        return self._fold.result(self._state)


class _DistinctAccumulator:
    """How many documents have each value."""

    __slots__ = ("_fold", "_numbers")

    def __init__(self, fold: Fold) -> None:
        self._fold, self._numbers = fold, dict[bytes, int]()

    def add(self, path: str, value: Any) -> None:
        key = self._fold.rank(path, value)
        self._numbers[key] = self._numbers.get(key, 0) + 1

    def retract(self, path: str, value: Any) -> None:
        key = self._fold.rank(path, value)
        self._numbers[key] -= 1
        if not self._numbers[key]:
            del self._numbers[key]

    def result(self) -> int:
        return len(self._numbers)


class _RankingAccumulator:
    """The values in order, sorted when the first ones are asked for.

    >>> from boiler_beam.views.fold import Extreme
    >>> largest = _RankingAccumulator(Extreme(largest=True))
    >>> for path, value in (("d/1", 3), ("d/2", 7), ("d/3", 5)):
    ...     largest.add(path, value)
    >>> largest.result(), largest.retract("d/2", 7), largest.result()
    (7, None, 5)
    """

    __slots__ = ("_fold", "_order", "_values")

    def __init__(self, fold: Fold) -> None:
        self._fold, self._values = fold, dict[bytes, Any]()
        self._order: list[bytes] | None = None

    def add(self, path: str, value: Any) -> None:
        key = self._fold.rank(path, value)
        self._values[key] = path, value
        if self._order is not None:
            insort(self._order, key)

    def retract(self, path: str, value: Any) -> None:
        key = self._fold.rank(path, value)
        del self._values[key]
        if self._order is not None:
            del self._order[bisect_left(self._order, key)]

    def result(self) -> Any:
        if self._order is None:
            self._order = sorted(self._values)
        state = self._fold.empty()
        for key in islice(self._order, self._fold.limit):
            self._fold.add(state, *self._values[key])
        return self._fold.result(state)


def accumulator_of(fold: Fold) -> Accumulator:
    """An empty accumulator."""
    match fold.keeps:
        case "accumulator":
            return _FoldAccumulator(fold)
        case "distinct":
            return _DistinctAccumulator(fold)
        case "ranking":
            return _RankingAccumulator(fold)
        case _:
            assert_never(fold.keeps)
