"""What an annotation means for stored values: the type that msgspec validates, and how JSON is decoded.

There are three ways to decode a document's JSON:
* `PLAIN`: msgspec decodes it directly. A typed value (`{"doubleValue": ...}`) never fits such an annotation by
  accident; if msgspec refuses the document, it is decoded again as in `SLOW`.
* `CHECKED`: directly, unless the text contains a typed value, which a map or struct could accept as its own content.
* `SLOW`: JSON -> Firestore values -> names and types of msgspec -> model. It is used for annotations that accept any
  value (`Any`), where msgspec would accept integers beyond int64.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from boiler_beam.errors import Mistake
from boiler_beam.models.declare import DomainModel, name_problem, options_of, stored_as
from boiler_beam.models.typed import TypedField, typed_field
from boiler_beam.raised import raised
from boiler_beam.values import INT64_MAX, INT64_MIN, GeoPoint, Ref

__all__ = [
    "CHECKED",
    "PLAIN",
    "SLOW",
    "FieldShape",
    "Shape",
    "mistakes_in",
    "optional_without_default",
    "shape_of",
    "struct_fields",
    "written_annotation",
]

PLAIN, CHECKED, SLOW = 0, 1, 2
Normalize = Callable[[Any], Any]
_Int64 = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]


@dataclass(frozen=True)
class Shape:
    """An annotation, compiled for the codec.

    Attributes:
        native: The annotation that msgspec gets instead.
        speed: `PLAIN`, `CHECKED` or `SLOW`.
        normalize: Converts a Firestore value to what `msgspec.convert` accepts for `native`; None if it is the same.
    """

    native: Any
    speed: int = PLAIN
    normalize: Normalize | None = None


@dataclass(frozen=True)
class FieldShape:
    """One field of a struct or model: its names, and how its value is decoded and encoded."""

    name: str
    encoded: str
    stored: str
    was: tuple[str, ...]
    shape: Shape
    annotation: Any
    encode: Callable[[Any], Any] | None
    typed: TypedField | None = None

    @property
    def native(self) -> Any:
        """The annotation that msgspec gets."""
        return self.shape.native if self.typed is None else Annotated[self.typed.native, Written(self.annotation)]


class Written:
    """Metadata of what msgspec gets for another annotation: the one that was written."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation


def written_annotation(annotation: Any) -> Any:
    """Returns the annotation of a field as it was written, also after its class was compiled."""
    if get_origin(annotation) is Annotated:
        for part in get_args(annotation)[1:]:
            if isinstance(part, Written):
                return part.annotation
    return annotation


class UnsupportedAnnotation(Exception):
    """An annotation that Firestore has no type for, with the fix."""

    def __init__(self, got: str, fix: str) -> None:
        super().__init__(got)
        self.got, self.fix = got, fix


_REFUSED: dict[Any, tuple[str, str]] = {
    decimal.Decimal: (
        "Decimal, which Firestore has no type for (a double would lose digits)",
        "store it as text: field(encode=str, decode=Decimal)",
    ),
    set: ("set, which Firestore has no type for (an array keeps order and duplicates)", "write list[...]"),
    frozenset: ("frozenset, which Firestore has no type for (an array keeps order and duplicates)", "write list[...]"),
    tuple: ("tuple, which Firestore has no type for", "write list[...]"),
    datetime.date: ("date, which Firestore has no type for", "write datetime, or field(encode=, decode=)"),
    datetime.time: ("time, which Firestore has no type for", "store it as text with field(encode=, decode=)"),
    datetime.timedelta: ("timedelta, which Firestore has no type for", "store seconds with field(encode=, decode=)"),
}


def _integral(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def shape_of(annotation: Any, case: str) -> Shape:
    """Compiles an annotation of a model whose names follow `case`.

    Raises:
        UnsupportedAnnotation: Firestore has no type for it.
    """
    if annotation in (bool, str, None, type(None)):
        return Shape(annotation)
    if annotation is int or annotation == _Int64:
        return Shape(_Int64, PLAIN, _integral)
    if annotation is float:
        return Shape(float)
    if annotation in (Any, object):
        return Shape(Any, SLOW)
    if annotation in (datetime.datetime, bytes, GeoPoint):
        return Shape(annotation, SLOW)
    if isinstance(annotation, typing.NewType):
        return shape_of(annotation.__supertype__, case)
    origin, args = get_origin(annotation), get_args(annotation)
    if (annotation is Ref) or origin is Ref:
        return Shape(annotation)
    if origin is Literal:
        return Shape(annotation, PLAIN, _integral if any(type(arg) is int for arg in args) else None)
    if origin is Annotated:
        inner = shape_of(args[0], case)
        native = args[0] if args[0] is int else inner.native
        parts: Any = (native, *args[1:])
        return Shape(Annotated[parts], inner.speed, inner.normalize)
    if origin in (Union, types.UnionType):
        return _union(args, case)
    if annotation in (list, dict):
        return Shape(annotation, SLOW)
    if origin is list:
        inner = shape_of(args[0], case)
        return Shape(list[inner.native], inner.speed, inner.normalize and _each(inner.normalize))  # type: ignore[name-defined]
    if origin in (dict, Mapping):
        if args[0] is not str:
            raise UnsupportedAnnotation(
                f"a map with keys of {args[0]}", "write dict[str, ...]: Firestore's keys are text"
            )
        return _map(shape_of(args[1], case))
    if isinstance(annotation, type):
        if issubclass(annotation, enum.Enum):
            return _enum(annotation)
        if issubclass(annotation, msgspec.Struct) and not getattr(annotation, "__boiler_base__", False):
            return _struct(annotation, case)
    for refused, (got, fix) in _REFUSED.items():
        if annotation is refused or origin is refused:
            raise UnsupportedAnnotation(got, fix)
    raise UnsupportedAnnotation(
        f"{getattr(annotation, '__qualname__', annotation)!s}, which no Firestore type fits",
        "write a Firestore type, a bb.Struct, or field(encode=, decode=)",
    )


def _each(normalize: Normalize) -> Normalize:
    return lambda value: [normalize(item) for item in value] if type(value) is list else value


def _map(inner: Shape) -> Shape:
    normalize = inner.normalize
    speed = max(CHECKED, inner.speed)  # a typed value is an object with one key; a map may look the same
    if normalize is None:
        return Shape(dict[str, inner.native], speed)  # type: ignore[name-defined]
    return Shape(
        dict[str, inner.native],  # type: ignore[name-defined]
        speed,
        lambda value: {k: normalize(v) for k, v in value.items()} if type(value) is dict else value,
    )


def _union(args: tuple[Any, ...], case: str) -> Shape:
    shapes = [shape_of(arg, case) for arg in args]
    normalizers = [shape.normalize for shape in shapes if shape.normalize is not None]
    if float in args:  # a double stays a double if both types are allowed
        normalizers = [normalize for normalize in normalizers if normalize is not _integral]
    normalize = None
    if normalizers:

        def normalize(value: Any) -> Any:
            for one in normalizers:
                value = one(value)
            return value

    return Shape(Union[tuple(shape.native for shape in shapes)], max(shape.speed for shape in shapes), normalize)  # noqa: UP007


def _enum(annotation: type[enum.Enum]) -> Shape:
    kinds = {type(member.value) for member in annotation}
    if kinds not in ({str}, {int}):
        raise UnsupportedAnnotation(
            f"{annotation.__qualname__}, an Enum of mixed or other values", "give it str or int values"
        )
    return Shape(annotation, PLAIN, _integral if kinds == {int} else None)


def _struct(annotation: type[msgspec.Struct], case: str) -> Shape:
    fields = struct_fields(annotation, case)
    resolve_annotations(annotation, fields)
    specs = [(one.encoded, one.stored, one.was, one.shape.normalize) for one in fields]
    is_renamed = any(one.encoded != one.stored or one.was for one in fields)
    speed = SLOW if is_renamed else max([CHECKED, *(one.shape.speed for one in fields)])
    return Shape(annotation, speed, _by_names(specs))


def _by_names(specs: list[tuple[str, str, tuple[str, ...], Normalize | None]]) -> Normalize:
    def normalize(value: Any) -> Any:
        if type(value) is not dict:
            return value
        known = {}
        for encoded, stored, was, inner in specs:
            if stored not in value:
                stored = next((old for old in was if old in value), stored)
                if stored not in value:
                    continue
            known[encoded] = value[stored] if inner is None else inner(value[stored])
        return known

    return normalize


def struct_fields(model: type[msgspec.Struct], case: str, mistakes: list[Mistake] | None = None) -> list[FieldShape]:
    """Returns the compiled fields of a struct or model.

    A mistake is appended to `mistakes`, or raised if it is None.
    """
    name = model.__name__
    options = options_of(model)
    own_case = (options.case if options else None) or case
    try:
        hints = typing.get_type_hints(model, include_extras=True)
    except (NameError, TypeError) as error:
        refused = UnsupportedAnnotation(
            str(error), "define the named class at module level, before its first use in a plan"
        )
        if mistakes is None:
            raise refused from None
        mistakes.append(Mistake(name, "annotations that can be resolved", refused.got, refused.fix))
        return []
    fields = []
    for key, encoded in zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True):
        if key in ("path", "version") and getattr(model, "__boiler_base__", False):
            continue
        declared = options.fields.get(key) if options else None
        stored, annotation, typed = stored_as(model, key, encoded, own_case), written_annotation(hints[key]), None
        try:
            if declared is not None and declared.decode is not None:
                native = Annotated[Any, Written(annotation)]
                shape = Shape(native, SLOW, _decoding(f"{name}.{key}", declared.decode))
            else:
                shape = shape_of(annotation, own_case)
                typed = typed_field(annotation) if issubclass(model, DomainModel) else None
        except UnsupportedAnnotation as refused:
            if mistakes is None:
                raise
            mistakes.append(Mistake(f"{name}.{key}", "a type that Firestore has", refused.got, refused.fix))
            continue
        was, encode = (declared.was, declared.encode) if declared else ((), None)
        fields.append(FieldShape(key, encoded, stored, was, shape, annotation, encode, typed))
    return fields


def structs_in(annotation: Any, seen: set[Any] | None = None) -> Iterator[tuple[type[msgspec.Struct], dict[str, Any]]]:
    """Yields each struct or model that values of an annotation contain, at any depth, once.

    Returns:
        Each class with the written annotations of its fields, if they can be resolved.
    """
    seen = set() if seen is None else seen
    if get_origin(annotation) is Ref:
        return
    if isinstance(annotation, typing.NewType):
        annotation = annotation.__supertype__
    for part in get_args(annotation):
        yield from structs_in(part, seen)
    if not (isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)) or annotation in seen:
        return
    seen.add(annotation)
    options = options_of(annotation)
    try:
        hints = typing.get_type_hints(annotation, include_extras=True)
    except (NameError, TypeError):
        hints = {}  # reported when the class is compiled
    decoded = {key for key, one in options.fields.items() if one.decode is not None} if options else set()
    yield annotation, {key: written_annotation(hint) for key, hint in hints.items()}
    for key, hint in hints.items():
        if key not in decoded:  # with `decode=` the stored value has another type
            yield from structs_in(written_annotation(hint), seen)


def mistakes_in(annotation: Any) -> Iterator[Mistake]:
    """Yields the mistakes in the declarations of the structs that an annotation contains."""
    for struct, _ in structs_in(annotation):
        options = options_of(struct)
        if options is not None:
            yield from options.mistakes
            continue
        for key, encoded in zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True):
            if problem := name_problem(encoded):
                where, got = f"{struct.__name__}.{key}", f"{encoded!r}, {problem}"
                yield Mistake(where, "a stored name that Firestore takes", got, "rename the field")


def optional_without_default(model: type[msgspec.Struct]) -> Iterator[str]:
    """Yields the fields that may be null but not missing, as `User.phone`, including those of contained structs.

    Inherited fields are yielded for the base class only.
    """
    for struct, hints in structs_in(model):
        bases = [base for base in struct.__mro__[1:] if issubclass(base, msgspec.Struct) and base is not msgspec.Struct]
        for one in msgspec.structs.fields(struct):
            is_own = struct is not model or not any(one.name in base.__struct_fields__ for base in bases)
            if one.required and is_own and _may_be_null(hints.get(one.name)):
                yield f"{struct.__name__}.{one.name}"


def _may_be_null(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _may_be_null(get_args(annotation)[0])
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


def _decoding(where: str, decode: Callable[[Any], Any]) -> Normalize:
    def normalize(value: Any) -> Any:
        try:
            return decode(value)
        except Exception as error:  # a user's function: whatever it raises makes this document invalid
            raise ValueError(f"decode= of {where} raised {raised(error)}") from error

    return normalize


def resolve_annotations(model: type[msgspec.Struct], fields: list[FieldShape]) -> None:
    """Replaces the annotations of a class by the native ones, which msgspec reads."""
    native = {one.name: one.native for one in fields}
    for base in model.__mro__:
        annotations = base.__dict__.get("__annotations__")
        if annotations and issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            for key in annotations:
                if key in native:
                    annotations[key] = native[key]
