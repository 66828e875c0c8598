"""The views that are served: their names, ids, properties with types and descriptions, and how rows are sent."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from boiler_beam.plan import Plan, ViewPlan
from boiler_beam.serving.json_types import JsonType, json_type
from boiler_beam.serving.problems import Problem, unknown_view
from boiler_beam.serving.reader import StoredRow
from boiler_beam.serving.routes import routes_of
from boiler_beam.views.aggregate import AggregateDeclaration

__all__ = ["Catalog", "Property", "ServedView"]

HIDDEN = frozenset({"_viewers", "_editors"})
"""Fields that are not sent: they name other users."""
_COUNTS = frozenset({"count", "count_distinct"})
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True)
class Property:
    """A property or aggregate of a view.

    Attributes:
        name: Its stored name, which clients use.
        attribute: Its name in the class.
        type: Its JSON.
        description: Its docstring; empty if there is none.
        is_settable: Whether it has a setter.
    """

    name: str
    attribute: str
    type: JsonType
    description: str
    is_settable: bool


class ServedView:
    """One view.

    Args:
        plan: The compiled view.

    Attributes:
        plan: The compiled view.
        name: The class's name.
        prefix: The beginning that all row paths have; the rest is the id.
        has_flat_ids: Whether an id is one segment of the path.
        indexed: The stored names of the properties by which rows are found and ordered.
        restricted: The viewers of the properties that only some viewers of a row may see, by stored name.
        has_viewers: Whether rows say who may see them.
        has_editors: Whether rows say who may change them.
        routes: The methods that are served, by the segments behind the row's id.
        can_create: Whether the class has `new`.
    """

    def __init__(self, plan: ViewPlan) -> None:
        self.plan, self.name = plan, plan.name
        template = plan.paths.template
        self.prefix = template[: template.index("{")]
        self.indexed, self.restricted = plan.target.indexed, plan.restricted
        self.has_flat_ids = template.count("{") == 1 and template.endswith("}")
        self.has_viewers, self.has_editors = "viewers" in plan.visibility, "editors" in plan.visibility
        self.routes = routes_of(plan)
        self.can_create = callable(getattr(plan.model, "new", None))

    @cached_property
    def description(self) -> str:
        """The docstring of the class."""
        return inspect.cleandoc(self.plan.model.__doc__ or "")

    @cached_property
    def properties(self) -> dict[str, Property]:
        """The stored properties, by their stored names."""
        declared = self.plan.model.declared_properties()
        found = {}
        for attribute, stored in self.plan.properties:
            if attribute.startswith("_"):
                continue
            one = declared[attribute]
            description = "" if isinstance(one, AggregateDeclaration) else inspect.cleandoc(one.__doc__ or "")
            settable = getattr(one, "set_value", None) is not None
            found[stored] = Property(stored, attribute, _type_of(one, self.plan.case), description, settable)
        return found

    @cached_property
    def _plain(self) -> dict[str, Callable[[Any], Any]]:
        return {name: one.type.plain for name, one in self.properties.items() if one.type.plain is not None}

    def id_of(self, path: str) -> str:
        """Returns the id of a row: its path without what all paths of the view begin with."""
        return path[len(self.prefix) :]

    def path_of(self, row_id: str) -> str | None:
        """Returns the path of the row with an id; None if no row of this view can have it."""
        path = self.prefix + row_id
        return path if self.plan.target.matches(path) else None

    def principals(self, row: StoredRow, field: str) -> frozenset[str]:
        """Returns the stored value of `_viewers` or `_editors`."""
        raw = _decode(row.fields).get(field)
        return frozenset() if raw is None else frozenset(msgspec.json.decode(raw, type=list[str]))

    def fields(self, stored: str, hidden: frozenset[str], *, is_typed: bool = False) -> bytes:
        """Returns the fields of a row as clients get them, as JSON.

        Args:
            stored: The stored JSON.
            hidden: The properties that the client may not see.
            is_typed: Whether all values are written as in document files.
        """
        found: dict[str, Any] = dict(_decode(stored))
        for name in HIDDEN | hidden:
            found.pop(name, None)
        if not is_typed:
            for name, plain in self._plain.items():
                if name in found:
                    found[name] = plain(msgspec.json.decode(found[name]))
        return msgspec.json.encode(found)

    def row(self, row: StoredRow, hidden: frozenset[str], *, is_typed: bool = False) -> bytes:
        """Returns a row as all protocols send it: `{"view", "path", "id", "stamp", "fields"}`."""
        return msgspec.json.encode(
            {
                "view": self.name,
                "path": row.path,
                "id": self.id_of(row.path),
                "stamp": row.stamp._asdict(),
                "fields": msgspec.Raw(self.fields(row.fields, hidden, is_typed=is_typed)),
            }
        )


class Catalog(Mapping[str, ServedView]):
    """The views by name; an unknown name is a `Problem`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._views = {view.name: ServedView(view) for view in plan.views}

    def __getitem__(self, name: str) -> ServedView:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def named(self, name: Any) -> ServedView:
        """Returns a view.

        Raises:
            Problem: There is none of this name.
        """
        if not isinstance(name, str) or name not in self._views:
            raise unknown_view()
        return self._views[name]

    def check_fields(self, view: ServedView, fields: Any) -> None:
        """Refuses a change with fields that are unknown or can't be set; all of them at once.

        Raises:
            Problem: There is one.
        """
        if not isinstance(fields, dict):
            raise Problem(422, "invalid value", errors=[("", "expected an object of fields")])
        wrong = list[tuple[str, str]]()
        for name in fields:
            known = view.properties.get(name)
            if known is None:
                wrong.append((f"/{_escaped(name)}", f"unknown field; {view.name} has {', '.join(view.properties)}"))
            elif not known.is_settable:
                wrong.append((f"/{_escaped(name)}", "has no setter"))
        if wrong:
            raise Problem(422, "invalid value", errors=wrong)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _type_of(declared: Any, case: str) -> JsonType:
    if isinstance(declared, AggregateDeclaration):
        return json_type(int) if declared.kind in _COUNTS else json_type(Any)
    try:
        return json_type(typing.get_type_hints(declared.getter, include_extras=True).get("return", Any), case)
    except (NameError, TypeError):  # a name that only type checkers know
        return json_type(Any)
