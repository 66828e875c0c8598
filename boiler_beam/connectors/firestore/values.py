"""Converts Firestore's protobuf values directly to and from the JSON of `boiler_beam.values`."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from boiler_beam.values import UNKNOWN_VALUE, from_wire, micros_of, to_wire, to_wire_map

__all__ = [
    "fields_of",
    "micros_of_proto",
    "path_of_name",
    "put_fields",
    "put_micros",
    "put_value",
    "wire_of_fields",
]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_MICROS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def micros_of_proto(moment: Any) -> int:
    """Returns the microseconds since the epoch of a protobuf timestamp."""
    return int(moment.seconds * _MICROS + moment.nanos // 1000)


def put_micros(moment: Any, micros: int) -> None:
    """Sets a protobuf timestamp."""
    moment.seconds, rest = divmod(micros, _MICROS)
    moment.nanos = rest * 1000


def _timestamp(value: Any) -> dict[str, datetime]:
    moment = value.timestamp_value
    try:
        return {"timestampValue": _EPOCH + timedelta(0, moment.seconds, moment.nanos // 1000)}
    except OverflowError:
        raise ValueError(f"expected a time from year 1 to 9999, got one of {moment.seconds} s") from None


def _double(value: Any) -> Any:
    return _number(value.double_value)


def _number(number: float) -> Any:
    if math.isfinite(number):
        return number
    return {"doubleValue": "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"}


def _geo_point(value: Any) -> dict[str, Any]:
    point = value.geo_point_value
    return {"geoPointValue": {"latitude": _number(point.latitude), "longitude": _number(point.longitude)}}


_DOCUMENT = re.compile(r"projects/[^/]+/databases/[^/]+/documents/(.+)", re.DOTALL)


def path_of_name(name: str) -> str:
    """Returns a document's path from its resource name, which has an odd number of segments; a path has an even number.

    Raises:
        ValueError: The name is not the resource name of a document.

    >>> path_of_name("projects/p/databases/(default)/documents/projects/p1/databases/d1/documents/x")
    'projects/p1/databases/d1/documents/x'
    """
    found = _DOCUMENT.fullmatch(name)
    if found is None or name.count("/") % 2:
        raise ValueError(
            f"expected the resource name of a document (projects/P/databases/D/documents/...), got {name!r}"
        )
    return found[1]


def _unknown(value: Any) -> dict[str, str]:
    return {UNKNOWN_VALUE: base64.b64encode(value.SerializeToString()).decode("ascii")}


_KIND = "value_type"
_Readers = dict[str | None, Callable[[Any], Any]]
_SCALARS: _Readers = {
    None: _unknown,  # null is a separate type
    "null_value": lambda value: None,
    "boolean_value": attrgetter("boolean_value"),
    "integer_value": attrgetter("integer_value"),
    "string_value": attrgetter("string_value"),
    "double_value": _double,
    "timestamp_value": _timestamp,
    "bytes_value": lambda value: {"bytesValue": base64.b64encode(value.bytes_value).decode("ascii")},
    "geo_point_value": _geo_point,
}


@lru_cache(maxsize=64)
def _readers(root: str) -> _Readers:
    """Returns the function that converts each kind of value; references to documents below `root` are local."""

    def wire(value: Any) -> Any:
        return readers[value.WhichOneof(_KIND)](value)

    def reference(value: Any) -> dict[str, str]:
        name = value.reference_value
        path = path_of_name(name)
        return {"referenceValue": path if name.startswith(root) else name}

    readers: _Readers = {
        **_SCALARS,
        "reference_value": reference,
        "array_value": lambda value: [readers[one.WhichOneof(_KIND)](one) for one in value.array_value.values],
        "map_value": lambda value: to_wire_map(dict(value.map_value.fields), wire),
    }
    return readers


def wire_of_fields(fields: Any, root: str) -> dict[str, Any]:
    """Converts the fields of a protobuf map to values that msgspec encodes as JSON.

    Args:
        fields: The map.
        root: The prefix of the names of local documents, `projects/p/databases/(default)/documents/`. References to
            local documents are written by relative paths, others by full names.
    """
    readers = _readers(root)
    return {name: readers[value.WhichOneof(_KIND)](value) for name, value in fields.items()}


def fields_of(document: Any) -> msgspec.Raw:
    """Returns the JSON bytes of a protobuf document's fields, as in `Change.fields`; its own database is the local one.

    A value of a type that this version does not know becomes `UNKNOWN_VALUE`, which is invalid in a field of a model.

    Raises:
        ValueError: A value is malformed; the message begins with the field's name.
    """
    root = "/".join([*document.name.split("/", 5)[:5], ""])
    try:
        return msgspec.Raw(_encode(wire_of_fields(document.fields, root)))
    except ValueError:
        for name, value in document.fields.items():
            try:
                wire_of_fields({name: value}, root)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        raise


def put_fields(fields: Any, data: bytes, root: str) -> None:
    """Sets fields from JSON bytes in the `fields` of a protobuf document or map.

    Args:
        fields: The protobuf fields; other fields in it stay.
        data: An object in the form of `boiler_beam.values.encode_fields`.
        root: The prefix for the path of a local reference, `projects/p/databases/(default)/documents/`.

    Raises:
        ValueError: A typed value is malformed.
    """
    for name, item in _decode(data).items():
        put_value(fields[name], item, root)


def put_value(value: Any, item: Any, root: str) -> None:
    """Sets one protobuf value from parsed JSON; `root` is as in `put_fields`."""
    kind = type(item)
    if kind is str:
        value.string_value = item
    elif item is None:
        value.null_value = 0
    elif kind is bool:
        value.boolean_value = item
    elif kind is int:
        value.integer_value = item
    elif kind is float:
        value.double_value = item
    elif kind is list:
        value.array_value.SetInParent()
        for one in item:
            put_value(value.array_value.values.add(), one, root)
    elif len(item) == 1 and (put := _TYPED.get(next(iter(item)))) is not None:
        put(value, item, root)
    else:
        _put_map(value, item, root)


def _put_map(value: Any, item: dict[str, Any], root: str) -> None:
    value.map_value.SetInParent()
    for name, one in item.items():
        put_value(value.map_value.fields[name], one, root)


def _put_plain(value: Any, item: Any, root: str) -> None:
    put_value(value, to_wire(from_wire(item)), root)


def _put_timestamp(value: Any, item: Any, root: str) -> None:
    put_micros(value.timestamp_value, micros_of(from_wire(item)))


def _put_bytes(value: Any, item: Any, root: str) -> None:
    value.bytes_value = from_wire(item)


def _put_double(value: Any, item: Any, root: str) -> None:
    value.double_value = from_wire(item)


def _put_reference(value: Any, item: Any, root: str) -> None:
    ref = from_wire(item)
    value.reference_value = root + ref.path if ref.is_local else ref.path


def _put_geo_point(value: Any, item: Any, root: str) -> None:
    point = from_wire(item)
    value.geo_point_value.latitude, value.geo_point_value.longitude = point.latitude, point.longitude


_TYPED: dict[str, Callable[[Any, Any, str], None]] = {
    "timestampValue": _put_timestamp,
    "bytesValue": _put_bytes,
    "doubleValue": _put_double,
    "referenceValue": _put_reference,
    "geoPointValue": _put_geo_point,
    "mapValue": lambda value, item, root: _put_map(value, item["mapValue"].get("fields", {}), root),
    "arrayValue": _put_plain,
    "stringValue": _put_plain,
    "integerValue": _put_plain,
    "booleanValue": _put_plain,
    "nullValue": _put_plain,
    UNKNOWN_VALUE: _put_plain,
}
