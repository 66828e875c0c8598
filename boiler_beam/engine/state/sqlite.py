"""State in an SQLite file: a log of batches, one for each transaction, rewritten when most of it no longer counts.

| table | |
| --- | --- |
| `log` | batches of records of documents and rows (`boiler_beam.engine.state.records`): of each the last one counts |
| `waiting` | changes that wait for the others of their commit |
| `facts` | `schema`, `identity`, `known`: views, collections, positions and numbers, `outbox`: what was not yet sent |
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
from typing_extensions import override

from boiler_beam.connectors.locks import Lock
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.state.base import OutboxEntry, State, StateUpdate, ViewState
from boiler_beam.engine.state.records import Batch, decode_batch, encode_batch, records_of, snapshot, without_deleted
from boiler_beam.errors import BoilerBeamError, InvalidDocument, UsageError
from boiler_beam.events import Change
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import DocumentRecord, DocumentVersions

__all__ = ["SCHEMA", "SqliteState"]

SCHEMA = 6
REWRITTEN_FROM_BYTES = 32 << 20
"""A smaller log is never rewritten while the engine runs."""
_REWRITTEN_TIMES = 2
"""The log is rewritten when its batches since the last rewriting are this many times as large as it was then."""
_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value);
CREATE TABLE log (id INTEGER PRIMARY KEY, is_snapshot INTEGER, batch BLOB);
CREATE TABLE waiting (version INTEGER, id INTEGER PRIMARY KEY, path TEXT, fields BLOB, event_time INTEGER);
"""
_encode = msgspec.msgpack.Encoder().encode
_decode_entries = msgspec.msgpack.Decoder(list[OutboxEntry]).decode


class _Known(msgspec.Struct):
    """What a state knows beside documents, rows and outbox; the attributes of `State` of the same names."""

    views: dict[str, ViewState] = {}
    collections: dict[str, bool] = {}
    positions: dict[str, str] = {}
    facts: dict[str, int] = {}


_decode_known = msgspec.msgpack.Decoder(_Known).decode


class SqliteState(State):
    """Keeps the state in a file.

    Args:
        path: The file; it is created where there is none.
        fix: What to do when another program uses it.
        is_read_only: Whether it is only read; another program may use it meanwhile.

    Raises:
        UsageError: Another program uses it, or it holds something else, or that of another version.
    """

    is_durable = True

    def __init__(self, path: str, fix: str = "wait until it ends", *, is_read_only: bool = False) -> None:
        super().__init__()
        self.path, self.uri = path, f"sqlite:{path}"
        is_there = os.path.exists(path) and os.path.getsize(path) > 0
        if is_there and not is_read_only and not os.access(path, os.W_OK):
            raise UsageError(f"--state {self.uri}: expected a file that can be written, got a read-only one")
        with ExitStack() as opened:
            if not is_read_only:
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
                    first = {"schema": SCHEMA, "identity": self.identity, **self._lines(_Known(), [])}
                    database.executemany("INSERT INTO facts VALUES (?, ?)", first.items())
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = FULL")
            facts: dict[str, Any] = dict(self.database.execute("SELECT name, value FROM facts"))
            self.identity, self._outbox = facts["identity"], _decode_entries(facts["outbox"])
            known = _decode_known(facts["known"])
            self.views, self.collections = known.views, known.collections
            self.positions, self.facts = known.positions, known.facts
            sizes = dict(self.database.execute("SELECT is_snapshot, sum(length(batch)) FROM log GROUP BY is_snapshot"))
        except (sqlite3.Error, msgspec.MsgspecError, KeyError) as error:
            raise UsageError(
                f"--state {self.uri}: expected a state, got: {error}; nothing was changed; fix: name another file"
            ) from None
        self.is_new = "newest" not in self.facts
        self._log_bytes, self._snapshot_bytes = sizes.get(0) or 0, sizes.get(1) or 0

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
        super().open(engine)
        plan = engine.plan
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
    def waiting(self) -> Iterable[Change]:
        for path, version, fields, event_time in self.database.execute(
            "SELECT path, version, fields, event_time FROM waiting ORDER BY id"
        ):
            yield Change(path, version, msgspec.Raw(fields), event_time)

    # Transactions -----------------------------------------------------------------------------------------------------

    @override
    def commit(self, update: StateUpdate, engine: IncrementalEngine) -> None:
        batch = Batch.of(records_of(engine, self._view_keys(engine.plan), only_changed=True))
        data = encode_batch(batch) if any(batch.kinds) else b""
        known = _Known(self.views, self.collections, self.positions | update.positions, self.facts)
        facts = self._lines(known, [*self._outbox, *update.entries])
        try:
            with self._transaction() as database:
                if data:
                    database.execute("INSERT INTO log (is_snapshot, batch) VALUES (0, ?)", [data])
                database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
                self._write_waiting(database, update)
        except sqlite3.Error as error:
            raise BoilerBeamError(
                f"--state {self.uri}: could not be written ({error}); it is unchanged; fix: free space, run again"
            ) from error
        super().commit(update, engine)
        self._log_bytes += len(data)
        if self._log_bytes > REWRITTEN_FROM_BYTES and self._log_bytes > _REWRITTEN_TIMES * self._snapshot_bytes:
            self._rewrite(snapshot(records_of(engine, self._view_keys(engine.plan), only_changed=False)))

    @staticmethod
    def _lines(known: _Known, outbox: Sequence[OutboxEntry]) -> dict[str, bytes]:
        """The rows of the table `facts` that each transaction rewrites."""
        return {"known": _encode(known), "outbox": _encode(outbox)}

    def _write_waiting(self, database: sqlite3.Connection, update: StateUpdate) -> None:
        if update.released is not None:
            database.execute("DELETE FROM waiting WHERE version <= ?", [update.released])
        pushed = [(one.version, one.path, bytes(one.fields), one.event_time) for one in update.pushed]
        database.executemany("INSERT INTO waiting (version, path, fields, event_time) VALUES (?, ?, ?, ?)", pushed)

    # The log ----------------------------------------------------------------------------------------------------------

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
        self._rewrite(snapshot([{key: records.items() for key, records in kind.items()} for kind in kinds]))
        self.facts["horizon"] = max(horizon, self.facts.get("horizon", 0))
        known = _Known(self.views, self.collections, self.positions, self.facts)
        self.database.execute("REPLACE INTO facts VALUES ('known', ?)", [_encode(known)])
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
        for number, data in self.database.execute("SELECT id, batch FROM log"):
            try:
                decode_batch(data)
            except msgspec.MsgspecError as error:
                yield f"log: entry {number}: {error}"

    def close(self) -> None:
        """Closes the file; deletes one that this program created and that no source was read into."""
        self._opened.close()

    def _leave_nothing(self) -> None:
        has_read = self.positions or self.facts.get("newest")
        if not has_read and os.path.exists(self.path):
            os.unlink(self.path)  # closing the database deleted its log


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
