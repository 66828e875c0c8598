"""Checks requests against a discovery document of Google's, as shipped by google-api-python-client."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def document(name: str) -> dict[str, Any]:
    """A discovery document: `dataflow.v1b3`."""
    text = files("googleapiclient.discovery_cache.documents").joinpath(f"{name}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def problems(name: str, schema: str, value: Any) -> list[str]:
    """What in a request's body is not as the document says: unknown fields, and values of another type."""
    return list(_problems(document(name)["schemas"], {"$ref": schema}, value, schema))


def _problems(schemas: Any, schema: Any, value: Any, path: str) -> Any:
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = schema.get("type", "any")
    if kind == "object":
        if not isinstance(value, dict):
            yield f"{path}: expected an object, got {value!r}"
            return
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        for key, one in value.items():
            if key in known or other is not None:
                yield from _problems(schemas, known.get(key, other), one, f"{path}.{key}")
            else:
                yield f"{path}.{key}: unknown"
    elif kind == "array":
        if not isinstance(value, list):
            yield f"{path}: expected an array, got {value!r}"
            return
        for number, one in enumerate(value):
            yield from _problems(schemas, schema["items"], one, f"{path}[{number}]")
    elif not _fits(schema, kind, value):
        yield f"{path}: expected {schema.get('enum', kind)}, got {value!r}"


def _fits(schema: Any, kind: str, value: Any) -> bool:
    if kind == "string":
        if schema.get("format") in ("int64", "uint64") and isinstance(value, int) and not isinstance(value, bool):
            return True
        if schema.get("format") in ("int64", "uint64"):
            return isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None
        if "enum" in schema and isinstance(value, int):  # JSON of protobuf may have an enum's number
            return 0 <= value < len(schema["enum"])
        return isinstance(value, str) and value in schema.get("enum", [value])
    kinds: dict[str, Any] = {"boolean": bool, "integer": int, "number": (int, float)}
    return kind not in kinds or (isinstance(value, kinds[kind]) and (kind == "boolean") == isinstance(value, bool))
