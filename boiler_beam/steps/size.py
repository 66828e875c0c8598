"""How large Firestore takes a row to be: a document holds at most 1 MiB, and makes at most 40,000 index entries.

Sources: https://firebase.google.com/docs/firestore/storage-size,
https://firebase.google.com/docs/firestore/quotas#indexes, .../docs/firestore/query-data/index-overview
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from boiler_beam.errors import RenderError
from boiler_beam.values import GeoPoint, Ref, decode_fields, encode_wire

__all__ = ["MAX_INDEX_ENTRIES", "MAX_ROW_BYTES", "check_size", "index_entries", "value_bytes"]

MAX_ROW_BYTES = 1 << 20
MAX_INDEX_ENTRIES = 40_000
_DOCUMENT_BYTES, _NAME_BYTES, _SHOWN = 32, 16, 3
_FIXED = {bool: 1, type(None): 1, int: 8, float: 8, datetime: 8, GeoPoint: 16}


def check_size(view: str, path: str, fields: bytes) -> None:
    """Refuses a row that Firestore would.

    Raises:
        RenderError: It is larger than 1 MiB (`row_too_large`) or makes more than 40,000 index entries
            (`too_many_index_entries`); with its three biggest properties.
    """
    if 2 * len(fields) < MAX_INDEX_ENTRIES:
        return  # a digit and its comma are 8 bytes, or an entry: four times their JSON, or half of it
    values = decode_fields(fields)
    sizes = {name: _text_bytes(name) + value_bytes(value) for name, value in values.items()}
    total = _DOCUMENT_BYTES + _path_bytes(path) + sum(sizes.values())
    if total > MAX_ROW_BYTES:
        message = f"{view}: expected a row of at most {MAX_ROW_BYTES:,} bytes, got {total:,}"
        raise RenderError("row_too_large", f"{message}; the biggest: {_biggest(sizes)}")
    entries = {name: index_entries(value) for name, value in values.items()}
    if sum(entries.values()) > MAX_INDEX_ENTRIES:
        message = f"{view}: expected at most {MAX_INDEX_ENTRIES:,} index entries, got {sum(entries.values()):,}"
        fix = "fix: store what nobody queries by as one text"
        raise RenderError("too_many_index_entries", f"{message}; the biggest: {_biggest(entries)}; {fix}")


def _biggest(sizes: dict[str, int]) -> str:
    shown = sorted(sizes.items(), key=lambda one: -one[1])[:_SHOWN]
    return ", ".join(f"{name} {size:,}" for name, size in shown)


def index_entries(value: Any) -> int:
    """How many entries a value makes in the indexes that Firestore keeps of each field by itself.

    A value is found in ascending and descending order, an array by each of its different items, a map by its fields.

    >>> index_entries({"name": "Ann", "tags": ["a", "b", "a"]})
    4
    """
    if isinstance(value, dict):
        return sum(map(index_entries, value.values()))
    if isinstance(value, list):
        return len({encode_wire(item) for item in value})
    return 2


def value_bytes(value: Any) -> int:
    """The bytes that Firestore takes for a value.

    >>> value_bytes({"name": "Ann", "tags": [1, True]})
    23
    """
    fixed = _FIXED.get(type(value))
    if fixed is not None:
        return fixed
    if isinstance(value, str):
        return _text_bytes(value)
    if isinstance(value, dict):
        return sum(_text_bytes(key) + value_bytes(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(value_bytes, value))
    if isinstance(value, Ref):
        return _path_bytes(value.path)
    return len(value)


def _text_bytes(text: str) -> int:
    return len(text.encode()) + 1


def _path_bytes(path: str) -> int:
    return sum(map(_text_bytes, path.split("/"))) + _NAME_BYTES
