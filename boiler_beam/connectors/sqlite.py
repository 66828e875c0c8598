"""The `sqlite:` sink: one table per view, with the name of its class, and a table `_boiler_control` of control data.

| column | |
| --- | --- |
| `path` | primary key, the row path |
| `generation`, `version`, `seq` | the stamp |
| `fields` | JSON |

SQLite ignores the case of table names, so a view whose name differs only by case from a table's is refused. A backfill
is one transaction; readers see the old rows until it is committed (write-ahead log).

Each transaction that changes rows has a number, and the log says which rows it changed: see `CommitLog`. Properties
named by `indexed=` have an index each.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import ClassVar

from boiler_beam.connectors.base import BackfillWriter, Control, Sink, StreamWriter, taken_by_case
from boiler_beam.connectors.commit_log import CommitLog, Retention
from boiler_beam.connectors.locks import Lock
from boiler_beam.connectors.row_copy import RowCopy
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import EncodedRow, Stamp, Touch, View

__all__ = ["SqliteSink", "indexed_value", "quote_name"]

_CONTROL = (
    "CREATE TABLE IF NOT EXISTS _boiler_control (view TEXT PRIMARY KEY, generation INTEGER, fingerprint TEXT, "
    "holder TEXT DEFAULT '', backfilled INTEGER DEFAULT 0)"
)
_COLUMNS = "path TEXT PRIMARY KEY, generation INTEGER, version INTEGER, seq INTEGER, fields TEXT"
_NAMES = ["path", "generation", "version", "seq", "fields"]
_ALIVE_MICROS = 5_000_000
"""How often a stream's writer says that it lives."""
_WAIT_SECONDS = 10.0
"""How long a writer waits for readers, which hold the file for a moment when they come or go. Another writer of rows is
found at once, by the lock file."""


class SqliteSink(Sink):
    """Stores rows in a database file.

    Attributes:
        retention: How long it is known which rows changed.
        written: Called after each transaction that a stream committed: for readers in the same process.
        now: Microseconds since the epoch.
    """

    scheme: ClassVar[str] = "sqlite"
    has_path: ClassVar[bool] = True

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.retention = Retention()
        self.written: Callable[[], None] = _nobody
        self.now: Callable[[], int] = _now
        if not rest:
            raise UsageError(f"{self.uri}: expected a path behind the scheme, got none; fix: write sqlite:PATH")

    def controls(self) -> dict[str, Control]:
        """Reads the control data of all views from the table `_boiler_control`."""
        with self._read() as database:
            if not _columns(database, "_boiler_control"):
                return {}
            has_holder = "holder" in _columns(database, "_boiler_control")  # older files lack it
            more = "holder, backfilled" if has_holder else "'', 0"
            found = database.execute(f"SELECT view, generation, fingerprint, {more} FROM _boiler_control")
            return {
                view: Control(generation=generation, fingerprint=text, holder=holder, backfilled=backfilled)
                for view, generation, text, holder, backfilled in found
            }

    def current_rows(self, view: View) -> Iterator[EncodedRow]:
        """Yields the rows in a view's table."""
        with self._read() as database:
            if self._has_table(database, view):
                query = f'SELECT path, generation, version, seq, fields FROM "{view.name}"'
                for path, generation, version, seq, fields in database.execute(query):
                    yield EncodedRow(path, Stamp(generation, version, seq), fields.encode())

    @contextmanager
    def backfill(self, views: Sequence[View]) -> Iterator[BackfillWriter]:
        """Opens a backfill in one transaction, which ends at `commit`."""
        with self._write(views) as (database, log):
            try:
                yield _Writer(database, log)
            except sqlite3.Error as error:
                raise self._failed(error) from error
            if database.in_transaction:
                database.rollback()

    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        """Opens the file for a stream; each `write` is one transaction."""
        with self._write(views) as (database, log):
            database.execute("COMMIT")
            writer = _Follower(self, database, log)
            writer.alive()
            yield writer
            writer.ended()

    @contextmanager
    def copying(self, view: View, incarnation: str) -> Iterator[RowCopy]:
        """Opens the file for a copy of the rows that another sink holds.

        Args:
            view: The view.
            incarnation: The name of the sequence of commit numbers.

        Raises:
            UsageError: It can't be written, or another program writes it.
            BoilerBeamError: Writing failed.
        """
        with self._write([view]) as (database, log):
            try:
                log.renew(incarnation)
                database.execute("COMMIT")
                yield RowCopy(database, log, view)
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def renew(self) -> None:
        """Begins another incarnation of commit numbers: call it when the file was replaced by an older copy.

        Raises:
            UsageError: It can't be written, or another program writes it.
        """
        with self._write([]) as (database, log):
            log.renew()
            database.execute("COMMIT")

    @contextmanager
    def _write(self, views: Sequence[View]) -> Iterator[tuple[sqlite3.Connection, CommitLog]]:
        """Opens a connection and a transaction, and creates the tables of the views."""
        with ExitStack() as stack:
            try:
                stack.enter_context(closing(Lock(self.uri, self.rest)))
                database = sqlite3.connect(self.rest, isolation_level=None, timeout=_WAIT_SECONDS)
                stack.enter_context(closing(database))
                log = self._prepare(database, views)
            except sqlite3.Error as error:
                raise self._failed(error) from error
            yield database, log

    def _prepare(self, database: sqlite3.Connection, views: Sequence[View]) -> CommitLog:
        """Begins a transaction, and creates missing tables and columns."""
        if _columns(database, "facts") and _columns(database, "waiting"):
            raise UsageError(f"{self.uri}: expected a file of rows, got the state of a stream; fix: name another file")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("BEGIN IMMEDIATE")
        database.execute(_CONTROL)
        if "holder" not in _columns(database, "_boiler_control"):
            database.execute("ALTER TABLE _boiler_control ADD holder TEXT DEFAULT ''")
            database.execute("ALTER TABLE _boiler_control ADD backfilled INTEGER DEFAULT 0")
        for view in views:
            if not self._has_table(database, view):
                database.execute(f'CREATE TABLE "{view.name}" ({_COLUMNS}) WITHOUT ROWID')
            _put_indexes(database, view)
        return CommitLog(database, self.retention, self.now)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """Opens the file for reading without creating it; an empty database if there is no file."""
        address = f"file:{_quoted(self.rest)}?mode=rw" if os.path.exists(self.rest) else ":memory:"
        try:
            with closing(sqlite3.connect(address, uri=True)) as database:
                yield database
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _has_table(self, database: sqlite3.Connection, view: View) -> bool:
        query = "SELECT name FROM sqlite_master WHERE name = ? COLLATE NOCASE AND name != ?"
        if found := database.execute(query, (view.name, view.name)).fetchone():
            raise taken_by_case(self.uri, f"the table {view.name}", found[0])
        names = _columns(database, view.name)
        if names and names != _NAMES:
            raise UsageError(
                f"{self.uri}: expected the table {view.name} to have the columns {', '.join(_NAMES)}, "
                f"got {', '.join(names)}; fix: name another file"
            )
        return bool(names)

    def _failed(self, error: sqlite3.Error) -> BoilerBeamError:
        text = str(error)
        if "locked" in text:
            return UsageError(
                f"{self.uri}: expected to be its only writer, got: {text}; fix: wait until the other one ends"
            )
        if "full" in text or "I/O" in text:
            return BoilerBeamError(
                f"{self.uri}: could not be written ({text}); its rows are unchanged; fix: free space"
            )
        return UsageError(f"{self.uri}: expected a SQLite database that can be written, got: {text}; fix: name another")


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def quote_name(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def indexed_value(name: str) -> str:
    """Returns the SQL expression by which rows are found and ordered: the value of a field without its type."""
    field = "$." + json.dumps(name)
    plain = field.replace("'", "''")
    typed = [f"json_extract(fields, '{plain}.{kind}')" for kind in ("timestampValue", "referenceValue", "doubleValue")]
    typed[0] = f"rtrim({typed[0]}, 'Z')"  # 10:00:00 is before 10:00:00.5
    return f"coalesce({', '.join(typed)}, json_extract(fields, '{plain}'))"


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [name for _, name, *_ in database.execute(f'PRAGMA table_info("{table}")')]


def _nobody() -> None:
    """What is called where nobody reads in the same process."""


def _now() -> int:
    return time.time_ns() // 1000


def _put_indexes(database: sqlite3.Connection, view: View) -> None:
    """Creates the indexes of a view's `indexed=` properties, and drops those of others."""
    prefix = f"_boiler_index {view.name} "
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ?"
    there = dict(database.execute(query, (view.name,)))
    table, wanted = quote_name(view.name), {}
    for name in view.indexed:
        index = quote_name(prefix + name)
        wanted[prefix + name] = f"CREATE INDEX {index} ON {table} ({indexed_value(name)}, path)"
    for name, statement in there.items():
        if name.startswith(prefix) and wanted.get(name) != statement:
            database.execute(f"DROP INDEX {quote_name(name)}")
    for name, statement in wanted.items():
        if there.get(name) != statement:
            database.execute(statement)


class _Writer(BackfillWriter):
    def __init__(self, database: sqlite3.Connection, log: CommitLog) -> None:
        self.database, self.log = database, log
        self._was_empty: dict[str, bool] = {}
        log.begin()

    def write(self, view: View, row: EncodedRow) -> None:
        assert row.fields is not None
        self._log(view, row.path)
        self.database.execute(
            f'INSERT OR REPLACE INTO "{view.name}" VALUES (?, ?, ?, ?, ?)', (row.path, *row.stamp, row.fields.decode())
        )

    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        self._log(view, path)
        self.database.execute(f'DELETE FROM "{view.name}" WHERE path = ?', (path,))

    def _log(self, view: View, path: str) -> None:
        """A view that had no rows has no history: who reads it reads all rows."""
        if view.name not in self._was_empty:
            found = self.database.execute(f'SELECT 1 FROM "{view.name}" LIMIT 1').fetchone()
            self._was_empty[view.name] = found is None
        if self._was_empty[view.name]:
            self.log.forget()
        else:
            self.log.add(view, path, self.log.was(view, path))

    def commit(self, controls: Mapping[str, Control]) -> None:
        _put_controls(self.database, controls)
        self.log.end()
        self.database.execute("COMMIT")


def _put_controls(database: sqlite3.Connection, controls: Mapping[str, Control]) -> None:
    values = [(name, one.generation, one.fingerprint, one.holder, one.backfilled) for name, one in controls.items()]
    names = "view, generation, fingerprint, holder, backfilled"
    database.executemany(f"INSERT OR REPLACE INTO _boiler_control ({names}) VALUES (?, ?, ?, ?, ?)", values)


class _Follower(StreamWriter):
    def __init__(self, sink: SqliteSink, database: sqlite3.Connection, log: CommitLog) -> None:
        self.sink, self.database, self.log = sink, database, log
        self._alive = 0

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self.database.execute("BEGIN IMMEDIATE")
            yield self.database
            self.database.execute("COMMIT")
        except sqlite3.Error as error:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise self.sink._failed(error) from error

    def write(self, rows: Sequence[tuple[View, EncodedRow]], *, number: int | None = None) -> None:
        """Writes rows; `number` is the commit number, where it is not the next one."""
        with self._transaction() as database:
            self.log.begin(number)
            for view, row in rows:
                was = self.log.was(view, row.path)
                if self._put(database, view, row):
                    self.log.add(view, row.path, was)
            self.log.end()
            self._say_alive()
        self.sink.written()

    def _put(self, database: sqlite3.Connection, view: View, row: EncodedRow) -> bool:
        """Whether the row was written: none that stands is newer."""
        older = "(generation, version, seq) <= (?, ?, ?)"
        if row.fields is None:
            delete = f'DELETE FROM "{view.name}" WHERE path = ? AND {older}'
            return database.execute(delete, (row.path, *row.stamp)).rowcount > 0
        upsert = (
            f'INSERT INTO "{view.name}" VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET '
            "generation = excluded.generation, version = excluded.version, seq = excluded.seq, "
            f"fields = excluded.fields WHERE {older}"
        )
        values = (row.path, *row.stamp, row.fields.decode(), *row.stamp)
        return database.execute(upsert, values).rowcount > 0

    def _say_alive(self) -> None:
        now = self.sink.now()
        if now - self._alive >= _ALIVE_MICROS:
            self.log.alive(now)
            self._alive = now

    def alive(self) -> None:
        """Says that the writer lives, now and then."""
        if self.sink.now() - self._alive >= _ALIVE_MICROS:
            with self._transaction():
                self._say_alive()

    def ended(self) -> None:
        """Says that the stream ended, and its rows are whole."""
        with self._transaction():
            self.log.alive(None)

    def touches(self) -> Sequence[Touch]:
        """None; a stream asks every few seconds, which shows that it lives."""
        self.alive()
        return ()

    def control(self, controls: Mapping[str, Control]) -> None:
        with self._transaction() as database:
            _put_controls(database, controls)
