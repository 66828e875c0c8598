"""Comparing values as Firestore does: which are stored alike, which are equal in queries, and their order.

| question | function | 1 and 1.0 | 0.0 and -0.0 | NaN and NaN |
| --- | --- | --- | --- | --- |
| does the stored value change? | `same_value` | differ | differ | the same |
| does a query find one by the other? | `equality_key` | equal | equal | equal |
| which comes first? | `sort_key` | 1 | -0.0 | neither |

Values of different types come in this order: null, booleans, numbers, timestamps, strings, bytes, references, geo
points, arrays, vectors, maps. NaN is the smallest number. References are ordered segment by segment, numeric ids
(`__id7__`) as numbers before all others; those into other databases come after the local ones. A vector is the map
`{"__type__": "__vector__", "value": [...]}`.

Source: https://firebase.google.com/docs/firestore/manage-data/data-types#value_type_ordering
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from boiler_beam.values import INT64_MAX, INT64_MIN, GeoPoint, Ref, micros_of

__all__ = ["comes_before", "equality_key", "numeric_id", "path_key", "same_value", "sort_key"]

_NUMERIC_ID = re.compile(r"__id(-?[0-9]+)__")
_INVERTED = bytes(255 - byte for byte in range(256))
_MORE, _END = b"\1", b"\0"
_SEPARATOR = "\1"
_ESCAPED = {code: f"\2{chr(code + 1)}" for code in range(3)}
_NULL, _BOOLEAN, _NUMBER, _TIMESTAMP, _STRING, _BYTES, _REFERENCE, _GEO_POINT, _ARRAY, _VECTOR, _MAP = (
    bytes([index]) for index in range(11)
)


def same_value(one: Any, other: Any) -> bool:
    """Returns whether two Firestore values are stored alike: same type and value, at every depth. NaN equals NaN.

    >>> same_value([1, {"a": float("nan")}], [1, {"a": float("nan")}]), same_value(1, 1.0), same_value(0.0, -0.0)
    (True, False, False)
    """
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is float:
        return struct.pack(">d", one) == struct.pack(">d", other) or (one != one and other != other)
    if kind is list or kind is tuple:
        return len(one) == len(other) and all(map(same_value, one, other))
    if kind is dict:
        return one.keys() == other.keys() and all(same_value(item, other[key]) for key, item in one.items())
    if kind is GeoPoint:
        return same_value(one.latitude, other.latitude) and same_value(one.longitude, other.longitude)
    return bool(one == other)


def equality_key(value: Any) -> bytes:
    """Returns bytes that are equal for two values exactly if Firestore's queries treat the values as equal.

    >>> equality_key(1) == equality_key(1.0), equality_key(1) == equality_key(True)
    (True, False)
    """
    return _encoded(value, breaks_ties=False)


def sort_key(values: Sequence[Any], descending: Sequence[bool], path: str) -> bytes:
    """Returns the sort key of a document: bytes in the order of its values, then of its path.

    Of two equal numbers an int comes before its double, and -0.0 before 0.0, so the order is always defined.

    Args:
        values: The Firestore values by which the document is sorted. Nulls come last in both directions.
        descending: For each value, whether the largest comes first.
        path: The document's path, which orders documents with equal values.

    >>> sort_key([3], (True,), "d/1") < sort_key([2.5], (True,), "d/1") < sort_key([None], (True,), "d/1")
    True
    """
    parts = []
    for value, is_descending in zip(values, descending, strict=True):
        if value is None:
            parts.append(b"\1")
        else:
            encoded = _encoded(value)
            parts.append(b"\0" + (encoded.translate(_INVERTED) if is_descending else encoded))
    parts.append(path_key(path).encode("utf-8", "surrogatepass") + _END)
    return b"".join(parts)


def comes_before(one: Any, other: Any) -> bool:
    """Returns whether a value comes before another; an int comes before an equal double, and -0.0 before 0.0."""
    kind = type(one)
    if kind is type(other) and (kind is int or kind is str):
        return bool(one < other)
    return _encoded(one) < _encoded(other)


def numeric_id(segment: str) -> int | None:
    """Returns the number in a numeric document id, as in databases migrated from Datastore; None for other ids.

    >>> numeric_id("__id7__"), numeric_id("7")
    (7, None)
    """
    found = _NUMERIC_ID.fullmatch(segment)
    if found is None or not INT64_MIN <= int(found[1]) <= INT64_MAX:
        return None
    return int(found[1])


def path_key(path: str) -> str:
    r"""Returns the sort key of a document's path, as text: paths are compared segment by segment.

    >>> sorted(["rooms/a-/notes/n", "rooms/__id12__", "rooms/__id7__", "rooms/a/notes/n"], key=path_key)
    ['rooms/__id7__', 'rooms/__id12__', 'rooms/a/notes/n', 'rooms/a-/notes/n']
    """
    if "__id" not in path and _is_ordinary(path):
        return path.replace("/", _SEPARATOR)
    return _SEPARATOR.join(map(_segment_key, path.split("/")))


def _segment_key(segment: str) -> str:
    number = numeric_id(segment)
    if number is not None:
        return f"{_SEPARATOR}{number - INT64_MIN:020d}"  # before all text; no segment is empty
    return segment if _is_ordinary(segment) else segment.translate(_ESCAPED)


def _is_ordinary(text: str) -> bool:
    return "\0" not in text and "\1" not in text and "\2" not in text


def _encoded(value: Any, *, breaks_ties: bool = True) -> bytes:
    """Returns bytes in the order of the values; no value's bytes are a prefix of another's."""
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return _BOOLEAN + (b"\1" if value else b"\0")
    if isinstance(value, (int, float)):
        return _NUMBER + _number(value, breaks_ties)
    if isinstance(value, str):
        return _STRING + _terminated(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, datetime):
        return _TIMESTAMP + struct.pack(">Q", micros_of(value) - INT64_MIN)
    if isinstance(value, bytes):
        return _BYTES + _terminated(value)
    if isinstance(value, Ref):
        return _reference(value.path)
    if isinstance(value, GeoPoint):
        return _GEO_POINT + b"".join(_number(float(one), breaks_ties) for one in (value.latitude, value.longitude))
    if isinstance(value, (list, tuple)):
        return _ARRAY + _items(value, breaks_ties)
    if _is_vector(value):
        items = value["value"]
        return _VECTOR + struct.pack(">Q", len(items)) + _items(items, breaks_ties)
    pairs = [(key.encode("utf-8", "surrogatepass"), value[key]) for key in sorted(value)]
    return (
        _MAP
        + b"".join(_MORE + _terminated(key) + _encoded(item, breaks_ties=breaks_ties) for key, item in pairs)
        + _END
    )


@lru_cache(maxsize=1 << 14)
def _reference(path: str) -> bytes:
    """The bytes of a reference; cached, because many documents refer to the same one."""
    place = b"\0" if Ref.at(path).is_local else b"\1"
    return _REFERENCE + place + _terminated(path_key(path).encode("utf-8", "surrogatepass"))


def _items(items: Sequence[Any], breaks_ties: bool) -> bytes:
    return b"".join(_MORE + _encoded(item, breaks_ties=breaks_ties) for item in items) + _END


def _is_vector(value: dict[str, Any]) -> bool:
    return len(value) == 2 and value.get("__type__") == "__vector__" and isinstance(value.get("value"), list)


def _terminated(text: bytes) -> bytes:
    return text.replace(b"\0", b"\0\xff") + b"\0\0"


def _number(value: float, breaks_ties: bool) -> bytes:
    """Returns the largest double below the number, the difference to it, and what orders equal numbers."""
    if value != value:
        return b"\0"
    if isinstance(value, float):
        tie = b"\1\0" if math.copysign(1.0, value) < 0 else b"\1\1"
        return b"\1" + _double(value) + bytes(8) + (tie if breaks_ties else b"")
    below = float(value)
    if int(below) > value:
        below = math.nextafter(below, -math.inf)
    return b"\1" + _double(below) + struct.pack(">Q", value - int(below)) + (b"\0\1" if breaks_ties else b"")


def _double(value: float) -> bytes:
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))  # both zeros are equal
    return struct.pack(">Q", bits ^ 0xFFFFFFFFFFFFFFFF if bits >> 63 else bits | 1 << 63)
