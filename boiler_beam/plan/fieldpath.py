"""Compiles field paths, such as `"order.items.product"`, to functions that read the values from a document."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin, is_typeddict

import msgspec

from boiler_beam.models import DomainModel, PathField, path_fields, wire_of, written_annotation
from boiler_beam.values import Ref, from_wire

__all__ = [
    "FieldError",
    "FieldPath",
    "as_value",
    "field_path",
    "is_decimal",
    "is_never_number",
    "number_fields",
    "value_of",
    "value_reader",
]

Values = Callable[[Any], list[tuple[str | None, Any]]]


class FieldError(Exception):
    """A field path that names no field: what was expected, what was found, and the fix."""

    def __init__(self, expected: str, got: str, fix: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got, self.fix = expected, got, fix


@dataclass(frozen=True)
class FieldPath:
    """A compiled field path.

    Attributes:
        text: The path as written, without the edge's name: `items.product`.
        annotation: The type of the values, without Optional.
        is_many: Whether it leads through a list or map.
        is_map: Whether it is one map, whose keys become the keys of the values.
        is_plain: Whether it is one field, which holds one value or a list or map of values.
        is_optional: Whether a value may be null.
        may_raise: Whether it leads through a property, which is a user's function.
        read: Returns the values in a document, each with its key in a map or None; nulls are left out.
    """

    text: str
    annotation: Any
    is_many: bool
    is_map: bool
    is_plain: bool
    is_optional: bool
    may_raise: bool
    read: Values = field(compare=False, repr=False)

    @property
    def holds_paths(self) -> bool:
        """Whether documents may hold paths in the field, which `boiler_beam.models.stored_value` reads."""
        is_ref = self.annotation is Ref or get_origin(self.annotation) is Ref
        return is_ref and self.is_plain and not self.may_raise


def field_path(model: type, text: str) -> FieldPath:
    """Compiles a field path of a model.

    Raises:
        FieldError: It names no field.
    """
    names = text.split(".")
    steps: list[str | None] = []  # an attribute's name, or None: each item of a list or map
    kinds: list[str] = []
    is_optional = may_raise = False
    annotation: Any = model
    for position, name in enumerate(names):
        may_raise = may_raise or _is_property(annotation, name)
        annotation = _attribute(annotation, name, model, ".".join(names[:position]))
        steps.append(name)
        while True:
            annotation, was_optional = _unwrap(annotation)
            is_optional = is_optional or was_optional
            origin = get_origin(annotation)
            if origin is list:
                kinds.append("list")
                annotation = get_args(annotation)[0]
            elif origin is dict:
                kinds.append("map")
                annotation = get_args(annotation)[1]
            else:
                break
            steps.append(None)
    is_map = kinds == ["map"] and steps[-1] is None
    is_plain = len(names) == 1 and len(kinds) <= 1
    read = _reader(steps, kinds, is_map)
    return FieldPath(text, annotation, bool(kinds), is_map, is_plain, is_optional, may_raise, read)


def value_reader(model: type, text: str, word: str = "") -> Callable[[Any], Any]:
    """Compiles a field path to a function that returns its one value, as a Firestore value, or None.

    Args:
        model: The class of the documents.
        text: The field path.
        word: The keyword that accepts a function instead, such as `of`; empty if none does.

    Raises:
        FieldError: It names no field, many values, or values that Firestore has no type for.
    """
    path = field_path(model, text)
    if path.is_many:
        fix = f"write {word}=lambda document: ..." if word else "name a field with one value"
        raise FieldError("a field with one value", f"{text!r}, a list or map", fix)
    if is_never_value(path.annotation):
        fix = f"write {word}={value_of(path)}" if word else "name a property that returns text or a number"
        raise FieldError("a field of Firestore values", f"{text!r}, a field of {_named(path.annotation)}", fix)
    if "." not in text:
        return lambda document: as_value(getattr(document, text))
    read = path.read
    return lambda document: next((as_value(value) for _, value in read(document)), None)


def value_of(path: FieldPath) -> str:
    """Returns the code of a function that converts a field without Firestore type to a Firestore value, for a fix."""
    value = f"int(document.{path.text} * 100)" if is_decimal(path) else f"str(document.{path.text})"
    or_none = f"None if document.{path.text} is None else " if path.is_optional else ""
    return f"lambda document: {or_none}{value}"


def is_decimal(path: FieldPath) -> bool:
    """Returns whether the values of a field are decimals, which have to be converted to numbers for a sum."""
    return isinstance(path.annotation, type) and issubclass(path.annotation, Decimal)


def _named(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation))


_NO_NUMBERS = (str, bytes, datetime, msgspec.Struct)


def is_never_number(annotation: Any) -> bool:
    """Returns whether certainly no value of this type is a number.

    >>> is_never_number(str), is_never_number(str | int), is_never_number(Any)
    (True, False, False)
    """
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return all(map(is_never_number, get_args(annotation)))
    is_other = isinstance(origin, type) and not _is_open(origin) and issubclass(origin, (*_NO_NUMBERS, Ref))
    return is_other or is_never_value(annotation)


_WITH_VALUES = (
    str, int, float, bool, type(None), datetime, bytes, list, tuple, dict, msgspec.Struct, Enum, Ref,
)  # fmt: skip


def is_never_value(annotation: Any) -> bool:
    """Returns whether certainly no value of this type is a Firestore value; a field with `decode=` may have any type.

    >>> is_never_value(Decimal), is_never_value(Decimal | int), is_never_value(list[int]), is_never_value(Any)
    (True, False, False, False)
    """
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return all(map(is_never_value, get_args(annotation)))
    return isinstance(origin, type) and not _is_open(origin) and not issubclass(origin, _WITH_VALUES)


def _is_open(kind: type) -> bool:
    """Returns whether unrelated classes may be of this type: `object`, `Sequence`, a protocol, a `TypedDict`."""
    return (
        kind in (object, Any) or inspect.isabstract(kind) or getattr(kind, "_is_protocol", False) or is_typeddict(kind)
    )


def number_fields(model: Any) -> list[str]:
    """Returns the names of a model's fields whose values are numbers."""
    names = [name for name in model.__struct_fields__ if name not in ("path", "version")]
    paths = [field_path(model, name) for name in names]
    return [path.text for path in paths if path.annotation in (int, float) and not path.is_many]


_VALUES = frozenset({str, int, float, bool, type(None), datetime, Ref})


def as_value(value: Any) -> Any:
    """Converts a user's value to a Firestore value: structs, models and Enums to their stored form."""
    if type(value) in _VALUES:
        return value
    return from_wire(wire_of(value))


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    is_optional = False
    while True:
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            annotation = args[0]
        elif origin in (Union, types.UnionType) and type(None) in args:
            rest = [arg for arg in args if arg is not type(None)]
            is_optional = True
            if len(rest) != 1:
                return Union[tuple(rest)], True  # noqa: UP007
            annotation = rest[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation, is_optional


def _is_property(holder: Any, name: str) -> bool:
    is_ours = name == "doc_id" and isinstance(holder, type) and issubclass(holder, DomainModel)
    return isinstance(getattr(holder, name, None), property) and not is_ours


def _attribute(holder: Any, name: str, model: type, before: str) -> Any:
    """Returns the annotation of one attribute of a model or struct."""
    place = f"{model.__name__}.{before}" if before else model.__name__
    if not (isinstance(holder, type) and issubclass(holder, msgspec.Struct)):
        raise FieldError(
            f"{place} to hold fields", f"{getattr(holder, '__name__', holder)}", f"end the path at {before!r}"
        )
    if issubclass(holder, DomainModel) and name in ("doc_id", "path"):
        return str
    hints = typing.get_type_hints(holder, include_extras=True)
    known = [key for key in holder.__struct_fields__ if key not in ("path", "version")]
    if name in known:
        return written_annotation(hints[name])
    described = getattr(holder, name, None)
    if isinstance(described, PathField):
        return described.annotation
    if isinstance(described, property) and described.fget is not None:
        return typing.get_type_hints(described.fget).get("return", Any)
    raise FieldError(
        f"a field of {holder.__name__}", repr(name), f"name one of: {', '.join([*known, *path_fields(holder)])}"
    )


def _reader(steps: list[str | None], kinds: list[str], is_map: bool) -> Values:
    match steps:
        case [str(only)]:

            def read_one(document: Any) -> list[tuple[str | None, Any]]:
                value = getattr(document, only)
                return [] if value is None else [(None, value)]

            return read_one
        case [str(only), None] if is_map:

            def read_map(document: Any) -> list[tuple[str | None, Any]]:
                values = getattr(document, only)
                return (
                    [] if values is None else [(key, values[key]) for key in sorted(values) if values[key] is not None]
                )

            return read_map
        case [str(only), None] if kinds == ["list"]:

            def read_list(document: Any) -> list[tuple[str | None, Any]]:
                values = getattr(document, only)
                return [] if values is None else [(None, value) for value in values if value is not None]

            return read_list

    def read(document: Any) -> list[tuple[str | None, Any]]:
        found = [document]
        for step in steps:
            if step is not None:
                found = [getattr(item, step) for item in found if item is not None]
            else:
                found = [inner for item in found if item is not None for inner in _items(item)]
        return [(None, item) for item in found if item is not None]

    return read


def _items(value: Any) -> list[Any]:
    return [value[key] for key in sorted(value)] if isinstance(value, dict) else value
