"""How large Firestore takes a row to be: a document holds at most 1 MiB.

Source: https://firebase.google.com/docs/firestore/storage-size
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from boiler_beam.errors import RenderError
from boiler_beam.values import GeoPoint, Ref, decode_fields

__all__ = ["MAX_ROW_BYTES", "check_size", "value_bytes"]

MAX_ROW_BYTES = 1 << 20
_DOCUMENT_BYTES, _NAME_BYTES, _SHOWN = 32, 16, 3
_FIXED = {bool: 1, type(None): 1, int: 8, float: 8, datetime: 8, GeoPoint: 16}


def check_size(view: str, path: str, fields: bytes) -> None:
    """Refuses a row that Firestore would.

    Args:
        view: The view's name.
        path: The row's path.
        fields: Its fields as JSON bytes.

    Raises:
        RenderError: It is larger than 1 MiB: `row_too_large`, with its three biggest properties.
    """
    if 4 * len(fields) < MAX_ROW_BYTES:
        return  # no value takes more than four times its JSON: a digit and its comma are 8 bytes
    sizes = {name: _text_bytes(name) + value_bytes(value) for name, value in decode_fields(fields).items()}
    total = _DOCUMENT_BYTES + _path_bytes(path) + sum(sizes.values())
    if total > MAX_ROW_BYTES:
        biggest = sorted(sizes.items(), key=lambda one: -one[1])[:_SHOWN]
        named = ", ".join(f"{name} {size:,}" for name, size in biggest)
        message = f"{view}: expected a row of at most {MAX_ROW_BYTES:,} bytes, got {total:,}; the biggest: {named}"
        raise RenderError("row_too_large", message)


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
