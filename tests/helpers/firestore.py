"""Documents in a Firestore emulator, written by plain calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.protos import BatchWriteRequest
from boiler_beam.connectors.firestore.values import micros_of_proto, put_fields

_MOST = 500


def put(client: Client, documents: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[int]:
    """Writes documents (None deletes one); gives the versions that they have now."""
    left = list(documents.items() if isinstance(documents, Mapping) else documents)
    versions = []
    for begin in range(0, len(left), _MOST):
        request = BatchWriteRequest(database=client.database)
        for path, fields in left[begin : begin + _MOST]:
            write = request.writes.add()
            if fields is None:
                write.delete = client.root + path
            else:
                write.update.name = client.root + path
                put_fields(write.update.fields, json.dumps(fields).encode(), client.root)
        answer = client.call("BatchWrite", request)
        assert not any(status.code for status in answer.status), answer
        versions += [micros_of_proto(result.update_time) for result in answer.write_results]
    return versions
