"""Firestore's rules for a row: a broken rule is named, and the emulator refuses the row; it accepts other rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.protos import CommitRequest, Write
from boiler_beam.connectors.firestore.rules import broken_rules
from boiler_beam.connectors.firestore.values import put_fields


@pytest.fixture(name="client")
def _client(firestore_emulator: str, project: str) -> Iterator[Client]:
    client = Client(project)
    yield client
    client.close()


def deep(levels: int, leaf: Any = 1) -> Any:
    for _ in range(levels):
        leaf = {"d": leaf}
    return leaf


def point(latitude: float, longitude: float) -> Any:
    return {"geoPointValue": {"latitude": latitude, "longitude": longitude}}


def vector(*numbers: Any) -> Any:
    return {"__type__": "__vector__", "value": list(numbers)}


BROKEN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an array in an array": ({"v": [[1, 2], [3]]}, ["an array in an array at v[0]", "an array in an array at v[1]"]),
    "an empty one": ({"v": {"w": [1, []]}}, ["an array in an array at v.w[1]"]),
    "in a map in an array": ({"v": [{"a b": [[1]]}]}, ["an array in an array at v[0].`a b`[0]"]),
    "25 levels": ({"v": deep(25)}, ["25 levels of maps and arrays in v, more than 20"]),
    "21 levels": ({"v": [deep(20)]}, ["21 levels of maps and arrays in v, more than 20"]),
    "an empty map at the bottom": ({"v": deep(20, {})}, ["21 levels of maps and arrays in v, more than 20"]),
    "an empty key": ({"v": {"": 1}}, ["an empty key in v"]),
    "an empty key deep": ({"v": [{"w": {"": 1}}]}, ["an empty key in v[0].w"]),
    "an empty name": ({"": 1}, ["an empty key in the row"]),
    "a long key": ({"v": {"k" * 1600: 1}}, [f"a key of 1,600 bytes at v.`{'k' * 40}...`, more than 1,500"]),
    "a long name": ({"é" * 751: 1}, [f"a key of 1,502 bytes at `{'é' * 40}...`, more than 1,500"]),
    "a long way": (
        {"v": {"k" * 800: {"l" * 698: 1}}},
        [f"keys of 1,501 bytes that lead to v.`{'k' * 40}...`.`{'l' * 40}...`, more than 1,500"],
    ),
    "a reserved key": (
        {"v": {"__a.b__": 1}}, ["a key of the form __x__, which Firestore reserves, at v.`__a.b__`"]
    ),
    "a reserved name": ({"__x__": 1}, ["a key of the form __x__, which Firestore reserves, at __x__"]),
    "a long text": ({"v": {"w": "x" * 1_048_488}}, ["a value of 1,048,488 bytes at v.w, more than 1,048,487"]),
    "off the earth": ({"v": [point(91.0, 0.0)]}, ["a latitude or longitude out of range at v[0], 91.0, 0.0"]),
    "a reference to a collection": ({"v": {"referenceValue": "users"}}, ["a reference to no document at v, 'users'"]),
    "a reference to a reserved id": (
        {"v": {"referenceValue": "users/__x__"}}, ["a reference to no document at v, 'users/__x__'"]
    ),
    "a vector of ints": ({"v": vector(1, 2)}, ["a vector with items other than doubles at v"]),
    "a vector of nothing": ({"v": {"w": vector()}}, ["a vector of 0 numbers at v.w, not 1 to 2,048"]),
    "several": (
        {"a": [[1]], "b": {"": 1}, "c": {"__x__": [[1]]}},
        [
            "an array in an array at a[0]",
            "an empty key in b",
            "a key of the form __x__, which Firestore reserves, at c.__x__",
        ],
    ),
}  # fmt: skip

FINE: dict[str, dict[str, Any]] = {
    "keys with points and all else": {"a.b": {"c.d": 1, "`": [{"e f": 2}], "g/h\\~*[]": None, "\0": "\0"}},
    "20 levels": {"v": deep(20), "w": [deep(19)], "x": deep(19, [1]), "y": deep(19, {})},
    "a key as long as it may be": {"k" * 1500: 1, "v": {"k" * 1498: 1, "w": {"k" * 1496: {}}}},
    "keys that are nearly reserved": {"v": {"__x": 1, "x__": 2, "_x_": 3, "___": 4}},
    "arrays in maps in arrays": {"v": [{"a": [{"b": [1]}]}, {"c": []}]},
    "as large as it may be": {"v": "x" * 1_048_487},
    "points": {"v": [point(90.0, -180.0), point(-90.0, 180.0)]},
    "a vector": {"v": vector(0.5, -1.5)},
    "references": {"v": {"referenceValue": "users/u1"}, "w": {"referenceValue": "a/b/c/d"}},
}


def is_taken(client: Client, fields: dict[str, Any]) -> bool:
    write = Write()
    write.update.name = f"{client.root}rows/r1"
    put_fields(write.update.fields, json.dumps(fields).encode(), client.root)
    try:
        client.call("Commit", CommitRequest(database=client.database, writes=[write]))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        return False
    return True


@pytest.mark.parametrize(("fields", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_a_rule_is_named(client: Client, fields: dict[str, Any], said: list[str]) -> None:
    assert broken_rules("rows/r1", json.dumps(fields).encode()) == said
    assert not is_taken(client, fields)


@pytest.mark.parametrize("fields", FINE.values(), ids=FINE.keys())
def test_what_breaks_none_is_taken(client: Client, fields: dict[str, Any]) -> None:
    assert broken_rules("rows/r1", json.dumps(fields).encode()) == []
    assert is_taken(client, fields)


def test_a_name_and_a_number() -> None:
    path = "/".join(["rows", "r" * 1500] * 5)
    assert broken_rules(path, b'{"v":{"w":118059162071741130342}}') == [
        "a path of 7,529 bytes, more than 6,144", "118059162071741130342 is not an int64 in v",
    ]  # fmt: skip
