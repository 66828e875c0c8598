"""Folds: how aggregates are computed. The result does not depend on the order of the values.

An accumulator consists of Firestore values, so `pack` can convert it to one. `add` adds the contribution of one
document: its path and the value of `of=`.

>>> fold = Sum()
>>> state = fold.empty()
>>> for value in (0.1, 1e100, 0.2, -1e100):
...     fold.add(state, "d/1", value)
>>> fold.result(state)
0.30000000000000004
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from boiler_beam.compare import comes_before, equality_key, sort_key
from boiler_beam.raised import raised
from boiler_beam.values import encode_wire

__all__ = [
    "Collect",
    "Count",
    "CountDistinct",
    "CustomFold",
    "Extreme",
    "Fold",
    "Mean",
    "Sum",
    "sort_entries",
]

_SCALE = 1074  # 2**-1074 is the smallest float: every finite float is an integer number of it
State = Any
"""An accumulator: a list or dict, changed in place."""


class Fold(abc.ABC):
    """How the contributions of documents are combined into one value.

    Attributes:
        keeps: What a stream stores: an `accumulator` from which contributions can be retracted, in any order; the
            `distinct` values with their counts; or a `ranking`, of which the first values are the result.
        limit: How many values of a ranking are in the result; None for all.
    """

    keeps: ClassVar[Literal["accumulator", "distinct", "ranking"]] = "accumulator"
    limit: int | None = None

    @abc.abstractmethod
    def empty(self) -> State:
        """Returns an accumulator without contributions."""

    def check(self, value: Any) -> None:  # noqa: B027
        """Checks a contribution before it is added to a state.

        Raises:
            TypeError: The fold does not accept values of its type.
        """

    @abc.abstractmethod
    def add(self, state: State, path: str, value: Any) -> None:
        """Adds the contribution of the document at a path."""

    def retract(self, state: State, path: str, value: Any) -> None:
        """Retracts a contribution that was added, or will be added later; only for folds that keep a `state`."""
        raise TypeError(f"{type(self).__name__} can't take back a value")

    def rank(self, path: str, value: Any) -> bytes:
        """Returns the unique sort key of a contribution in the ranking; or the key of a distinct value."""
        raise TypeError(f"{type(self).__name__} has no ranking")

    @abc.abstractmethod
    def merge(self, state: State, other: State) -> None:
        """Adds all contributions of another accumulator."""

    @abc.abstractmethod
    def result(self, state: State) -> Any:
        """Returns the aggregate's value."""

    def pack(self, state: State) -> Any:
        """Returns the accumulator as a Firestore value."""
        return state

    def unpack(self, packed: Any) -> State:
        """Returns the accumulator from the value that `pack` returned."""
        return packed


@dataclass(frozen=True)
class Count(Fold):
    """The number of contributing documents. The accumulator is `[number]`."""

    def empty(self) -> State:
        return [0]

    def add(self, state: State, path: str, value: Any) -> None:
        state[0] += 1

    def retract(self, state: State, path: str, value: Any) -> None:
        state[0] -= 1

    def merge(self, state: State, other: State) -> None:
        state[0] += other[0]

    def result(self, state: State) -> int:
        return int(state[0])


@dataclass(frozen=True)
class Sum(Fold):
    """The sum of numbers.

    The accumulator is `[sum of ints, number of floats, sum of floats times 2**1074, NaNs, +infs, -infs, number of
    values]`. Floats are added as integer multiples of 2**-1074, so the sum is exact in any order, and after
    retractions.
    """

    def empty(self) -> State:
        return [0, 0, 0, 0, 0, 0, 0]

    def check(self, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"expected a number, got {value!r}")

    def add(self, state: State, path: str, value: Any) -> None:
        self._count(state, value, 1)

    def retract(self, state: State, path: str, value: Any) -> None:
        self._count(state, value, -1)

    @staticmethod
    def _count(state: State, value: Any, weight: int) -> None:
        state[6] += weight
        if isinstance(value, int):
            state[0] += weight * value
            return
        state[1] += weight
        if value != value:
            state[3] += weight
        elif value in (float("inf"), float("-inf")):
            state[4 if value > 0 else 5] += weight
        else:
            numerator, denominator = value.as_integer_ratio()
            state[2] += weight * (numerator << (_SCALE + 1 - denominator.bit_length()))

    def merge(self, state: State, other: State) -> None:
        for place, part in enumerate(other):
            state[place] += part

    def result(self, state: State) -> Any:
        ints, floats = state[0], state[1]
        return self._float(state, 1) if floats else ints

    def pack(self, state: State) -> Any:
        return [f"{part:x}" for part in state]  # beyond int64

    def unpack(self, packed: Any) -> State:
        return [int(part, 16) for part in packed]

    @staticmethod
    def _float(state: State, divisor: int) -> float:
        ints, _, scaled, nans, above, below, _ = state
        if nans or (above and below):
            return float("nan")
        if above or below:
            return float("inf") if above else float("-inf")
        total = (ints << _SCALE) + scaled
        try:
            return float(total / (divisor << _SCALE))
        except OverflowError:
            return float("inf") if total > 0 else float("-inf")


@dataclass(frozen=True)
class Mean(Sum):
    """The mean of numbers, with the accumulator of the sum."""

    def result(self, state: State) -> float | None:
        return self._float(state, state[6]) if state[6] else None


@dataclass(frozen=True)
class Extreme(Fold):
    """The smallest or largest value. The accumulator is `[value]`, or `[]` without values."""

    largest: bool
    keeps: ClassVar[Literal["accumulator", "distinct", "ranking"]] = "ranking"
    limit = 1

    def rank(self, path: str, value: Any) -> bytes:
        return sort_key([value], (self.largest,), path)

    def empty(self) -> State:
        return []

    def add(self, state: State, path: str, value: Any) -> None:
        if not state:
            state.append(value)
            return
        if comes_before(state[0], value) if self.largest else comes_before(value, state[0]):
            state[0] = value

    def merge(self, state: State, other: State) -> None:
        for value in other:
            self.add(state, "", value)

    def result(self, state: State) -> Any:
        return state[0] if state else None


@dataclass(frozen=True)
class CountDistinct(Fold):
    """The number of distinct values, compared as in Firestore's queries: 1 and 1.0 are equal.

    The accumulator is a dict from the equality key of each value to the number of documents with it.
    """

    keeps: ClassVar[Literal["accumulator", "distinct", "ranking"]] = "distinct"

    def rank(self, path: str, value: Any) -> bytes:
        return equality_key(value)

    def empty(self) -> State:
        return {}

    def add(self, state: State, path: str, value: Any) -> None:
        self._count(state, equality_key(value).decode("latin-1"), 1)

    @staticmethod
    def _count(state: State, key: str, weight: int) -> None:
        number = state.get(key, 0) + weight
        if number:
            state[key] = number
        else:
            del state[key]

    def merge(self, state: State, other: State) -> None:
        for key, number in other.items():
            self._count(state, key, number)

    def result(self, state: State) -> int:
        return sum(number > 0 for number in state.values())


@dataclass(frozen=True)
class Collect(Fold):
    """The values in order. The accumulator is `[[sort values, path, value], ...]`, cut to `limit` now and then.

    Attributes:
        descending: For each sort value, whether the largest comes first.
        limit: The maximal number of values, or None for all.
    """

    descending: tuple[bool, ...] = ()
    limit: int | None = None
    keeps: ClassVar[Literal["accumulator", "distinct", "ranking"]] = "ranking"

    def rank(self, path: str, value: Any) -> bytes:
        by, item = value
        return sort_key(by, self.descending, path) + b"\0" + encode_wire(item)

    def empty(self) -> State:
        return []

    def add(self, state: State, path: str, value: Any) -> None:
        by, item = value
        state.append([by, path, item])
        if self.limit is not None and len(state) >= 2 * self.limit + 64:
            self._cut(state)

    def merge(self, state: State, other: State) -> None:
        state.extend(other)
        if self.limit is not None and len(state) >= 2 * self.limit + 64:
            self._cut(state)

    def result(self, state: State) -> list[Any]:
        self._cut(state)
        return [item for _, _, item in state]

    def _cut(self, state: State) -> None:
        sort_entries(state, self.descending)
        if self.limit is not None:
            del state[self.limit :]


@dataclass(frozen=True)
class CustomFold(Fold):
    """A custom aggregate (`boiler_beam.aggregate.Custom`). The accumulator is `[state, [[weight, value, error], ...]]`.

    The second list holds the values for which a method raised. Until they are retracted, the aggregate has no result,
    and rows that need it stay as they are (S6).
    """

    custom: Any = field(repr=False)

    def empty(self) -> State:
        return [self.custom.empty(), []]

    def check(self, value: Any) -> None:
        self.custom.add(self.custom.empty(), value)

    def add(self, state: State, path: str, value: Any) -> None:
        self._count(state, value, 1)

    def retract(self, state: State, path: str, value: Any) -> None:
        self._count(state, value, -1)

    def _count(self, state: State, value: Any, weight: int) -> None:
        for index, (other, known, _) in enumerate(state[1]):
            if other == -weight and encode_wire(known) == encode_wire(value):
                del state[1][index]
                return
        try:
            state[0] = (self.custom.add if weight > 0 else self.custom.retract)(state[0], value)
        except Exception as error:  # a user's method; `result` raises, so the rows that need it stay as they are (S6)
            state[1].append([weight, value, raised(error)])

    def merge(self, state: State, other: State) -> None:
        state[1] += other[1]
        try:
            state[0] = self.custom.merge(state[0], other[0])
        except Exception as error:  # a user's method
            state[1].append([0, other[0], raised(error)])

    def result(self, state: State) -> Any:
        for weight, value, why in state[1]:
            method = "add" if weight > 0 else "retract" if weight < 0 else "merge"
            raise ValueError(f"{type(self.custom).__name__}.{method} raised {why}, for {value!r}")
        return self.custom.result(state[0])


def sort_entries(entries: list[Any], descending: tuple[bool, ...]) -> None:
    """Sorts `[[sort values, path, anything], ...]` in place: nulls last, ties by path."""
    entries.sort(key=lambda entry: sort_key(entry[0], descending, entry[1]))
