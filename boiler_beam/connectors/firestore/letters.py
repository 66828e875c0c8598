"""Dead letters as documents of the collection `_boiler_dead_letters`.

A document's id is a digest, so that a copy of a dead letter is the same document. Its fields `stage`, `code`,
`message`, `path` and `time` are for people; `letter` holds the dead letter as JSON. One that is too large for
a document continues in the documents `ID.001`, `ID.002`, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from boiler_beam.connectors.firestore.client import Client, explained
from boiler_beam.connectors.firestore.protos import RunQueryRequest, Write
from boiler_beam.connectors.firestore.write import BatchWriter, Item
from boiler_beam.connectors.letters import SharedWriter, digest_of
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import DeadLetter

__all__ = ["COLLECTION", "open_writer", "read_letters"]

COLLECTION = "_boiler_dead_letters"
_PART_BYTES = 900_000
"""The most bytes of a dead letter in one document, which holds 1 MiB."""
_MESSAGE_CHARACTERS = 1_000
_PAGE = 300


class _CollectionWriter(SharedWriter):
    def __init__(self, uri: str, address: str, now: Callable[[], str]) -> None:
        super().__init__(uri, now)
        self.client = Client(address)

    def _send(self, dead_letters: list[DeadLetter]) -> None:
        items = {item.key: item for dead_letter in dead_letters for item in _items(self.client, dead_letter)}
        for outcome in BatchWriter(self.client).write(items.values()):
            if outcome.kind != "done":
                got = outcome.reason or outcome.kind
                raise BoilerBeamError(
                    f"{self.uri}: expected to write the dead letter {outcome.item.key}, got: {got}; "
                    "fix: read the server's message, and run it again"
                )

    def _end(self) -> None:
        self.client.close()


def _items(client: Client, dead_letter: DeadLetter) -> Iterator[Item]:
    data, name = msgspec.json.encode(dead_letter), digest_of(dead_letter)
    parts = [data[begin : begin + _PART_BYTES] for begin in range(0, len(data), _PART_BYTES)]
    for number, part in enumerate(parts):
        path = f"{COLLECTION}/{name}" + (f".{number:03}" if number else "")
        write = Write()
        write.update.name = client.root + path
        fields = write.update.fields
        fields["letter"].bytes_value = part
        if not number:
            fields["parts"].integer_value = len(parts)
            for key in ("stage", "code", "path", "time"):
                fields[key].string_value = getattr(dead_letter, key) or ""
            fields["message"].string_value = dead_letter.message[:_MESSAGE_CHARACTERS]
        yield Item(path, [write])


def open_writer(uri: str, address: str, now: Callable[[], str]) -> SharedWriter:
    """Opens a writer to a database."""
    return _CollectionWriter(uri, address, now)


def read_letters(uri: str, address: str) -> Iterator[DeadLetter]:
    """Yields the dead letters in a database, by their ids.

    Raises:
        UsageError: There is no such database, or a document is not a dead letter.
    """
    client = Client(address)
    try:
        gathered, wanted = b"", 0
        for fields in _documents(client, uri):
            if "parts" in fields:
                gathered, wanted = b"", fields["parts"].integer_value
            gathered, wanted = gathered + fields["letter"].bytes_value, wanted - 1
            if wanted:
                continue
            try:
                yield msgspec.json.decode(gathered, type=DeadLetter)
            except msgspec.MsgspecError as error:
                raise UsageError(f"{uri}: expected dead letters, got: {error}; fix: name another database") from None
    finally:
        client.close()


def _documents(client: Client, uri: str) -> Iterator[Any]:
    """Yields the fields of all documents; parts follow the first one in the order of names."""
    request = RunQueryRequest(parent=client.root.rstrip("/"))
    query = request.structured_query
    query.from_.add(collection_id=COLLECTION)
    query.order_by.add(direction=1).field.field_path = "__name__"
    query.limit.value = _PAGE
    while True:
        with explained(uri, "to read dead letters"):
            found = [one.document for one in client.call("RunQuery", request) if one.HasField("document")]
        yield from (document.fields for document in found)
        if len(found) < _PAGE:
            return
        query.ClearField("start_at")
        query.start_at.before = False
        query.start_at.values.add().reference_value = found[-1].name
