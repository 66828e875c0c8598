"""A naive comparison of values and paths in Firestore's order; the tests compare `boiler_beam.compare` with it."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

from boiler_beam.values import GeoPoint, Ref

__all__ = ["compare", "compare_paths", "compare_ties"]


def compare(one: Any, other: Any) -> int:
    """Returns a negative number if the first value comes before the second, 0 if they are equal, else a positive one.

    Source: https://firebase.google.com/docs/firestore/manage-data/data-types#value_type_ordering
    """
    kind, other_kind = _place_of_type(one), _place_of_type(other)
    if kind != other_kind:
        return kind - other_kind
    match one:
        case None:
            return 0
        case int() | float():
            return _in_order(_number(one), _number(other))
        case Ref():
            return other.is_local - one.is_local or compare_paths(one.path, other.path)
        case GeoPoint():
            return compare([one.latitude, one.longitude], [other.latitude, other.longitude])
        case dict() if kind == _VECTOR:
            first, second = one["value"], other["value"]
            return len(first) - len(second) or compare(first, second)
        case dict():
            return compare([[key, one[key]] for key in sorted(one)], [[key, other[key]] for key in sorted(other)])
        case list() | tuple():
            return next(
                (found for pair in zip(one, other, strict=False) if (found := compare(*pair))), len(one) - len(other)
            )
        case _:
            return _in_order(one, other)


def compare_ties(one: Any, other: Any) -> int:
    """Compares values like `compare`, and orders equal numbers too: an int before its double, -0.0 before 0.0."""
    return compare(one, other) or (_in_order(_tie(one), _tie(other)) if one == one else 0)


def compare_paths(one: str, other: str) -> int:
    """Compares two paths segment by segment; numeric ids (`__id7__`) come first, by their numbers."""
    return _in_order([_segment(part) for part in one.split("/")], [_segment(part) for part in other.split("/")])


_VECTOR = 9


def _place_of_type(value: Any) -> int:
    if isinstance(value, dict) and value.keys() == {"__type__", "value"}:
        is_vector = value["__type__"] == "__vector__" and isinstance(value["value"], list)
        return _VECTOR if is_vector else 10
    types: list[Any] = [type(None), bool, (int, float), datetime, str, bytes, Ref, GeoPoint, (list, tuple), (), dict]
    return next(index for index, kind in enumerate(types) if isinstance(value, kind))


def _number(value: float) -> Any:
    if value != value:
        return (0, 0)
    if value in (float("inf"), float("-inf")):
        return (1, 0) if value < 0 else (3, 0)
    return (2, Fraction(value))


def _tie(value: Any) -> Any:
    """Returns what distinguishes equal values: for each number whether it is a double, and the sign of a zero."""
    if isinstance(value, (int, float)):
        return [isinstance(value, float), not str(value).startswith("-0")]
    if isinstance(value, GeoPoint):
        return [_tie(float(value.latitude)), _tie(float(value.longitude))]
    if isinstance(value, dict):
        return [_tie(value[key]) for key in sorted(value)]
    return [_tie(item) for item in value] if isinstance(value, (list, tuple)) else []


def _segment(part: str) -> Any:
    number = part.removeprefix("__id").removesuffix("__")
    is_numeric = part == f"__id{number}__" and number.removeprefix("-").isdecimal() and number.isascii()
    if is_numeric and -(2**63) <= int(number) < 2**63:
        return (0, int(number), "")
    return (1, 0, part)


def _in_order(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)
