"""What clients need to know of views, from the annotations of getters, setters and `new`."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from boiler_beam.models import DomainModel, written_annotation
from boiler_beam.models.shapes import struct_fields
from boiler_beam.plan import Plan, ViewPlan
from boiler_beam.values import GeoPoint, Ref
from boiler_beam.views.aggregate import AggregateDeclaration
from boiler_beam.writing.assigned import arguments_of, setters_of

__all__ = ["ClientView", "Field", "Kind", "Struct", "client_views"]


@dataclass(frozen=True)
class Kind:
    """The type of a value as JSON.

    Attributes:
        name: `bool int float str null timestamp bytes geo_point reference any`, or `literal list map union struct`.
        of: The parts of a list, map or union.
        values: The values of a literal.
        struct: The name of a struct.
    """

    name: str
    of: tuple[Kind, ...] = ()
    values: tuple[Any, ...] = ()
    struct: str = ""


@dataclass(frozen=True)
class Field:
    """A field of a row or struct, or an argument of `new`."""

    name: str
    kind: Kind
    is_required: bool = True
    doc: str = ""


@dataclass(frozen=True)
class Struct:
    """A nested struct."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class ClientView:
    """A view, as clients see it.

    Attributes:
        name: Its class.
        doc: The first line of its docstring.
        fields: The fields of its rows.
        settable: Those that have setters, in the types that these take.
        new: The arguments of `new`; None if rows can't be created.
        structs: All structs in them.
    """

    name: str
    doc: str
    fields: tuple[Field, ...]
    settable: tuple[Field, ...]
    new: tuple[Field, ...] | None
    structs: tuple[Struct, ...]


ANY = Kind("any")
_SIMPLE: dict[Any, Kind] = {
    bool: Kind("bool"),
    int: Kind("int"),
    float: Kind("float"),
    str: Kind("str"),
    None: Kind("null"),
    type(None): Kind("null"),
    datetime: Kind("timestamp"),
    bytes: Kind("bytes"),
    GeoPoint: Kind("geo_point"),
    list: Kind("list", (ANY,)),
    dict: Kind("map", (ANY,)),
}


def client_views(plan: Plan) -> list[ClientView]:
    """Returns what clients need to know of the views of a plan."""
    return [_Shapes(view).view() for view in plan.views]


@dataclass
class _Shapes:
    plan: ViewPlan
    structs: dict[str, Struct] = field(default_factory=dict)

    def view(self) -> ClientView:
        model, declared = self.plan.model, self.plan.model.declared_properties()
        fields = [
            Field(
                stored,
                self._property(declared[name]),
                stored not in self.plan.restricted,
                _first_line(vars(declared[name]).get("__doc__")),
            )
            for name, stored in self.plan.properties
            if not name.startswith("_")
        ]
        settable = [
            Field(one.stored, self.kind(one.annotation), is_required=False)
            for one in setters_of(self.plan).values()
            if one.set_value is not None
        ]
        new, arguments = model.declared_method("new"), None
        if new is not None:
            known = arguments_of(new, self.plan.case)
            arguments = tuple(
                Field(one.stored, self.kind(one.annotation), one.is_required) for one in (known or {}).values()
            )
        structs = tuple(self.structs.values())
        doc = _first_line(vars(model).get("__doc__"))
        return ClientView(self.plan.name, doc, tuple(fields), tuple(settable), arguments, structs)

    def _property(self, declared: Any) -> Kind:
        if isinstance(declared, AggregateDeclaration):
            return self._aggregate(declared)
        try:
            return self.kind(typing.get_type_hints(declared.getter).get("return", Any))
        except (NameError, TypeError):  # a name that only type checkers know
            return ANY

    def _aggregate(self, declared: AggregateDeclaration) -> Kind:
        if declared.kind in ("count", "count_distinct"):
            return Kind("int")
        null, value = Kind("null"), ANY
        if isinstance(declared.of, str):
            hints = typing.get_type_hints(self.plan.by_name[declared.edge].model, include_extras=True)
            value = self.kind(written_annotation(hints.get(declared.of, Any)))
        if declared.kind == "sum":
            return value if value.name == "int" else Kind("float")
        if declared.kind in ("mean", "min", "max"):
            return Kind("union", (Kind("float") if declared.kind == "mean" else value, null))
        return Kind("list", (value,)) if declared.kind in ("collect", "top") else ANY

    def kind(self, annotation: Any) -> Kind:
        """Returns the type of the values of an annotation."""
        try:
            if annotation in _SIMPLE:
                return _SIMPLE[annotation]
        except TypeError:  # not hashable
            return ANY
        origin, args = get_origin(annotation), get_args(annotation)
        if annotation is Ref or origin is Ref:
            return Kind("reference")
        if isinstance(annotation, typing.NewType):
            return self.kind(annotation.__supertype__)
        if origin is Annotated:
            return self.kind(args[0])
        if origin is Literal:
            return Kind("literal", values=args)
        if origin in (Union, types.UnionType):
            return Kind("union", tuple(dict.fromkeys(self.kind(one) for one in args)))
        if origin in (list, Sequence):
            return Kind("list", (self.kind(args[0]),))
        if origin in (dict, Mapping):
            return Kind("map", (self.kind(args[1]),))
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return Kind("literal", values=tuple(one.value for one in annotation))
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            return self._struct(annotation)
        return ANY

    def _struct(self, annotation: type[msgspec.Struct]) -> Kind:
        name = f"{self.plan.name}{annotation.__name__}"
        if name not in self.structs:
            self.structs[name] = Struct(name, ())  # a struct may contain itself
            case = "camel" if issubclass(annotation, DomainModel) else self.plan.case
            fields = tuple(
                Field(one.stored, ANY if one.encode is not None else self.kind(one.annotation))
                for one in struct_fields(annotation, case, [])
            )
            self.structs[name] = Struct(name, fields)
        return Kind("struct", struct=name)


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
