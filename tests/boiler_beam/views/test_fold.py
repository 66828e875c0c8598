"""Accumulators: the result is exact, and independent of order, grouping and encoding."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.values import from_wire, to_wire
from boiler_beam.views.aggregate import Custom
from boiler_beam.views.fold import Collect, Count, CountDistinct, CustomFold, Extreme, Fold, Mean, Sum
from tests.helpers.values import scalars

numbers = st.one_of(st.integers(-(2**62), 2**62), st.floats())


def fold(one: Fold, contributions: list[tuple[str, Any]]) -> Any:
    state = one.empty()
    for path, value in contributions:
        one.add(state, path, value)
    return one.result(state)


def in_parts(one: Fold, contributions: list[tuple[str, Any]], shuffler: random.Random) -> Any:
    """Folds the shuffled values in three parts that are encoded, decoded and merged."""
    shuffled = shuffler.sample(contributions, len(contributions))
    total = one.empty()
    for part in range(3):
        state = one.empty()
        for path, value in shuffled[part::3]:
            one.add(state, path, value)
        one.merge(total, one.unpack(from_wire(to_wire(one.pack(state)))))
    return one.result(total)


FOLDS: list[tuple[Fold, st.SearchStrategy[Any]]] = [
    (Count(), st.just(0)),
    (Sum(), numbers),
    (Mean(), numbers),
    (Extreme(True), scalars.filter(lambda value: value is not None)),
    (Extreme(False), scalars.filter(lambda value: value is not None)),
    (CountDistinct(), scalars.filter(lambda value: value is not None)),
    (Collect(), st.tuples(st.just([]), scalars).map(list)),
    (
        Collect((True, False), 2),
        st.tuples(st.lists(st.one_of(st.none(), st.integers(0, 2)), min_size=2, max_size=2), st.integers(0, 9)).map(
            list
        ),
    ),
]


@pytest.mark.parametrize("place", range(len(FOLDS)))
@given(data=st.data(), shuffler=st.randoms(use_true_random=False))
def test_neither_order_nor_grouping_changes_a_bit(place: int, data: st.DataObject, shuffler: random.Random) -> None:
    one, contributions = FOLDS[place]
    given_values = [
        (f"d/{number}", value) for number, value in enumerate(data.draw(st.lists(contributions, max_size=12)))
    ]
    assert repr(in_parts(one, given_values, shuffler)) == repr(fold(one, given_values))


@given(st.lists(st.one_of(st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_sums_and_means_are_exact_until_the_last_rounding(values: list[float]) -> None:
    exact = sum(map(Fraction, values))
    contributions = [("d/1", value) for value in values]
    is_int = all(isinstance(value, int) for value in values)
    try:
        expected: float = int(exact) if is_int else float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert fold(Sum(), contributions) == expected
    assert type(fold(Sum(), contributions)) is (int if is_int else float)
    try:
        mean = float(exact / len(values))
    except OverflowError:
        mean = math.inf if exact > 0 else -math.inf
    assert fold(Mean(), contributions) == mean


def test_of_nothing() -> None:
    folds = [Count(), Sum(), Mean(), Extreme(True), CountDistinct(), Collect(), Collect((True,), 3)]
    assert [fold(one, []) for one in folds] == [0, 0, None, None, 0, [], []]


def test_nan_and_infinities() -> None:
    inf, nan = math.inf, math.nan
    assert math.isnan(fold(Sum(), [("a/1", nan), ("a/2", 1)]))
    assert math.isnan(fold(Sum(), [("a/1", inf), ("a/2", -inf)]))
    assert fold(Mean(), [("a/1", -inf), ("a/2", 1e308)]) == -inf


@pytest.mark.parametrize("value", ["1", None, [1]])
def test_a_sum_refuses_what_is_no_number(value: Any) -> None:
    with pytest.raises(TypeError, match="expected a number"):
        Sum().check(value)


def test_top_and_collect_break_ties_by_path_and_put_nulls_last() -> None:
    entries = [("d/3", [[1], "c"]), ("d/1", [[2], "a"]), ("d/2", [[1], "b"]), ("d/4", [[None], "n"])]
    assert fold(Collect((True,), None), entries) == ["a", "b", "c", "n"]
    assert fold(Collect((False,), None), entries) == ["b", "c", "a", "n"]
    assert fold(Collect((True,), 2), entries) == ["a", "b"]
    assert fold(Collect(), [(path, [[], item]) for path, (_, item) in entries]) == ["a", "b", "c", "n"]


def test_a_limited_collect_holds_a_bounded_state() -> None:
    one, state = Collect((True,), 3), Collect().empty()
    for number in range(10_000):
        one.add(state, f"d/{number}", [[number % 97], number])
    assert len(state) < 100
    assert one.result(state) == [1066, 1163, 1260]


class Longest(Custom):
    """An aggregate of the longest text, which can't retract a text that was not added."""

    def empty(self) -> Any:
        return []

    def add(self, state: Any, value: Any) -> Any:
        return sorted([*state, len(value)])

    def retract(self, state: Any, value: Any) -> Any:
        if len(value) not in state:
            raise KeyError(value)
        state.remove(len(value))
        return state

    def merge(self, state: Any, other: Any) -> Any:
        return sorted([*state, *other])

    def result(self, state: Any) -> Any:
        return state[-1] if state else None


def test_s6_what_a_custom_aggregate_raises_for_is_held_until_it_is_taken_back() -> None:
    one = CustomFold(Longest())
    state = one.empty()
    one.add(state, "d/1", "four")
    one.retract(state, "d/2", "a long one")  # comes before what it takes back
    with pytest.raises(ValueError, match=r"Longest.retract raised KeyError: 'a long one' \(.*\), for 'a long one'"):
        one.result(state)
    state = one.unpack(from_wire(to_wire(one.pack(state))))
    one.add(state, "d/2", "another")
    with pytest.raises(ValueError, match=r"Longest.retract raised KeyError"):
        one.result(state)
    one.add(state, "d/2", "a long one")
    assert one.result(state) == 7
    one.add(state, "d/3", 3)  # no text
    with pytest.raises(ValueError, match=r"Longest.add raised TypeError: .* for 3"):
        one.result(state)
    one.add(state, "d/4", 3)
    one.retract(state, "d/3", 3)
    with pytest.raises(ValueError, match=r"Longest.add raised TypeError"):
        one.result(state)
    one.retract(state, "d/4", 3)
    assert one.result(state) == 7
    other = one.empty()
    one.retract(other, "d/1", "eleven char")
    one.merge(state, other)
    with pytest.raises(ValueError, match="eleven char"):
        one.result(state)
