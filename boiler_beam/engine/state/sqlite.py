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
from typing import Any

import msgspec
from typing_extensions import override

from boiler_beam.connectors.locks import Lock
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.rows import ViewRows
from boiler_beam.engine.state.base import OutboxEntry, State, StateUpdate, ViewState
from boiler_beam.engine.state.records import Batch, StoredRow, decode_batch, encode_batch, snapshot, without_deleted
from boiler_beam.errors import BoilerBeamError, InvalidDocument, UsageError
from boiler_beam.events import Change
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import DocumentRecord, DocumentVersions

__all__ = ["SCHEMA", "SqliteState"]

SCHEMA = 4
REWRITTEN_FROM_BYTES = 32 << 20
"""A smaller log is never rewritten while the engine runs."""
_REWRITTEN_TIMES = 2
"""The log is rewritten when its batches since the last rewriting are this many times as large as it was then."""
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
_decode_entries = msgspec.msgpack.Decoder(list[OutboxEntry]).decode
_decode_view = msgspec.msgpack.Decoder(ViewState).decode


class SqliteState(State):
    """Keeps the state in a file.

    Args:
        path: The file; it is created where there is none.
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
        """The bytes of each fact and view in the small tables, so that only what changed is written."""

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
        log = f"{self.path}-wal"  # SQLite applies what a killed program left in it when the file is opened
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
        stored = self._read()
        read_otherwise = {
            edge.type_index for view in plan.views if view.name in self.changed_views for edge in view.edges
        }
        for index, versions in enumerate(engine.versions.types):
            documents = stored.documents.pop(versions.codec.pattern.text, {})
            while documents:
                _restore(versions, *documents.popitem(), is_read_otherwise=index in read_otherwise)
        for key, view in zip(self._view_keys(plan), engine.views, strict=True):
            view.rows.records.update((row_id, row.record()) for row_id, row in stored.rows.get(key, {}).items())
            view.rows.claimed.update(stored.paths.get(key, {}))
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
        """A number that no earlier declaration of the view had: their records in the log no longer count."""
        fact = f"incarnation {name}"
        self.facts[fact] = max(self.facts.get(fact, -1), before) + 1
        return self.facts[fact]

    def _view_keys(self, plan: Plan) -> list[str]:
        """The key of each view's records in the log."""
        return [f"{view.name}#{self.views[view.name].incarnation}" for view in plan.views]

    def _read(self) -> Batch:
        """The last record of each document, row and path."""
        found = Batch()
        for (data,) in self.database.execute("SELECT batch FROM log ORDER BY id"):
            found.update(decode_batch(data))
        return found

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
    def commit(self, update: StateUpdate, engine: IncrementalEngine) -> None:
        batch = Batch.of(engine, self._view_keys(engine.plan))
        data = b"" if batch.is_empty else encode_batch(batch)
        outbox = [*self._outbox, *update.entries]
        written = self._small_tables()
        try:
            with self._transaction() as database:
                if data:
                    database.execute("INSERT INTO log (is_snapshot, batch) VALUES (0, ?)", [data])
                self._write(database, update, outbox, written)
        except sqlite3.Error as error:
            raise BoilerBeamError(
                f"--state {self.uri}: could not be written ({error}); it is unchanged; fix: free space, run again"
            ) from error
        engine.end_batch()
        self.is_new, self._outbox, self._had_entries = False, outbox, bool(outbox)
        self._written.update(written)
        self._log_bytes += len(data)
        if self._log_bytes > REWRITTEN_FROM_BYTES and self._log_bytes > _REWRITTEN_TIMES * self._snapshot_bytes:
            self._rewrite(self._of_engine(engine))

    def _small_tables(self) -> dict[str, bytes]:
        """The facts and views that changed since they were written, by `fact NAME` or `view NAME`."""
        found = {f"view {name}": _encode(one) for name, one in self.views.items()}
        found.update((f"fact {name}", _encode(value)) for name, value in self.facts.items())
        return {name: data for name, data in found.items() if self._written.get(name) != data}

    def _write(
        self,
        database: sqlite3.Connection,
        update: StateUpdate,
        outbox: Sequence[OutboxEntry],
        written: Mapping[str, bytes],
    ) -> None:
        if self._had_entries:
            database.execute("DELETE FROM outbox")
        if outbox:
            database.execute("INSERT INTO outbox (entries) VALUES (?)", [_encode(outbox)])
        database.executemany("INSERT OR REPLACE INTO sources VALUES (?, ?)", update.positions.items())
        if update.released is not None:
            database.execute("DELETE FROM waiting WHERE version <= ?", [update.released])
        pushed = [(one.version, one.path, bytes(one.fields), one.event_time) for one in update.pushed]
        database.executemany("INSERT INTO waiting (version, path, fields, event_time) VALUES (?, ?, ?, ?)", pushed)
        for label, data in written.items():
            kind, _, name = label.partition(" ")
            if kind == "view":
                database.execute("INSERT OR REPLACE INTO views VALUES (?, ?)", [name, data])
            else:
                database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, self.facts[name]])
        dead = [(pattern,) for pattern in self.dead_collections]
        database.executemany("UPDATE collections SET is_dead = 1 WHERE pattern = ? AND NOT is_dead", dead)

    @override
    def outbox(self) -> Sequence[OutboxEntry]:
        return self._outbox

    @override
    def sent(self, left: Sequence[OutboxEntry] = ()) -> None:
        self._outbox = list(left)

    # The log ----------------------------------------------------------------------------------------------------------

    def _of_engine(self, engine: IncrementalEngine) -> Iterator[Batch]:
        """All records, as they are in memory."""
        documents = {one.codec.pattern.text: _documents_of(one) for one in engine.versions.types}
        of_views = dict(zip(self._view_keys(engine.plan), [view.rows for view in engine.views], strict=True))
        rows = {key: _rows_of(some) for key, some in of_views.items()}
        return snapshot(documents, rows, {key: some.claimed.items() for key, some in of_views.items()})

    def _rewrite(self, batches: Iterator[Batch]) -> None:
        """Replaces the log."""
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
        """Forgets what was deleted before a time (S3), and shrinks the file.

        Args:
            horizon: In microseconds since the epoch. Changes of unknown documents that are older are refused from now.

        Returns:
            How many documents and rows were forgotten.
        """
        kinds, number = self._read().kinds, 0
        for records in [records for kind in kinds for records in kind.values()]:
            for key, record in list(records.items()):
                left = without_deleted(record, horizon)
                number += left is not record
                if left is None:
                    del records[key]
                else:
                    records[key] = left
        self._rewrite(snapshot(*({key: records.items() for key, records in kind.items()} for kind in kinds)))
        self.facts["horizon"] = max(horizon, self.facts.get("horizon", 0))
        self.database.execute("INSERT OR REPLACE INTO facts VALUES ('horizon', ?)", [self.facts["horizon"]])
        self.database.execute("VACUUM")
        return number

    def numbers(self) -> dict[str, int]:
        """How many batches are in the log, entries in the outbox and changes waiting; and the bytes of the file."""
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
        """Closes the file; deletes one that this program created and that no source was read into."""
        self._has_read = bool(self.positions() or self.facts.get("newest"))
        self._opened.close()

    def _leave_nothing(self) -> None:
        if not self._has_read and os.path.exists(self.path):
            os.unlink(self.path)  # closing the database deleted its log


def _rows_of(rows: ViewRows) -> Iterator[tuple[str, StoredRow]]:
    return ((row_id, StoredRow.of(record)) for row_id, record in rows.records.items())


def _documents_of(versions: DocumentVersions) -> Iterator[tuple[str, DocumentRecord]]:
    paths = dict.fromkeys(versions.documents)
    for kept in (versions.deleted, versions.invalid, versions.refused):
        paths.update(dict.fromkeys(kept))
    return ((path, versions.record(path)) for path in paths)


def _restore(versions: DocumentVersions, path: str, stored: DocumentRecord, *, is_read_otherwise: bool) -> None:
    """Brings a document into memory.

    Args:
        versions: The documents of its type.
        path: Its path.
        stored: What was kept of it.
        is_read_otherwise: Whether a view that reads it was changed, and so maybe its model: then the newest invalid
            version is current if the model takes it now, and is a dead letter again if not (S2).
    """
    document = None
    known = stored._replace(invalid=None, refused=()) if is_read_otherwise else stored
    if known.exists:
        try:
            document = versions.codec.decode(path, known.version, known.fields)
        except InvalidDocument:
            versions.observe(Change(path, known.version, msgspec.Raw(known.fields)))
            return
    versions.restore(path, known, document)
    if is_read_otherwise and stored.invalid is not None:
        version, fields = stored.invalid
        versions.observe(Change(path, version, msgspec.Raw(fields)))
