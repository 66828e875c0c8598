"""The OpenAPI 3.1 description of a server's REST interface, from the classes and their docstrings."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from boiler_beam.serving.catalog import Catalog, Property, ServedView
from boiler_beam.serving.core import DEFAULT_LIMIT, MAX_LIMIT
from boiler_beam.serving.json_types import json_type
from boiler_beam.serving.routes import ServedRoute
from boiler_beam.writing.assigned import arguments_of

__all__ = ["describe"]

_STAMP = {
    "type": "object",
    "description": "Which of two writes of the row is newer.",
    "properties": {name: {"type": "integer", "format": "int64"} for name in ("generation", "version", "seq")},
    "required": ["generation", "version", "seq"],
}
_PROBLEM = {
    "type": "object",
    "description": "What was refused (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                "required": ["pointer", "detail"],
            },
        },
    },
    "required": ["type", "title", "status"],
}
_WRITTEN = {
    "type": "object",
    "description": "The row's id, and the version of each document that was written, in microseconds.",
    "properties": {
        "id": {"type": "string"},
        "versions": {"type": "object", "additionalProperties": {"type": "integer", "format": "int64"}},
    },
    "required": ["id", "versions"],
}


_ETAG = {"type": "string", "pattern": r'^(\*|(W/)?"\d+-\d+-\d+(-t)?(-h[0-9a-f]{8})?")$'}


def describe(catalog: Catalog, *, is_open: bool, can_write: bool) -> dict[str, Any]:
    """Returns the description.

    Args:
        catalog: The views.
        is_open: Whether nobody signs in.
        can_write: Whether rows can be changed.
    """
    schemas: dict[str, Any] = {"Stamp": _STAMP, "Problem": _PROBLEM, "Written": _WRITTEN}
    paths: dict[str, Any] = {}
    for view in catalog.values():
        schemas.update(_schemas(view))
        paths.update(_paths(view, can_write=can_write))
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Views",
            "version": version("boiler_beam"),
            "description": "Rows of views, read and changed.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if not is_open:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}, {}]
    return found


def _schemas(view: ServedView) -> dict[str, Any]:
    fields = {name: _described(one, name in view.restricted) for name, one in view.properties.items()}
    row = {
        "type": "object",
        "description": view.description,
        "properties": {
            "view": {"const": view.name},
            "path": {"type": "string"},
            "id": {"type": "string"},
            "stamp": _ref("Stamp"),
            "fields": {"type": "object", "properties": fields},
        },
        "required": ["view", "path", "id", "stamp", "fields"],
    }
    many = {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": _ref(view.name)}, "cursor": {"type": ["string", "null"]}},
        "required": ["rows", "cursor"],
    }
    settable = {name: one for name, one in fields.items() if view.properties[name].is_settable}
    change = {"type": "object", "properties": settable, "additionalProperties": False}
    return {view.name: row, f"{view.name}List": many, f"{view.name}Change": change}


def _described(one: Property, is_restricted: bool) -> dict[str, Any]:
    texts = [*([one.description] if one.description else []), *(["Only some viewers get it."] if is_restricted else [])]
    return {**one.type.schema, **({"description": "\n\n".join(texts)} if texts else {})}


def _paths(view: ServedView, *, can_write: bool) -> dict[str, Any]:
    name = view.name
    one: dict[str, Any] = {
        "parameters": [_parameter("id", {"type": "string", "minLength": 1}, "The row's id.", where="path")],
        "get": {
            "operationId": f"get{name}",
            "summary": f"One row of {name}",
            "description": view.description,
            "parameters": [
                _parameter("typed", {"enum": ["0", "1"]}, "1: values are written as in document files."),
                _parameter("If-None-Match", {"type": "string"}, "An ETag.", where="header"),
            ],
            "responses": {
                "200": _answer("The row.", name),
                "304": {"description": "The row is as it was."},
                **_PROBLEMS,
            },
        },
    }
    many: dict[str, Any] = {
        "get": {
            "operationId": f"list{name}",
            "summary": f"Rows of {name}",
            "description": view.description,
            "parameters": [
                _parameter(
                    "limit",
                    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
                    "How many.",
                ),
                _parameter("cursor", {"type": "string"}, "Where to go on, from the answer before."),
                *(
                    [_parameter("order", {"enum": _orders(view)}, "A property; - for descending.")]
                    if view.indexed
                    else []
                ),
                *(_parameter(one, {"type": "string"}, "Only rows with this value.") for one in view.indexed),
            ],
            "responses": {"200": _answer("Rows.", f"{name}List"), **_PROBLEMS},
        }
    }
    if can_write and any(known.is_settable for known in view.properties.values()):
        one["patch"] = {
            "operationId": f"update{name}",
            "summary": f"Change a row of {name}",
            "parameters": [_parameter("If-Match", _ETAG, "The ETag that the row must have.", where="header")],
            "requestBody": _body(_ref(f"{name}Change")),
            "responses": {"200": _answer("It was written.", "Written"), **_PROBLEMS},
        }
    if can_write and view.can_create:
        many["post"] = {
            "operationId": f"create{name}",
            "summary": f"Create a row of {name}",
            "requestBody": _body(_arguments(view)),
            "responses": {"201": _answer("It was created.", "Written"), **_PROBLEMS},
        }
    routes = {f"/views/{name}{route.path}": _route(view, route) for route in view.routes.values()}
    return {f"/views/{name}/{{id}}": one, f"/views/{name}": many, **routes}


def _route(view: ServedView, route: ServedRoute) -> dict[str, Any]:
    parameters = []
    for one in route.parameters:
        schema = dict(json_type(one.type).schema) if one.type is not float else {"type": "number"}
        schema |= {} if one.default is None else {"default": one.default}
        parameters.append({**_parameter(one.name, schema, ""), "required": one.is_required})
    return {
        "parameters": [_parameter("id", {"type": "string", "minLength": 1}, "The row's id.", where="path")],
        "get": {
            "operationId": f"{route.name}Of{view.name}",
            "summary": route.description.partition("\n")[0] or f"{route.name} of a row of {view.name}",
            "description": route.description,
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": "What the view answers.",
                    "content": {"application/json": {"schema": dict(route.type.schema)}},
                },
                **_PROBLEMS,
            },
        },
    }


def _arguments(view: ServedView) -> dict[str, Any]:
    """Returns the schema of the arguments of `new`."""
    known = arguments_of(view.plan.model.new, view.plan.case)  # type: ignore[attr-defined]
    if known is None:
        return {"type": "object"}
    properties = {one.stored: dict(json_type(one.annotation, view.plan.case).schema) for one in known.values()}
    required = [one.stored for one in known.values() if one.is_required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _orders(view: ServedView) -> list[str]:
    return [sign + name for name in view.indexed for sign in ("", "-")]


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter(name: str, schema: dict[str, Any], description: str, where: str = "query") -> dict[str, Any]:
    return {"name": name, "in": where, "schema": schema, "description": description, "required": where == "path"}


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_PROBLEMS: dict[str, Any] = {
    "default": {"description": "It was refused.", "content": {"application/problem+json": {"schema": _ref("Problem")}}}
}
