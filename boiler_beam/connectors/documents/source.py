"""The source `documents:PATH`: the documents of a document store; `following` also yields their changes, without end.

A position holds the file's incarnation, the number of the last write that was yielded, and the collections that were
yielded completely. A collection that a stream begins to read later is yielded completely first.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, ClassVar

import msgspec

from boiler_beam.connectors.base import KeyedSource
from boiler_beam.connectors.documents.file import DocumentsFile, fact, incarnation
from boiler_beam.connectors.stores import matches
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, Complete, Event
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.values import decode_fields

__all__ = ["DocumentsFollower", "DocumentsSource", "get_documents", "query_documents"]

_BATCH = 1000
_LOOK_SECONDS, _IDLE_SECONDS = 0.003, 0.05
"""How often the file is looked at (a few microseconds), and how often an empty batch is yielded."""
_COLUMNS = "path, version, fields"


def _change(path: str, version: int, fields: str | None) -> Change:
    return Change(path, version, msgspec.Raw(b"null" if fields is None else fields.encode()))


def get_documents(database: sqlite3.Connection, paths: Sequence[str]) -> Iterator[Change]:
    """Yields the documents at some paths, and a deletion for each missing one."""
    for path in paths:
        found = database.execute(f"SELECT {_COLUMNS} FROM documents WHERE path = ?", (path,)).fetchone()
        yield _change(*found) if found else _change(path, fact(database, "version"), None)


def query_documents(
    database: sqlite3.Connection, collection: str, filters: Sequence[tuple[str, str, Any]]
) -> Iterator[Change]:
    """Yields the documents of a collection (a pattern or a path) that match all filters, in the order of their paths.

    All documents of the collection are read.
    """
    pattern = CollectionPattern(collection)
    sql = f"SELECT {_COLUMNS} FROM documents WHERE collection_id = ? AND fields IS NOT NULL ORDER BY path"
    for path, version, fields in database.execute(sql, (pattern.segments[-1],)):
        is_inside = pattern.match(path) is not None or path.rpartition("/")[0] == collection
        if is_inside and (not filters or matches(decode_fields(fields.encode()), filters)):
            yield _change(path, version, fields)


class DocumentsSource(KeyedSource):
    """Reads the documents of a document store, all as of one time."""

    scheme: ClassVar[str] = "documents"
    is_snapshot: ClassVar[bool] = True

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.file = DocumentsFile(rest, self.uri)
        self.patterns: list[CollectionPattern] = []

    def prepare(self, collections: Sequence[str]) -> None:
        """Sets the collections to read; none: all."""
        self.patterns = [CollectionPattern(text) for text in collections]

    def following(self) -> DocumentsFollower:
        """Returns the source that follows the same documents."""
        source = DocumentsFollower(self.rest)
        source.patterns = self.patterns
        return source

    def _is_wanted(self, path: str) -> bool:
        return not self.patterns or any(pattern.match(path) is not None for pattern in self.patterns)

    def splits(self) -> Sequence[str]:
        """Returns one part."""
        if not self.file.exists:
            raise UsageError(f"{self.uri}: expected a file of documents, got none; fix: check the path")
        return ["all"]

    def read(self, split: str) -> Iterator[Change]:
        """Yields the documents."""
        with self.file.reading() as database:
            for found in database.execute(f"SELECT {_COLUMNS} FROM documents WHERE fields IS NOT NULL"):
                if self._is_wanted(found[0]):
                    yield _change(*found)

    def get(self, paths: Sequence[str]) -> Iterator[Change]:
        """Yields the documents at some paths; a deletion for each missing one."""
        with self.file.reading() as database:
            yield from list(get_documents(database, paths))

    def query(self, collection: str, filters: Sequence[tuple[str, str, Any]]) -> Iterator[Change]:
        """Yields the documents of a collection that match all filters."""
        with self.file.reading() as database:
            yield from list(query_documents(database, collection, filters))


class _Position(msgspec.Struct, array_like=True):
    incarnation: str
    number: int
    patterns: list[str]


class DocumentsFollower(DocumentsSource):
    """Yields all documents, and then their changes as they are committed.

    Only the newest version of a document that was changed several times in a moment is yielded.
    """

    is_bounded: ClassVar[bool] = False
    has_snapshot: ClassVar[bool] = True

    def following(self) -> DocumentsFollower:
        """Returns this source."""
        return self

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        """Yields changes in batches, with an empty batch now and then.

        Raises:
            UsageError: The file was replaced by another one.
        """
        with closing(self.file.connect()) as database, self.file.explained():
            at = _Position(incarnation(database), 0, [])
            if position is not None:
                at = self._continued(msgspec.json.decode(position, type=_Position), at.incarnation)
            yield from self._snapshot(database, at)
            yield from self._tail(database, at)

    def _continued(self, known: _Position, found: str) -> _Position:
        if known.incarnation != found:
            raise UsageError(
                f"{self.uri}: expected the file that was read before, got another one in its place; "
                "fix: restore it, or start with another --state"
            )
        return known

    def _snapshot(self, database: sqlite3.Connection, at: _Position) -> Iterator[tuple[Sequence[Event], str]]:
        """Yields the collections that were not yielded before, and a `Complete` for each."""
        new = [pattern for pattern in self.patterns if pattern.text not in at.patterns]
        if not new and (at.number or at.patterns):
            return
        database.execute("BEGIN")
        last, version = fact(database, "number"), fact(database, "version")
        paths: dict[str, set[str]] = {pattern.text: set() for pattern in new}
        rows = database.execute(f"SELECT {_COLUMNS} FROM documents WHERE fields IS NOT NULL")
        while some := rows.fetchmany(_BATCH):
            batch: list[Event] = []
            for found in some:
                inside = [pattern.text for pattern in new if pattern.match(found[0]) is not None]
                for text in inside:
                    paths[text].add(found[0])
                if inside or not self.patterns:
                    batch.append(_change(*found))
            if batch:
                yield batch, msgspec.json.encode(at).decode()
        database.execute("COMMIT")
        at.number = at.number if at.patterns else last
        at.patterns = [*at.patterns, *paths]
        yield [Complete(text, version, found) for text, found in paths.items()], msgspec.json.encode(at).decode()

    def _tail(self, database: sqlite3.Connection, at: _Position) -> Iterator[tuple[Sequence[Event], str]]:
        sql = f"SELECT {_COLUMNS}, number FROM documents WHERE number > ? ORDER BY number LIMIT {_BATCH}"
        seen, last = None, time.monotonic()
        while True:
            version = database.execute("PRAGMA data_version").fetchone()
            found = database.execute(sql, (at.number,)).fetchall() if version != seen else []
            if len(found) < _BATCH:
                seen = version
            if found:
                at.number = found[-1][-1]
            batch = [_change(*one[:-1]) for one in found if self._is_wanted(one[0])]
            if batch or time.monotonic() - last >= _IDLE_SECONDS:
                last = time.monotonic()
                yield batch, msgspec.json.encode(at).decode()
            elif not found:
                time.sleep(_LOOK_SECONDS)
