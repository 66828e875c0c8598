"""What an annotation means for clients: the JSON of its values, and its JSON schema (OpenAPI 3.1).

In rows that are sent, timestamps are RFC 3339 text and references are paths where the annotation says that they are
such; other values that JSON can't hold are written as in document files.
"""

from __future__ import annotations

import datetime
import enum
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from boiler_beam.models.shapes import struct_fields
from boiler_beam.values import GeoPoint, Ref

__all__ = ["JsonType", "json_type"]

Convert = Callable[[Any], Any]
_WIRE_DOUBLE: dict[str, Any] = {
    "type": "object",
    "properties": {"doubleValue": {"enum": ["NaN", "Infinity", "-Infinity"]}},
    "required": ["doubleValue"],
}


@dataclass(frozen=True)
class JsonType:
    """The JSON of the values of an annotation.

    Attributes:
        schema: Its JSON schema; empty for any value.
        plain: Converts a stored value to what is sent; None if they are the same.
        scalar: `str`, `int`, `float` or `bool`, if that is all that it can be (or null).
        is_nullable: Whether it may be null.
    """

    schema: Mapping[str, Any]
    plain: Convert | None = None
    scalar: type | None = None
    is_nullable: bool = False


_ANY = JsonType({})
_SIMPLE: dict[Any, JsonType] = {
    bool: JsonType({"type": "boolean"}, scalar=bool),
    int: JsonType({"type": "integer", "format": "int64"}, scalar=int),
    float: JsonType({"anyOf": [{"type": "number"}, _WIRE_DOUBLE]}, scalar=float),
    str: JsonType({"type": "string"}, scalar=str),
    type(None): JsonType({"type": "null"}, is_nullable=True),
    None: JsonType({"type": "null"}, is_nullable=True),
    datetime.datetime: JsonType(
        {"type": "string", "format": "date-time"}, lambda value: _unwrapped(value, "timestampValue"), str
    ),
    bytes: JsonType({"type": "object", "properties": {"bytesValue": {"type": "string"}}}),
    GeoPoint: JsonType({"type": "object", "properties": {"geoPointValue": {"type": "object"}}}),
}


def json_type(annotation: Any, case: str = "camel") -> JsonType:
    """Returns the JSON of an annotation; that of any value where it says nothing.

    Args:
        annotation: A resolved annotation.
        case: The case of the stored names of structs that do not say theirs.
    """
    return _json_type(annotation, case, ())


def _json_type(annotation: Any, case: str, within: tuple[Any, ...]) -> JsonType:
    try:
        if annotation in _SIMPLE:
            return _SIMPLE[annotation]
    except TypeError:  # not hashable
        return _ANY
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Ref or origin is Ref:
        text = {"type": "string", "description": "the path of a document"}
        return JsonType(text, lambda value: _unwrapped(value, "referenceValue"), str)
    if isinstance(annotation, typing.NewType):
        return _json_type(annotation.__supertype__, case, within)
    if origin is Annotated:
        return _json_type(args[0], case, within)
    if origin is Literal:
        kinds = {type(one) for one in args}
        return JsonType({"enum": list(args)}, scalar=kinds.pop() if len(kinds) == 1 else None)
    if origin in (Union, types.UnionType):
        return _union([_json_type(one, case, within) for one in args])
    if origin is list:
        return _list(_json_type(args[0], case, within))
    if origin in (dict, Mapping) and args:
        return _map(_json_type(args[1], case, within))
    if isinstance(annotation, type):
        return _class(annotation, case, within)
    return _ANY


def _class(annotation: type, case: str, within: tuple[Any, ...]) -> JsonType:
    if issubclass(annotation, enum.Enum):
        values = [one.value for one in annotation]
        return JsonType({"enum": values}, scalar=type(values[0]) if values else None)
    if annotation is list:
        return JsonType({"type": "array"})
    if annotation is dict:
        return JsonType({"type": "object"})
    if issubclass(annotation, msgspec.Struct) and annotation not in within:
        return _struct(annotation, case, (*within, annotation))
    return _ANY


def _struct(annotation: type[msgspec.Struct], case: str, within: tuple[Any, ...]) -> JsonType:
    known = {
        one.stored: _ANY if one.encode is not None else _json_type(one.annotation, case, within)
        for one in struct_fields(annotation, case, [])
    }
    schema: dict[str, Any] = {"type": "object", "properties": {name: dict(one.schema) for name, one in known.items()}}
    if annotation.__doc__:
        schema["description"] = annotation.__doc__.strip().split("\n")[0]
    plain = {name: one.plain for name, one in known.items() if one.plain is not None}
    return JsonType(schema, _fields(plain) if plain else None)


def _fields(plain: Mapping[str, Convert]) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not dict:
            return value
        return {name: plain[name](one) if name in plain else one for name, one in value.items()}

    return convert


def _list(of: JsonType) -> JsonType:
    plain = of.plain
    schema = {"type": "array", "items": dict(of.schema)}
    if plain is None:
        return JsonType(schema)
    return JsonType(schema, lambda value: [plain(one) for one in value] if type(value) is list else value)


def _map(of: JsonType) -> JsonType:
    plain = of.plain
    schema = {"type": "object", "additionalProperties": dict(of.schema) or True}
    if plain is None:
        return JsonType(schema)
    return JsonType(
        schema, lambda value: {name: plain(one) for name, one in value.items()} if type(value) is dict else value
    )


def _union(found: Iterable[JsonType]) -> JsonType:
    parts = list(found)
    others = [one for one in parts if one.schema != {"type": "null"}]
    plains = [one.plain for one in others if one.plain is not None]

    def convert(value: Any) -> Any:
        for plain in plains:
            value = plain(value)
        return value

    schema = {} if any(not one.schema for one in parts) else {"anyOf": [dict(one.schema) for one in parts]}
    scalar = others[0].scalar if len(others) == 1 else None
    return JsonType(schema, convert if plains else None, scalar, len(others) < len(parts))


def _unwrapped(value: Any, key: str) -> Any:
    return value[key] if type(value) is dict and len(value) == 1 and key in value else value
