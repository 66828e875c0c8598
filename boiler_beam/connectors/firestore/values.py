"""Firestore's protobuf values to and from the JSON of `boiler_beam.values`, without Python natives between."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import msgspec

from boiler_beam.values import Ref, format_timestamp, from_wire, micros_of, to_wire_map

__all__ = ["fields_of", "micros_of_proto", "put_fields", "put_micros", "wire_of_fields"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_MICROS = 1_000_000


def micros_of_proto(moment: Any) -> int:
    """Microseconds since the epoch of a protobuf timestamp."""
    return int(moment.seconds * _MICROS + moment.nanos // 1000)


def put_micros(moment: Any, micros: int) -> None:
    """Sets a protobuf timestamp."""
    moment.seconds, rest = divmod(micros, _MICROS)
    moment.nanos = rest * 1000


def _timestamp(moment: Any) -> dict[str, str]:
    micros = micros_of_proto(moment)
    whole = datetime.fromtimestamp(micros // _MICROS, timezone.utc).replace(microsecond=micros % _MICROS)
    return {"timestampValue": format_timestamp(whole)}


def _double(number: float) -> Any:
    if math.isfinite(number):
        return number
    return {"doubleValue": "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"}


def _geo_point(point: Any) -> dict[str, Any]:
    return {"geoPointValue": {"latitude": _double(point.latitude), "longitude": _double(point.longitude)}}


_PLAIN = frozenset(["string_value", "integer_value", "boolean_value"])
_WIRE: dict[str | None, Callable[[Any], Any]] = {
    None: lambda value: None,
    "null_value": lambda value: None,
    "double_value": _double,
    "timestamp_value": _timestamp,
    "bytes_value": lambda data: {"bytesValue": base64.b64encode(data).decode("ascii")},
    "reference_value": lambda name: {"referenceValue": Ref(name).path},
    "geo_point_value": _geo_point,
    "array_value": lambda array: [_wire(item) for item in array.values],
    "map_value": lambda inner: to_wire_map(dict(inner.fields), _wire),
}


def _wire(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    return getattr(value, kind) if kind in _PLAIN else _WIRE[kind](getattr(value, kind) if kind else None)


def wire_of_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON holds for the `fields` of a protobuf document."""
    return {name: _wire(value) for name, value in fields.items()}


def fields_of(document: Any) -> msgspec.Raw:
    """The JSON bytes of a protobuf document's fields, as `Change.fields` has them."""
    return msgspec.Raw(_encode(wire_of_fields(document.fields)))


def put_fields(fields: Any, data: bytes, root: str) -> None:
    """Puts fields from JSON bytes into the `fields` of a protobuf document or map.

    Args:
        fields: They are put beside those that are there.
        data: An object as `boiler_beam.values.encode_fields` writes it.
        root: What stands before the path of a reference, `projects/p/databases/(default)/documents/`.

    Raises:
        ValueError: A typed value is malformed.
    """
    for name, item in _decode(data).items():
        _put(fields[name], item, root)


def _put(value: Any, item: Any, root: str) -> None:
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
            _put(value.array_value.values.add(), one, root)
    elif len(item) == 1 and (put := _TYPED.get(next(iter(item)))) is not None:
        put(value, item, root)
    else:
        _put_map(value, item, root)


def _put_map(value: Any, item: dict[str, Any], root: str) -> None:
    value.map_value.SetInParent()
    for name, one in item.items():
        _put(value.map_value.fields[name], one, root)


def _put_timestamp(value: Any, item: Any, root: str) -> None:
    put_micros(value.timestamp_value, micros_of(from_wire(item)))


def _put_bytes(value: Any, item: Any, root: str) -> None:
    value.bytes_value = from_wire(item)


def _put_double(value: Any, item: Any, root: str) -> None:
    value.double_value = from_wire(item)


def _put_reference(value: Any, item: Any, root: str) -> None:
    value.reference_value = root + from_wire(item).path


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
}
