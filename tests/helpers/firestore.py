"""A Firestore database as an application uses it: writes, deletions and reads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.control import patiently
from boiler_beam.connectors.firestore.protos import BatchWriteRequest, CommitRequest, RunQueryRequest
from boiler_beam.connectors.firestore.values import fields_of, micros_of_proto, put_fields
from boiler_beam.events import Change
from boiler_beam.values import encode_fields

Write = tuple[str, Any]
"""A path, and its fields or None."""
MOST = 500


def put(client: Client, documents: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[int]:
    """Writes documents (None deletes one); returns their new versions."""
    left = list(documents.items() if isinstance(documents, Mapping) else documents)
    versions = []
    for begin in range(0, len(left), MOST):
        request = BatchWriteRequest(database=client.database)
        for path, fields in left[begin : begin + MOST]:
            write = request.writes.add()
            if fields is None:
                write.delete = client.root + path
            else:
                write.update.name = client.root + path
                put_fields(write.update.fields, json.dumps(fields).encode(), client.root)
        answer = _written(client, request)
        assert not any(status.code for status in answer.status), answer
        versions += [micros_of_proto(result.update_time) for result in answer.write_results]
    return versions


def _written(client: Client, request: Any) -> Any:
    """Repeats a write that the emulator cancels because a listener disconnects."""
    return patiently(lambda: client.call("BatchWrite", request), 300.0, client.uri)


class Application:
    """Writes to a project of the emulator that `FIRESTORE_EMULATOR_HOST` names.

    Attributes:
        history: All that was written, with the server's versions; deletions with the version that they deleted, and when.
    """

    def __init__(self, project: str) -> None:
        self.client = Client(project)
        self.history: list[Change] = []
        self.versions: dict[str, int] = {}

    def write(self, writes: Sequence[Write]) -> None:
        """Writes each document separately; no path twice in one call."""
        for begin in range(0, len(writes), MOST):
            some = writes[begin : begin + MOST]
            request = BatchWriteRequest(database=self.client.database)
            self._put(request, some)
            answer = _written(self.client, request)
            assert all(status.code == 0 for status in answer.status), answer.status
            self._remember(some, [micros_of_proto(one.update_time) for one in answer.write_results])

    def commit(self, writes: Sequence[Write]) -> None:
        """Writes all documents in one commit."""
        request = CommitRequest(database=self.client.database)
        self._put(request, writes)
        answer = self.client.call("Commit", request)
        self._remember(writes, [micros_of_proto(answer.commit_time)] * len(writes))

    def _put(self, request: Any, writes: Iterable[Write]) -> None:
        for path, fields in writes:
            write = request.writes.add()
            if fields is None:
                write.delete = self.client.root + path
            else:
                write.update.name = self.client.root + path
                put_fields(write.update.fields, encode_fields(fields), self.client.root)

    def _remember(self, writes: Sequence[Write], versions: Sequence[int]) -> None:
        for (path, fields), version in zip(writes, versions, strict=True):
            if fields is None:
                version = self.versions.pop(path, version)
            else:
                self.versions[path] = version
            data = b"null" if fields is None else encode_fields(fields)
            event_time = time.time_ns() // 1000 if fields is None else 0
            self.history.append(Change(path, version, msgspec.Raw(data), event_time))

    def documents(self, collection: str, *, is_group: bool = False) -> dict[str, dict[str, Any]]:
        """Returns the documents of a collection, as JSON."""
        request = RunQueryRequest(parent=self.client.root[:-1])
        request.structured_query.from_.add(collection_id=collection, all_descendants=is_group)
        found = [one.document for one in self.client.call("RunQuery", request) if one.document.name]
        return {self.client.path_of(one.name): msgspec.json.decode(fields_of(one)) for one in found}

    def rows(self, collection: str) -> dict[str, dict[str, Any]]:
        """Returns the rows of a view, without their stamps."""
        found = self.documents(collection)
        return {
            path: {name: value for name, value in fields.items() if name != "_boiler"} for path, fields in found.items()
        }

    def unexpected(self) -> dict[str, Any]:
        """Returns the documents that differ from the last write to their path: by path, written and stored fields."""
        written = {
            change.path: None if change.is_deleted else msgspec.json.decode(change.fields) for change in self.history
        }
        stored: dict[str, Any] = {}
        for collection in {path.split("/")[0] for path in written}:
            stored |= self.documents(collection)
        return {path: (fields, stored.get(path)) for path, fields in written.items() if fields != stored.get(path)}

    def close(self) -> None:
        self.client.close()
