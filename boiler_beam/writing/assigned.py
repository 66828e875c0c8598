"""The values of a request: which property or argument a name means, and the value in the type that it declares."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from boiler_beam.errors import WriteRefused
from boiler_beam.models import DomainModel, stored_name
from boiler_beam.models.declare import shown_names
from boiler_beam.models.shapes import Shape, UnsupportedAnnotation, shape_of
from boiler_beam.models.typed import reference_hook
from boiler_beam.plan import ViewPlan
from boiler_beam.values import Database, from_wire

__all__ = ["Argument", "arguments_of", "converted", "setters_of"]


@dataclass(frozen=True)
class Argument:
    """What a request may set.

    Attributes:
        name: The attribute of the view, or the argument of `new`.
        stored: Its name in rows.
        annotation: The type of its values; `Any` if none is declared.
        is_required: Whether it must be given.
        set_value: The setter; None for an argument, and for a read-only property.
    """

    name: str
    stored: str
    annotation: Any = Any
    is_required: bool = False
    set_value: Callable[[Any, Any], None] | None = None


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (AttributeError, NameError, TypeError):  # a name that only type checkers know
        return {}


def setters_of(view: ViewPlan) -> dict[str, Argument]:
    """Returns the properties and aggregates of a view, by attribute; the annotation is that of the setter's value."""
    declared = view.model.declared_properties()
    found = {}
    for name, stored in view.properties:
        setter = getattr(declared[name], "set_value", None)
        annotation: Any = Any
        if setter is not None:
            parameters = list(inspect.signature(setter).parameters)
            own = _hints(setter).get(parameters[1]) if len(parameters) > 1 else None
            annotation = own or _hints(getattr(declared[name], "getter", None)).get("return", Any)
        found[name] = Argument(name, stored, annotation, set_value=setter)
    return found


def arguments_of(new: Callable[..., Any], case: str) -> dict[str, Argument] | None:
    """Returns the arguments of a view's `new`, by name; None if it accepts any."""
    hints, found = _hints(new), {}
    for name, one in list(inspect.signature(new).parameters.items())[1:]:
        if one.kind is one.VAR_KEYWORD:
            return None
        is_required = one.default is one.empty
        found[name] = Argument(name, stored_name(name, case), hints.get(name, Any), is_required)
    return found


def converted(where: str, name: str, value: Any, annotation: Any, case: str, database: Database) -> Any:
    """Returns the value of a request in the declared type.

    Args:
        where: The class and the name, for messages.
        name: The name in the request.
        value: A Firestore value, or JSON as in document files; times may also be RFC 3339 text, references paths.
        annotation: The declared type.
        case: The case of the names in structs.
        database: The database into which references are local.

    Raises:
        WriteRefused: The value does not fit.
    """
    try:
        plain = from_wire(value)
        shape = _shape(annotation, case)
        if shape.normalize is not None:
            plain = shape.normalize(plain)
        return msgspec.convert(plain, shape.native, dec_hook=reference_hook(database))
    except (msgspec.ValidationError, ValueError, NotImplementedError) as error:
        message = f"{where}: {shown_names(str(error))}; fix: send a value of the declared type"
        raise WriteRefused("invalid_value", message, name) from error


def _shape(annotation: Any, case: str) -> Shape:
    if isinstance(annotation, type) and issubclass(annotation, DomainModel):
        return Shape(Any)
    try:
        return shape_of(annotation, case)
    except UnsupportedAnnotation:  # such as a `Decimal`, which a setter stores as text
        return Shape(annotation)


def named(arguments: Mapping[str, Argument], name: str) -> Argument | None:
    """Returns what a name in a request means: the attribute, or its name in rows."""
    return arguments.get(name) or next((one for one in arguments.values() if one.stored == name), None)
