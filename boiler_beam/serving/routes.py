"""Routes of views: `GET /views/{view}/{id}/summary` is answered by a method of the view, from the stored row.

    @route("/{id}/summary")
    def summary(self, words: int = 20) -> str: ...

The method gets the row that the user may see. A property that is hidden from them can't be read: that is 403.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import msgspec

from boiler_beam.errors import UsageError
from boiler_beam.models import wire_of
from boiler_beam.plan import ViewPlan
from boiler_beam.serving.json_types import JsonType, json_type
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.reader import StoredRow
from boiler_beam.values import decode_fields
from boiler_beam.views import ViewModel
from boiler_beam.views.route import route_of
from boiler_beam.views.view import CopyOfRow

__all__ = ["Hidden", "Parameter", "ServedRoute", "routes_of"]

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_TYPES = (str, int, float, bool)


class Hidden(Exception):
    """A route read a property that is hidden from the user."""


class Parameter(NamedTuple):
    """A parameter of the query.

    Attributes:
        name: Its name.
        type: `str`, `int`, `float` or `bool`.
        is_required: Whether it has no default.
        default: The default.
    """

    name: str
    type: type
    is_required: bool
    default: Any

    def value(self, text: str) -> Any:
        """Returns the value of a text.

        Raises:
            Problem: It is of another type.
        """
        try:
            return _TRUTH[text.lower()] if self.type is bool else self.type(text)
        except (KeyError, ValueError):
            raise Problem(400, "invalid parameter", f"{self.name}: expected {self.type.__name__}") from None


class ServedRoute:
    """One route of a view.

    Args:
        view: The view.
        name: The method's name.
        method: The method.

    Attributes:
        name: The method's name.
        path: As it was declared, `/{id}/summary`.
        segments: Those behind the row's id.
        parameters: The parameters of the query.
        type: The JSON of what it returns.
        description: Its docstring.

    Raises:
        UsageError: An argument is of a type that a query can't have.
    """

    def __init__(self, view: ViewPlan, name: str, method: Any) -> None:
        declared = route_of(method)
        assert declared is not None
        self.view, self.name, self.path, self.segments = view, name, declared.path, declared.segments
        self.description = inspect.cleandoc(method.__doc__ or "")
        hints = typing.get_type_hints(method)
        self.type: JsonType = json_type(hints.get("return", Any), view.case)
        self.parameters = [_parameter(view, name, one, hints) for one in _arguments(method)]

    def arguments(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Returns the arguments of the method.

        Raises:
            Problem: One is missing, unknown or of another type.
        """
        known = {one.name: one for one in self.parameters}
        for name in query:
            if name not in known:
                expected = ", ".join(known) or "none"
                raise Problem(400, "invalid parameter", f"{name}: expected a known parameter ({expected})")
        for one in self.parameters:
            if one.is_required and one.name not in query:
                raise Problem(400, "invalid parameter", f"{one.name}: expected a value")
        return {name: known[name].value(text) for name, text in query.items()}

    def answer(self, row: StoredRow, hidden: frozenset[str], arguments: Mapping[str, Any]) -> bytes:
        """Calls the method; returns what it returns as JSON. It may take long, so it is called in a thread.

        Args:
            row: The stored row.
            hidden: The stored names of the properties that the user may not see.
            arguments: Those of the method.

        Raises:
            Hidden: It read one of them.
        """
        wire = wire_of(getattr(_shown(self.view, row, hidden), self.name)(**arguments), self.view.case)
        return msgspec.json.encode(wire if self.type.plain is None else self.type.plain(wire))


def routes_of(view: ViewPlan) -> dict[tuple[str, ...], ServedRoute]:
    """Returns the routes of a view by the segments behind the row's id.

    Raises:
        UsageError: Two have one path, or an argument is of a type that a query can't have.
    """
    found: dict[tuple[str, ...], ServedRoute] = {}
    for name in dir(view.model):
        method = inspect.getattr_static(view.model, name)
        if route_of(method) is None:
            continue
        one = ServedRoute(view, name, method)
        if one.segments in found:
            other = found[one.segments].name
            raise UsageError(f"{view.name}.{name}: expected a path of its own, got that of {other}; fix: rename one")
        found[one.segments] = one
    return found


class _NoStore:
    """Stands where the documents are while a row is rendered."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"self.store.{name}: a route reads the stored row; fix: read a property of the view")


def _shown(view: ViewPlan, row: StoredRow, hidden: frozenset[str]) -> ViewModel:
    """Returns a row whose properties have the stored values."""
    values = decode_fields(row.fields.encode())
    copy = CopyOfRow(view.paths.at)
    copy.path = row.path
    model: Any = view.model
    cls: Any = _class(model, frozenset(name for name, stored in view.properties if stored in hidden))
    made: ViewModel = cls.__new__(cls)
    known = {name: values[stored] for name, stored in view.properties if stored in values and stored not in hidden}
    made.__dict__.update(known, store=_NoStore(), _copy=copy, _aggregate=_missing)
    return made


@functools.cache
def _class(model: Any, hidden: frozenset[str]) -> Any:
    """Returns a subclass of a view in which some properties can't be read."""

    def refuse(row: Any) -> NoReturn:
        raise Hidden

    namespace = {name: property(refuse) for name in hidden}
    return type(model.__name__, (model,), {**namespace, "__module__": model.__module__, "__boiler_base__": True})


def _missing(name: str) -> NoReturn:
    raise RuntimeError(f"self.{name}: the stored row does not have it; fix: read a property that is stored")


def _arguments(method: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())[1:]


def _parameter(view: ViewPlan, method: str, one: inspect.Parameter, hints: Mapping[str, Any]) -> Parameter:
    kind = hints.get(one.name, str)
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    options = [part for part in typing.get_args(kind) if part is not type(None)] if is_union else [kind]
    if len(options) != 1 or options[0] not in _TYPES:
        raise UsageError(
            f"{view.name}.{method}({one.name}): expected str, int, float or bool, got {kind!r}; "
            "fix: take one of them, and convert it in the method"
        )
    return Parameter(one.name, options[0], one.default is one.empty, None if one.default is one.empty else one.default)
