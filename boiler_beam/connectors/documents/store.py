"""Transactions on a document store in a file.

An attempt reads in one transaction of SQLite, so all of it is of one time. Its commit takes the only write lock, looks
whether everything that was read is still so, and writes. So transactions are serializable, and readers never wait.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import msgspec

from boiler_beam.connectors.documents.file import DocumentsFile, fact
from boiler_beam.connectors.documents.source import get_documents, query_documents
from boiler_beam.connectors.stores import Attempt, DocumentStore, Filter, Write, written_fields
from boiler_beam.errors import BoilerBeamError, Conflict, UsageError, WriteRefused
from boiler_beam.events import Change
from boiler_beam.values import Database

__all__ = ["DocumentsStore"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_Read = tuple[str, int | None]
"""A path, and the version of the document; None if there is none."""


def _micros() -> int:
    return time.time_ns() // 1000


class DocumentsStore(DocumentStore):
    """Documents in an SQLite file."""

    scheme: ClassVar[str] = "documents"

    def __init__(self, rest: str, now: Callable[[], int] = _micros) -> None:
        self.uri = f"documents:{rest}"
        self.database = Database()
        self._file, self._now = DocumentsFile(rest, self.uri), now

    def begin(self) -> Attempt:
        """Begins an attempt; a missing file is created."""
        return _Attempt(self._file, self._now)

    def load(self, changes: Sequence[Change]) -> None:
        """Writes documents with their versions to a new file.

        Raises:
            UsageError: It holds documents.
        """
        database = self._file.connect()
        try:
            with self._file.explained():
                database.execute("BEGIN IMMEDIATE")
                number, version = fact(database, "number"), fact(database, "version")
                if number:
                    raise UsageError(f"{self.uri}: expected a new file, got one with documents; fix: name another")
                for change in changes:
                    number += 1
                    fields = None if change.is_deleted else msgspec.json.decode(bytes(change.fields))
                    _put(database, change.path, change.version, number, fields)
                    version = max(version, change.version)
                _put_facts(database, number, version)
                database.execute("COMMIT")
        finally:
            database.close()

    def close(self) -> None:
        """Does nothing: every attempt has a connection of its own."""


def _put(database: sqlite3.Connection, path: str, version: int, number: int, fields: object) -> None:
    text = None if fields is None else _encode(fields).decode()
    row = (path, path.split("/")[-2], version, number, text)
    database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?)", row)


def _put_facts(database: sqlite3.Connection, number: int, version: int) -> None:
    database.executemany("UPDATE facts SET value = ? WHERE name = ?", [(number, "number"), (version, "version")])


def _seen(change: Change) -> _Read:
    return change.path, None if change.is_deleted else change.version


class _Attempt(Attempt):
    def __init__(self, file: DocumentsFile, now: Callable[[], int]) -> None:
        self._file, self._now = file, now
        self._database = file.connect()
        self._got: dict[str, int | None] = {}
        self._queried: list[tuple[str, Sequence[Filter], list[_Read]]] = []
        with file.explained():
            self._database.execute("BEGIN")

    def get(self, paths: Sequence[str]) -> Iterator[Change]:
        with self._file.explained():
            found = list(get_documents(self._database, paths))
        self._got.update(map(_seen, found))
        return iter(found)

    def query(self, collection: str, filters: Sequence[Filter]) -> Iterator[Change]:
        with self._file.explained():
            found = list(query_documents(self._database, collection, filters))
        self._queried.append((collection, filters, list(map(_seen, found))))
        return iter(found)

    def commit(self, writes: Sequence[Write]) -> dict[str, int]:
        database = self._database
        with self._file.explained():
            database.execute("COMMIT")
            if not writes:
                return {}
            database.execute("BEGIN IMMEDIATE")
            try:
                self._check()
                versions = self._write(writes)
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")
        return versions

    def _check(self) -> None:
        """Raises `Conflict` if something that was read has changed."""
        for change in get_documents(self._database, list(self._got)):
            if _seen(change)[1] != self._got[change.path]:
                raise self._conflict(change.path)
        for collection, filters, before in self._queried:
            if list(map(_seen, query_documents(self._database, collection, filters))) != before:
                raise self._conflict(collection)

    def _conflict(self, what: str) -> Conflict:
        return Conflict(
            f"{self._file.uri}: expected {what} to be as it was read, got a newer version; fix: run it again"
        )

    def _write(self, writes: Sequence[Write]) -> dict[str, int]:
        database = self._database
        number, last = fact(database, "number"), fact(database, "version")
        version = max(self._now(), last + 1)
        versions = {}
        for write in writes:
            (old,) = get_documents(database, [write.path])
            self._check_precondition(write, old)
            before = None if old.is_deleted else msgspec.json.decode(bytes(old.fields))
            after = written_fields(before, write, version)
            versions[write.path] = version if after != before or before is None else old.version
            if after != before:
                number += 1
                _put(database, write.path, version, number, after)
        _put_facts(database, number, version)
        return versions

    def _check_precondition(self, write: Write, old: Change) -> None:
        exists, version = write.precondition
        if exists is False and not old.is_deleted:
            raise WriteRefused("exists", f"{write.path}: expected no such document, got one; fix: another id")
        if (exists and old.is_deleted) or (version is not None and (old.is_deleted or old.version != version)):
            raise self._conflict(write.path)

    def close(self) -> None:
        try:
            self._database.close()
        except sqlite3.Error as error:
            raise BoilerBeamError(f"{self._file.uri}: could not be closed: {error}; fix: run it again") from error
