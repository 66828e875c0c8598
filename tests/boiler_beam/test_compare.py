"""Comparing values: stored alike, equal in queries, and their order; checked with a naive comparison."""

from __future__ import annotations

import functools
import itertools
import math
import random
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.compare import comes_before, equality_key, numeric_id, path_key, same_value, sort_key
from boiler_beam.oracle.compare import compare, compare_paths
from boiler_beam.values import GeoPoint, Ref, encode_wire
from tests.helpers.values import firestore_values

VECTOR = {"__type__": "__vector__", "value": [1.0, 2.0]}
ORDERED: list[Any] = [
    None, False, True, math.nan, -math.inf, -(2**63), -1, -0.0, 0.5, 1, 1.5, 2**53, 2**53 + 1, float(2**53 + 2), 2**63 - 1,
    math.inf, datetime(1969, 12, 31, tzinfo=timezone.utc), datetime(2026, 1, 1, tzinfo=timezone.utc),
    "", "1", "A", "a", "a\0", "é", b"", b"\0", b"\0\1", Ref("a/__id-7__"), Ref("a/__id7__"), Ref("a/__id12__"),
    Ref("a/12"), Ref("a/7"), Ref("a/b"), Ref("a/b/c/d"), Ref("a/b-/c/d"),
    GeoPoint(-1.0, 2.0), GeoPoint(-1.0, 3.0), GeoPoint(0.0, 0.0), [], [None], [1], [1, 0], [2],
    {"__type__": "__vector__", "value": []}, {"__type__": "__vector__", "value": [9.0]}, VECTOR,
    {}, {"a": 1}, {"a": 1, "b": 0}, {"a": 2}, {"b": 0},
]  # fmt: skip
EQUAL = [
    (1, 1.0),
    (0, -0.0),
    (0.0, -0.0),
    (2**53, float(2**53)),
    (math.nan, -math.nan),
    ([1], [1.0]),
    ({"a": 0}, {"a": -0.0}),
]
DIFFERENT = [
    (1, True),
    (0, False),
    (1, "1"),
    (2**53 + 1, float(2**53)),
    ("", None),
    ([], {}),
    ("a", b"a"),
    ([1], [[1]]),
]


def is_before(one: Any, other: Any) -> bool:
    return sort_key([one], (False,), "d/1") < sort_key([other], (False,), "d/1")


def test_firestores_order_of_types_and_values() -> None:
    for one, other in itertools.combinations(ORDERED[1:], 2):  # null comes last in a sort key
        assert is_before(one, other), (one, other)
        assert comes_before(one, other)
        assert not comes_before(other, one)
    assert is_before(math.inf, None)


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_numbers_are_told_apart_but_where_equality_is_asked_for(one: Any, other: Any) -> None:
    assert equality_key(one) == equality_key(other)
    is_nan = isinstance(one, float) and one != one
    assert same_value(one, other) == is_nan
    assert (is_before(one, other) or is_before(other, one)) != is_nan


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_looks_alike_is_not_equal(one: Any, other: Any) -> None:
    assert equality_key(one) != equality_key(other)
    assert not same_value(one, other)


@given(firestore_values, firestore_values)
def test_the_fast_comparisons_agree_with_the_naive_one(one: Any, other: Any) -> None:
    order = compare(one, other)
    assert (equality_key(one) == equality_key(other)) == (order == 0)
    if order:
        assert comes_before(one, other) == (order < 0)
    assert same_value(one, other) == (encode_wire(one) == encode_wire(other))
    assert same_value(one, one)


@given(st.lists(firestore_values, max_size=6), st.randoms(use_true_random=False))
def test_sort_keys_order_as_the_naive_comparison_does(values: list[Any], shuffler: random.Random) -> None:
    for is_descending in (False, True):
        shuffled = shuffler.sample(values, len(values))
        found = sorted(shuffled, key=lambda value: sort_key([value], (is_descending,), "d/1"))
        nulls = [value for value in shuffled if value is None]
        known = [value for value in shuffled if value is not None]
        wanted = sorted(known, key=functools.cmp_to_key(compare), reverse=is_descending) + nulls
        assert all(compare(one, other) == 0 for one, other in zip(found, wanted, strict=True))


paths = st.lists(
    st.sampled_from(["a", "a-", "a0", "b", "__id7__", "__id12__", "__id-3__", "7", "\0", "\1a", "é"]), min_size=1
)


@given(paths, paths)
def test_paths_are_ordered_segment_by_segment(one: list[str], other: list[str]) -> None:
    first, second = "/".join(one), "/".join(other)
    order = compare_paths(first, second)
    assert (path_key(first) < path_key(second)) == (order < 0)
    assert (sort_key([], (), first) + b"x" < sort_key([], (), second) + b"a") == (
        order < 0 or (order == 0 and b"x" < b"a")
    )


def test_ids_that_only_look_numeric() -> None:
    assert [numeric_id(one) for one in ("__id__", "__id7", "__idx__", "__id99999999999999999999__")] == [None] * 4
