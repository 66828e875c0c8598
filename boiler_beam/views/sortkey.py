"""Sort keys as bytes: of two lists of values the one that comes first has the smaller key, in a dict as in an index.

The same order as `sort_entries`: each value its own way, nulls last, ties by path.

>>> sort_key([3], (True,), "d/1") < sort_key([2.5], (True,), "d/1") < sort_key([None], (True,), "d/1")
True
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from boiler_beam.values import GeoPoint, Ref, micros_of

__all__ = ["sort_key"]

_INVERTED = bytes(255 - byte for byte in range(256))
_MORE, _END = b"\1", b"\0"


def sort_key(values: Sequence[Any], descending: Sequence[bool], path: str) -> bytes:
    """The key of an entry.

    Args:
        values: What it is sorted by: Firestore values.
        descending: Of each, whether the largest comes first.
        path: Decides between equals.
    """
    parts = []
    for value, is_descending in zip(values, descending, strict=True):
        if value is None:
            parts.append(b"\1")
        else:
            encoded = _encoded(value)
            parts.append(b"\0" + (encoded.translate(_INVERTED) if is_descending else encoded))
    parts.append(path.encode("utf-8", "surrogatepass"))
    return b"".join(parts)


def _encoded(value: Any) -> bytes:
    """Bytes that sort as `order_key` does; none is the beginning of another's."""
    if value is None:
        return b"\0"
    if isinstance(value, bool):
        return b"\1\1" if value else b"\1\0"
    if isinstance(value, (int, float)):
        return b"\2" + _number(value)
    if isinstance(value, datetime):
        return b"\3" + struct.pack(">Q", micros_of(value) + (1 << 63))
    if isinstance(value, str):
        return b"\4" + _text(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return b"\5" + _text(value)
    if isinstance(value, Ref):
        segments = value.path.split("/")
        return b"\6" + b"".join(_MORE + _text(one.encode("utf-8", "surrogatepass")) for one in segments) + _END
    if isinstance(value, GeoPoint):
        return b"\7" + _double(value.latitude) + _double(value.longitude)
    if isinstance(value, (list, tuple)):
        return b"\10" + b"".join(_MORE + _encoded(item) for item in value) + _END
    pairs = [(key.encode("utf-8", "surrogatepass"), value[key]) for key in sorted(value)]
    return b"\11" + b"".join(_MORE + _text(key) + _encoded(item) for key, item in pairs) + _END


def _text(text: bytes) -> bytes:
    return text.replace(b"\0", b"\0\xff") + b"\0\0"


def _double(value: float) -> bytes:
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))  # both zeros are one
    return struct.pack(">Q", bits ^ 0xFFFFFFFFFFFFFFFF if bits >> 63 else bits | 1 << 63)


def _number(value: float) -> bytes:
    """A number: the double below it and what is missing; an int comes before its double, -0.0 before 0.0."""
    if value != value:
        return b"\0"
    if isinstance(value, float):
        return b"\1" + _double(value) + bytes(8) + (b"\1\0" if math.copysign(1.0, value) < 0 else b"\1\1")
    below = float(value)
    if int(below) > value:
        below = math.nextafter(below, -math.inf)
    return b"\1" + _double(below) + struct.pack(">Q", value - int(below)) + b"\0\1"
