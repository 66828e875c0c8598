"""Finds the rules of Firestore that a refused row breaks, and where, because the server's message does not say that.

Sources: https://cloud.google.com/firestore/quotas#collections_documents_and_fields,
https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#value

>>> print(*broken_rules("rows/r1", b'{"v":{"a.b":[[1]],"":2}}'), sep="; ")
an array in an array at v.`a.b`[0]; an empty key in v
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from boiler_beam.values import GeoPoint, Ref, from_wire

__all__ = ["broken_rules"]

MAX_NAME_BYTES = 6 << 10
"""The most bytes of a document's name."""
MAX_KEY_BYTES = MAX_PATH_BYTES = 1500
"""The most bytes of a key, and of the keys on the way to a value, joined by points."""
MAX_VALUE_BYTES = (1 << 20) - 89
MAX_DEPTH = 20
MAX_DIMENSIONS = 2048
_MOST, _SHOWN = 3, 40
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def broken_rules(path: str, fields: bytes) -> list[str]:
    """Yields the first rules that a row breaks, as text for people; nothing if no broken rule is found.

    Args:
        path: The row's path.
        fields: Its fields, as JSON bytes.
    """
    size = len(path.encode())
    found = [] if size <= MAX_NAME_BYTES else [f"a path of {size:,} bytes, more than {MAX_NAME_BYTES:,}"]
    for name, item in msgspec.json.decode(fields).items():
        found += _of_key("the row", "", name)
        try:
            value = from_wire(item)
        except ValueError as error:
            found.append(f"{error} in {_named(name)}")
            continue
        depth = _depth(value)
        if depth > MAX_DEPTH:
            found.append(f"{depth} levels of maps and arrays in {_named(name)}, more than {MAX_DEPTH}")
        found += _broken(value, _named(name), len(name.encode()))
        if len(found) >= _MOST:
            break
    return found[:_MOST]


def _broken(value: Any, where: str, size: int) -> Iterator[str]:
    """Yields the rules that a value breaks; the keys on the way to it have `size` bytes."""
    if isinstance(value, dict) and value.get("__type__") == "__vector__":
        yield from _of_vector(value, where)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _of_key(where, where, key)
            inner = size + 1 + len(key.encode())
            if inner > MAX_PATH_BYTES >= len(key.encode()) and size <= MAX_PATH_BYTES:
                yield f"keys of {inner:,} bytes that lead to {_below(where, key)}, more than {MAX_PATH_BYTES:,}"
            yield from _broken(item, _below(where, key), inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, list):
                yield f"an array in an array at {where}[{index}]"
            yield from _broken(item, f"{where}[{index}]", size)
    elif isinstance(value, (str, bytes)):
        number = len(value.encode()) if isinstance(value, str) else len(value)
        if number > MAX_VALUE_BYTES:
            yield f"a value of {number:,} bytes at {where}, more than {MAX_VALUE_BYTES:,}"
    elif isinstance(value, GeoPoint):
        if not (-90 <= value.latitude <= 90 and -180 <= value.longitude <= 180):
            yield f"a latitude or longitude out of range at {where}, {value.latitude}, {value.longitude}"
    elif isinstance(value, Ref) and not _is_of_document(value.path):
        yield f"a reference to no document at {where}, {value.path[:_SHOWN]!r}"


def _of_key(holder: str, where: str, key: str) -> Iterator[str]:
    if not key:
        yield f"an empty key in {holder}"
    elif len(key.encode()) > MAX_KEY_BYTES:
        yield f"a key of {len(key.encode()):,} bytes at {_below(where, key)}, more than {MAX_KEY_BYTES:,}"
    elif _RESERVED.fullmatch(key):
        yield f"a key of the form __x__, which Firestore reserves, at {_below(where, key)}"


def _of_vector(value: dict[str, Any], where: str) -> Iterator[str]:
    numbers = value.get("value")
    if not isinstance(numbers, list) or not all(type(one) is float for one in numbers):
        yield f"a vector with items other than doubles at {where}"
    elif not 1 <= len(numbers) <= MAX_DIMENSIONS:
        yield f"a vector of {len(numbers):,} numbers at {where}, not 1 to {MAX_DIMENSIONS:,}"


def _is_of_document(path: str) -> bool:
    segments = path.split("/")
    return len(segments) % 2 == 0 and not any(one in ("", ".", "..") or _RESERVED.fullmatch(one) for one in segments)


def _depth(value: Any) -> int:
    """Returns the depth of nested maps and arrays."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(_depth, items), default=0)


def _below(where: str, key: str) -> str:
    return f"{where}.{_named(key)}" if where else _named(key)


def _named(key: str) -> str:
    shown = key if len(key) <= _SHOWN else f"{key[:_SHOWN]}..."
    return shown if _SIMPLE.fullmatch(shown) else f"`{shown}`"
