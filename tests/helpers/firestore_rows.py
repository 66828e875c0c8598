"""Reads rows and tombstones of a Firestore database, for tests of writers."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.guard import row_of, tombstone_of
from boiler_beam.connectors.firestore.protos import BatchGetDocumentsRequest
from boiler_beam.connectors.firestore.values import fields_of
from boiler_beam.events import EncodedRow, Stamp


def row(path: str, version: int, generation: int = 1, seq: int = 0, **fields: Any) -> EncodedRow:
    """Returns a row; without fields a deletion."""
    data = msgspec.json.encode(fields, order="deterministic") if fields else None
    return EncodedRow(path, Stamp(generation, version, seq), data)


def documents(client: Client, paths: list[str]) -> dict[str, Any]:
    """Returns the existing ones of some documents."""
    request = BatchGetDocumentsRequest(database=client.database, documents=[client.root + path for path in paths])
    answers = client.call("BatchGetDocuments", request)
    return {client.path_of(one.found.name): one.found for one in answers if one.HasField("found")}


def rows(client: Client, *paths: str) -> dict[str, EncodedRow]:
    """Returns the rows at some paths."""
    return {path: row_of(client, document) for path, document in documents(client, list(paths)).items()}


def tombstones(client: Client, *paths: str) -> dict[str, dict[str, Any]]:
    """Returns the tombstones of some paths."""
    found = documents(client, [tombstone_of(path) for path in paths])
    return {fields["path"]: fields for fields in (json.loads(bytes(fields_of(one))) for one in found.values())}
