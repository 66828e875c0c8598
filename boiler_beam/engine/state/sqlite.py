"""State in an SQLite file: a log of batches, one for each transaction, rewritten when most of it no longer counts.

| table | |
| --- | --- |
| `log` | batches of records of documents and rows (`boiler_beam.engine.state.records`): of each the last one counts |
| `outbox` | the rows and dead letters that were committed and not yet sent, in one value |
| `views`, `collections` | what is known of views, and the collections whose documents are here |
| `sources` | how far each was read |
| `waiting` | changes that wait for the others of their commit |
| `facts` | schema, identity, counters |
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import repeat
from typing import Any

import msgspec
from typing_extensions import override

from boiler_beam.connectors.locks import Lock
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.state.base import Entry, Progress, State, ViewState
from boiler_beam.engine.state.records import (
    Batch,
    PathRecord,
    StoredDocument,
    StoredRow,
    decode_batch,
    encode_batch,
    snapshot,
    without_deleted,
)
from boiler_beam.errors import BoilerBeamError, InvalidDocument, UsageError
from boiler_beam.events import Change
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import DocumentVersions

__all__ = ["SCHEMA", "SqliteState"]

SCHEMA = 3
REWRITTEN_FROM_BYTES = 32 << 20
"""A smaller log is never rewritten while the engine runs."""
_REWRITTEN_TIMES = 2
"""How large the batches since the log was rewritten are, beside what was left of it then, when it is rewritten."""
_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE views (name TEXT PRIMARY KEY, known BLOB) WITHOUT ROWID;
CREATE TABLE collections (pattern TEXT PRIMARY KEY, is_dead INTEGER DEFAULT 0) WITHOUT ROWID;
CREATE TABLE log (id INTEGER PRIMARY KEY, is_snapshot INTEGER, batch BLOB);
CREATE TABLE outbox (id INTEGER PRIMARY KEY, entries BLOB);
CREATE TABLE sources (uri TEXT PRIMARY KEY, position TEXT) WITHOUT ROWID;
CREATE TABLE waiting (version INTEGER, id INTEGER PRIMARY KEY, path TEXT, fields BLOB, event_time INTEGER);
"""
_encode = msgspec.msgpack.Encoder().encode
_decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode
_decode_view = msgspec.msgpack.Decoder(ViewState).decode


class SqliteState(State):
    """Keeps everything in a file.

    Args:
        path: The file; it is made where there is none.
        fix: What to do when another program uses it.
        is_shared: Whether it is only read, while another program may use it.

    Raises:
        UsageError: Another program uses it, or it holds something else, or that of another version.
    """

    is_durable = True
    _has_read = False

    def __init__(self, path: str, fix: str = "wait until it ends", *, is_shared: bool = False) -> None:
        self.path, self.uri = path, f"sqlite:{path}"
        is_there = os.path.exists(path) and os.path.getsize(path) > 0
        if is_there and not is_shared and not os.access(path, os.W_OK):
            raise UsageError(f"--state {self.uri}: expected a file that can be written, got a read-only one")
        with ExitStack() as opened:
            if not is_shared:
                opened.callback(Lock(f"--state {self.uri}", path, fix).close)
                if not is_there:
                    opened.callback(self._leave_nothing)
            self._open(is_there, opened)
            self._opened = opened.pop_all()

    def _open(self, is_there: bool, opened: ExitStack) -> None:
        try:
            self.database = sqlite3.connect(self.path, isolation_level=None)
            opened.callback(self.database.close)
            if is_there:
                self._check()
            else:
                with self._transaction() as database:
                    for statement in _TABLES.split(";\n"):
                        database.execute(statement)
                    values = [("schema", SCHEMA), ("identity", uuid.uuid4().hex)]
                    database.executemany("INSERT INTO facts VALUES (?, ?)", values)
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = FULL")
            facts = dict(self.database.execute("SELECT name, value FROM facts"))
            found = self.database.execute("SELECT name, known FROM views")
            self.views = {name: _decode_view(known) for name, known in found}
            dead = self.database.execute("SELECT pattern FROM collections WHERE is_dead")
            self.dead_collections = {pattern for (pattern,) in dead}
            entries = self.database.execute("SELECT entries FROM outbox ORDER BY id")
            self._outbox = [entry for (data,) in entries for entry in _decode_entries(data)]
            sizes = dict(self.database.execute("SELECT is_snapshot, sum(length(batch)) FROM log GROUP BY is_snapshot"))
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise UsageError(
                f"--state {self.uri}: expected a state, got: {error}; nothing was changed; fix: name another file"
            ) from None
        self.identity = facts.pop("identity")
        facts.pop("schema")
        self.facts: dict[str, int] = facts
        self.is_new = "newest" not in facts
        self.changed_views: set[str] = set()
        self._log_bytes, self._snapshot_bytes = sizes.get(0) or 0, sizes.get(1) or 0
        self._had_entries = bool(self._outbox)
        self._written: dict[str, bytes] = {}
        """What the small tables hold of each fact and view, so that only what changed is written."""

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield self.database
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise

    def _check(self) -> None:
        with open(self.path, "rb") as file:
            head = file.read(100)
        pages, page_bytes = int.from_bytes(head[28:32], "big"), int.from_bytes(head[16:18], "big")
        log = f"{self.path}-wal"  # what a program that was killed left in it goes into the file when it is opened
        is_settled = not os.path.exists(log) or os.path.getsize(log) == 0
        if head.startswith(b"SQLite format 3\0") and is_settled and os.path.getsize(self.path) < pages * page_bytes:
            raise sqlite3.DatabaseError("a file that lacks its end")
        names = {name for (name,) in self.database.execute("SELECT name FROM sqlite_master")}
        if "facts" not in names:
            raise sqlite3.DatabaseError("a database of something else")
        found = self.database.execute("SELECT value FROM facts WHERE name = 'schema'").fetchone()
        if found != (SCHEMA,):
            raise UsageError(
                f"--state {self.uri}: expected a state of schema {SCHEMA}, got {found and found[0]}; "
                "nothing was changed; fix: run the version of boiler_beam that made it, or start with another file"
            )

    # Opening ----------------------------------------------------------------------------------------------------------

    @override
    def open(self, engine: IncrementalEngine) -> None:
        plan = engine.plan
        self._open_views(plan)
        documents, rows, paths = self._read()
        read_otherwise = {
            edge.type_index for view in plan.views if view.name in self.changed_views for edge in view.edges
        }
        for index, versions in enumerate(engine.versions.types):
            stored = documents.pop(versions.codec.pattern.text, {})
            while stored:
                _restore(versions, stored.popitem()[1], is_read_otherwise=index in read_otherwise)
        for key, view in zip(self._view_keys(plan), engine.views, strict=True):
            for row in rows.get(key, {}).values():
                row.restore(view.rows)
            for path in paths.get(key, {}).values():
                path.restore(view.rows)
            view.build(reports=view.view.name in self.changed_views)
        with self._transaction() as database:
            patterns = [(pattern,) for pattern in plan.collections]
            database.executemany("INSERT OR IGNORE INTO collections (pattern) VALUES (?)", patterns)
            unread = [(pattern,) for pattern in self.collections() - set(plan.collections)]
            database.executemany("DELETE FROM collections WHERE pattern = ?", unread)
            gone = [(name,) for (name,) in database.execute("SELECT name FROM views") if name not in self.views]
            database.executemany("DELETE FROM views WHERE name = ?", gone)

    def _open_views(self, plan: Plan) -> None:
        known, self.views = self.views, {}
        for view in plan.views:
            one = known.get(view.name)
            if one is None or one.fingerprint != view.fingerprint:
                before = one or ViewState("", incarnation=-1)
                self.changed_views.add(view.name)
                one = ViewState(
                    view.fingerprint,
                    before.generation,
                    before.epoch,
                    floor=before.floor,
                    incarnation=self._next_incarnation(view.name, before.incarnation),
                )
            self.views[view.name] = one

    def _next_incarnation(self, name: str, before: int) -> int:
        """A number that no earlier declaration of the view had: what is in the log of those counts no longer."""
        fact = f"incarnation {name}"
        self.facts[fact] = max(self.facts.get(fact, -1), before) + 1
        return self.facts[fact]

    def _view_keys(self, plan: Plan) -> list[str]:
        """Under which name each view's records are in the log."""
        return [f"{view.name}#{self.views[view.name].incarnation}" for view in plan.views]

    def _read(
        self,
    ) -> tuple[dict[str, dict[str, StoredDocument]], dict[str, dict[str, StoredRow]], dict[str, dict[str, PathRecord]]]:
        """The last record of each document, row and path, by collection or view."""
        documents: dict[str, dict[str, StoredDocument]] = {}
        rows: dict[str, dict[str, StoredRow]] = {}
        paths: dict[str, dict[str, PathRecord]] = {}
        for (data,) in self.database.execute("SELECT batch FROM log ORDER BY id"):
            batch = decode_batch(data)
            for pattern, some in batch.documents.items():
                documents.setdefault(pattern, {}).update((one.path, one) for one in some)
            for key, several in batch.rows.items():
                rows.setdefault(key, {}).update((row.row_id, row) for row in several)
            for key, more in batch.paths.items():
                paths.setdefault(key, {}).update((path.path, path) for path in more)
        return documents, rows, paths

    @override
    def collections(self) -> set[str]:
        return {pattern for (pattern,) in self.database.execute("SELECT pattern FROM collections")}

    @override
    def positions(self) -> Mapping[str, str]:
        return dict(self.database.execute("SELECT uri, position FROM sources"))

    @override
    def waiting(self) -> Iterable[Change]:
        for path, version, fields, event_time in self.database.execute(
            "SELECT path, version, fields, event_time FROM waiting ORDER BY id"
        ):
            yield Change(path, version, msgspec.Raw(fields), event_time)

    # Transactions -----------------------------------------------------------------------------------------------------

    @override
    def commit(self, progress: Progress, engine: IncrementalEngine) -> None:
        batch = Batch.of(engine, self._view_keys(engine.plan))
        data = b"" if batch.is_empty else encode_batch(batch)
        outbox = [*self._outbox, *progress.entries]
        written = self._small_tables()
        try:
            with self._transaction() as database:
                if data:
                    database.execute("INSERT INTO log (is_snapshot, batch) VALUES (0, ?)", [data])
                self._write(database, progress, outbox, written)
        except sqlite3.Error as error:
            raise BoilerBeamError(
                f"--state {self.uri}: could not be written ({error}); it stands as before; fix: free space, run again"
            ) from error
        engine.end_batch()
        self.is_new, self._outbox, self._had_entries = False, outbox, bool(outbox)
        self._written.update(written)
        self._log_bytes += len(data)
        if self._log_bytes > REWRITTEN_FROM_BYTES and self._log_bytes > _REWRITTEN_TIMES * self._snapshot_bytes:
            self._rewrite(self._of_engine(engine))

    def _small_tables(self) -> dict[str, bytes]:
        """What is to be written of facts and views, by `fact NAME` or `view NAME`: what differs from what is there."""
        found = {f"view {name}": _encode(one) for name, one in self.views.items()}
        found.update((f"fact {name}", _encode(value)) for name, value in self.facts.items())
        return {name: data for name, data in found.items() if self._written.get(name) != data}

    def _write(
        self, database: sqlite3.Connection, progress: Progress, outbox: Sequence[Entry], written: Mapping[str, bytes]
    ) -> None:
        if self._had_entries:
            database.execute("DELETE FROM outbox")
        if outbox:
            database.execute("INSERT INTO outbox (entries) VALUES (?)", [_encode(outbox)])
        database.executemany("INSERT OR REPLACE INTO sources VALUES (?, ?)", progress.positions.items())
        if progress.released is not None:
            database.execute("DELETE FROM waiting WHERE version <= ?", [progress.released])
        pushed = [(one.version, one.path, bytes(one.fields), one.event_time) for one in progress.pushed]
        database.executemany("INSERT INTO waiting (version, path, fields, event_time) VALUES (?, ?, ?, ?)", pushed)
        for place, data in written.items():
            kind, _, name = place.partition(" ")
            if kind == "view":
                database.execute("INSERT OR REPLACE INTO views VALUES (?, ?)", [name, data])
            else:
                database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, self.facts[name]])
        dead = [(pattern,) for pattern in self.dead_collections]
        database.executemany("UPDATE collections SET is_dead = 1 WHERE pattern = ? AND NOT is_dead", dead)

    @override
    def outbox(self) -> Sequence[Entry]:
        return self._outbox

    @override
    def sent(self, left: Sequence[Entry] = ()) -> None:
        self._outbox = list(left)

    # The log ----------------------------------------------------------------------------------------------------------

    def _of_engine(self, engine: IncrementalEngine) -> Iterator[Batch]:
        """All that is known, as it is in memory."""
        documents = {one.codec.pattern.text: _documents_of(one) for one in engine.versions.types}
        of_views = dict(zip(self._view_keys(engine.plan), [view.rows for view in engine.views], strict=True))
        rows = {key: map(StoredRow.of, some.records, repeat(some)) for key, some in of_views.items()}
        paths = {key: map(PathRecord.of, some.claimed, repeat(some)) for key, some in of_views.items()}
        return snapshot(documents, rows, paths)

    def _rewrite(self, batches: Iterator[Batch]) -> None:
        """Puts batches in the place of all that are there."""
        size = 0
        with self._transaction() as database:
            (last,) = database.execute("SELECT max(id) FROM log").fetchone()
            for batch in batches:
                data = encode_batch(batch)
                size += len(data)
                database.execute("INSERT INTO log (is_snapshot, batch) VALUES (1, ?)", [data])
            database.execute("DELETE FROM log WHERE id <= ?", [last or 0])
        self._log_bytes, self._snapshot_bytes = 0, size

    def compact(self, horizon: int) -> int:
        """Forgets what was deleted before a time (S3), and makes the file as small as it can be.

        Args:
            horizon: In microseconds since the epoch. Changes of unknown documents that are older are refused from now.

        Returns:
            How many documents and rows were forgotten.
        """
        documents, rows, paths = self._read()
        everything: list[dict[str, dict[str, Any]]] = [documents, rows, paths]
        number = 0
        for records in [records for kind in everything for records in kind.values()]:
            for key, record in list(records.items()):
                left = without_deleted(record, horizon)
                number += left is not record
                if left is None:
                    del records[key]
                else:
                    records[key] = left
        self._rewrite(snapshot(*({key: some.values() for key, some in kind.items()} for kind in everything)))
        self.facts["horizon"] = max(horizon, self.facts.get("horizon", 0))
        self.database.execute("INSERT OR REPLACE INTO facts VALUES ('horizon', ?)", [self.facts["horizon"]])
        self.database.execute("VACUUM")
        return number

    def numbers(self) -> dict[str, int]:
        """How many batches the log has, how many entries wait in the outbox and changes for their commits; bytes."""
        found = {"outbox": len(self._outbox)}
        for table in ("log", "waiting"):
            (found[table],) = self.database.execute(f"SELECT count(*) FROM {table}").fetchone()
        found["bytes"] = os.path.getsize(self.path)
        return found

    def problems(self) -> Iterator[str]:
        """What is wrong with the file: one line for each problem."""
        for (line,) in self.database.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield line
        kinds: tuple[tuple[str, str, Callable[[bytes], Any]], ...] = (
            ("log", "batch", decode_batch),
            ("outbox", "entries", _decode_entries),
        )
        for table, column, decode in kinds:
            for number, data in self.database.execute(f"SELECT id, {column} FROM {table}"):
                try:
                    decode(data)
                except msgspec.MsgspecError as error:
                    yield f"{table}: entry {number}: {error}"

    def close(self) -> None:
        """Lets go of the file; one that this program made, and put nothing into that a source gave, goes."""
        self._has_read = bool(self.positions() or self.facts.get("newest"))
        self._opened.close()

    def _leave_nothing(self) -> None:
        if not self._has_read and os.path.exists(self.path):
            os.unlink(self.path)  # what lies beside it went when the database was closed


def _documents_of(versions: DocumentVersions) -> Iterator[StoredDocument]:
    paths = dict.fromkeys(versions.documents)
    for kept in (versions.deleted, versions.invalid, versions.refused):
        paths.update(dict.fromkeys(kept))
    return (StoredDocument.of(path, versions) for path in paths)


def _restore(versions: DocumentVersions, stored: StoredDocument, *, is_read_otherwise: bool) -> None:
    """Brings a document into memory.

    Args:
        versions: The documents of its type.
        stored: What is known of it.
        is_read_otherwise: Whether a view that reads it was changed, and so maybe its model: then the newest invalid
            version is current if the model takes it now, and is a dead letter again if not (S2).
    """
    document = None
    known = stored.known._replace(invalid=None, refused=()) if is_read_otherwise else stored.known
    if known.version >= 0 and known.fields != b"null":
        try:
            document = versions.codec.decode(stored.path, known.version, known.fields)
        except InvalidDocument:
            versions.observe(Change(stored.path, known.version, msgspec.Raw(known.fields)))
            return
    versions.restore(stored.path, known, document)
    if is_read_otherwise and stored.invalid is not None:
        version, fields = stored.invalid
        versions.observe(Change(stored.path, version, msgspec.Raw(fields)))
