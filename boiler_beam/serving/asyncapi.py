"""The AsyncAPI 3.0 description of the frames of `/ws`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from boiler_beam.serving.catalog import Catalog
from boiler_beam.serving.openapi import describe

__all__ = ["describe_frames"]


def describe_frames(catalog: Catalog) -> dict[str, Any]:
    """Returns the description; rows have the schemas of the REST interface."""
    schemas = describe(catalog, is_open=True, can_write=True)["components"]["schemas"]
    views, rows = list(catalog), [_ref(f"schemas/{view}") for view in catalog]
    schemas["ChangeMessage"] = {
        "type": "object",
        "description": "A row that changed, as the State Protocol of Durable Streams has it.",
        "properties": {
            "type": {"enum": views},
            "key": {"type": "string", "description": "the row's id"},
            "value": {"anyOf": rows},
            "headers": _object(operation={"enum": ["insert", "update", "delete"]}, txid={"type": "string"}),
        },
        "required": ["type", "key", "headers"],
    }
    control = _object(control={"enum": ["snapshot-start", "snapshot-end", "reset"]}, offset={"type": "string"})
    schemas["ControlMessage"] = {**_object(headers={**control, "required": ["control"]}), "required": ["headers"]}
    of_rows = {"anyOf": [_ref("schemas/ChangeMessage"), _ref("schemas/ControlMessage")]}
    view = {"enum": views}
    calls = {
        "get": _object(view=view, id={"type": "string"}),
        "list": _object(view=view, limit={"type": "integer"}, cursor={"type": "string"}, order={"type": "string"}),
        "update": _object(view=view, id={"type": "string"}, fields={"type": "object"}),
        "create": _object(view=view, fields={"type": "object"}),
        "subscribe": _object(view=view, offset={"type": "string", "default": "-1"}),
        "unsubscribe": _object(subscription={"type": "integer"}),
        "authenticate": _object(token={"type": "string"}),
    }
    number = {"type": "integer"}
    notifications = {
        "rows": _object(
            subscription=number,
            messages={"type": "array", "items": of_rows},
            offset={"type": "string"},
            upToDate={"type": "boolean", "description": "the client has then all rows as of one commit"},
        ),
        "alive": _object(subscription=number),
        "ended": _object(subscription=number, problem=_ref("schemas/Problem")),
    }
    answer = _object(jsonrpc={"const": "2.0"}, id={}, result={}, error={"type": "object"})
    messages = {name: _message(name, params, has_id=True) for name, params in calls.items()}
    messages |= {name: _message(name, params, has_id=False) for name, params in notifications.items()}
    messages["answer"] = {"summary": "The answer to a call, with its id.", "payload": answer}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Live rows of views", "version": version("boiler_beam")},
        "channels": {
            "ws": {"address": "/ws", "messages": {name: _ref(f"messages/{name}") for name in messages}},
        },
        "operations": {
            "receive": {"action": "receive", "channel": {"$ref": "#/channels/ws"}, "messages": _of(calls)},
            "send": {
                "action": "send",
                "channel": {"$ref": "#/channels/ws"},
                "messages": _of([*notifications, "answer"]),
            },
        },
        "components": {"schemas": schemas, "messages": messages},
    }


def _of(names: Any) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/ws/messages/{name}"} for name in names]


def _ref(path: str) -> dict[str, Any]:
    return {"$ref": f"#/components/{path}"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _message(name: str, params: dict[str, Any], *, has_id: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {"jsonrpc": {"const": "2.0"}, "method": {"const": name}, "params": params}
    if has_id:
        properties["id"] = {"type": ["string", "number"]}
    payload = {"type": "object", "properties": properties, "required": ["jsonrpc", "method", "params"]}
    return {"name": name, "payload": payload}
