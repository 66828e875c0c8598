"""State in an SQLite file: cells as rows of one table, read as they are needed, written in one transaction.

| table | |
| --- | --- |
| `cells` | `space` (owner, kind, edge or aggregate), `key` of the cell, `item` in it, `value` as MessagePack |
| `views`, `collections` | the owners: what is known of them |
| `outbox` | rows and dead letters that were committed and not yet sent |
| `sources` | how far each was read |
| `waiting` | changes that wait for the others of their commit |
| `facts` | schema, identity, counters |
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from boiler_beam.connectors.locks import Lock
from boiler_beam.engine.state.base import Entry, Progress, State, ViewState
from boiler_beam.engine.state.stored import (
    DOCUMENT,
    EMITTED,
    ROW,
    StoredCells,
    check_value,
    is_deleted_document,
    is_deleted_row,
    owner_range,
    space_of,
    text,
)
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change
from boiler_beam.plan import Plan

__all__ = ["SCHEMA", "SqliteState"]

SCHEMA = 1
_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE views (id INTEGER PRIMARY KEY, name TEXT UNIQUE, fingerprint TEXT, generation INTEGER, is_built INTEGER,
                    is_complete INTEGER, rows INTEGER);
CREATE TABLE collections (id INTEGER PRIMARY KEY, pattern TEXT UNIQUE, is_dead INTEGER DEFAULT 0);
CREATE TABLE cells (space INTEGER, key BLOB, item BLOB, value BLOB, PRIMARY KEY (space, key, item)) WITHOUT ROWID;
CREATE TABLE outbox (id INTEGER PRIMARY KEY, entry BLOB);
CREATE TABLE sources (uri TEXT PRIMARY KEY, position TEXT) WITHOUT ROWID;
CREATE TABLE waiting (version INTEGER, id INTEGER PRIMARY KEY, path TEXT, fields BLOB);
"""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class SqliteState(State):
    """Keeps everything in a file.

    Args:
        path: The file; it is made where there is none.

    Raises:
        UsageError: Another program uses it, or it holds something else, or that of another version.
    """

    is_durable = True

    def __init__(self, path: str) -> None:
        self.path, self.uri = path, f"sqlite:{path}"
        is_there = os.path.exists(path) and os.path.getsize(path) > 0
        if is_there and not os.access(path, os.W_OK):
            raise UsageError(f"--state {self.uri}: expected a file that can be written, got a read-only one")
        self._lock = Lock(f"--state {self.uri}", path)
        try:
            self._open(is_there)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, is_there: bool) -> None:
        try:
            self.database = sqlite3.connect(self.path, isolation_level=None)
            if is_there:
                self._check()
            else:
                self.database.execute("PRAGMA page_size = 8192")
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = FULL")
            self.database.execute("PRAGMA cache_size = -65536")
            if not is_there:
                self.database.executescript(f"BEGIN; {_TABLES} COMMIT;")
                values = [("schema", SCHEMA), ("identity", uuid.uuid4().hex)]
                self.database.executemany("INSERT INTO facts VALUES (?, ?)", values)
            facts = dict(self.database.execute("SELECT name, value FROM facts"))
        except sqlite3.Error as error:
            raise UsageError(
                f"--state {self.uri}: expected a state, got: {error}; nothing was changed; mend: name another file"
            ) from None
        self.identity = facts.pop("identity")
        facts.pop("schema")
        self.facts: dict[str, int] = facts
        self.is_new = "newest" not in facts
        found = self.database.execute("SELECT * FROM views")
        self.views = {
            name: ViewState(digest, generation, bool(is_built), bool(is_complete), rows)
            for _, name, digest, generation, is_built, is_complete, rows in found
        }
        dead = self.database.execute("SELECT pattern FROM collections WHERE is_dead")
        self.dead_collections = {pattern for (pattern,) in dead}
        self._sent_to = 0
        self._cells: StoredCells | None = None

    def _check(self) -> None:
        names = {name for (name,) in self.database.execute("SELECT name FROM sqlite_master")}
        if "facts" not in names:
            raise sqlite3.DatabaseError("a database of something else")
        (result,) = self.database.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(result)
        found = self.database.execute("SELECT value FROM facts WHERE name = 'schema'").fetchone()
        if found != (SCHEMA,):
            raise UsageError(
                f"--state {self.uri}: expected a state of schema {SCHEMA}, got {found and found[0]}; "
                "nothing was changed; mend: run the version of boiler_beam that made it, or start with another file"
            )

    def open(self, plan: Plan) -> StoredCells:
        """See `State`."""
        known = {view.name: view.fingerprint for view in plan.views}
        for name, one in list(self.views.items()):
            if known.get(name) != one.fingerprint or not one.is_built:
                (owner,) = self.database.execute("SELECT id FROM views WHERE name = ?", [name]).fetchone()
                self.database.execute("DELETE FROM cells WHERE space BETWEEN ? AND ?", owner_range(owner))
                self.views[name] = ViewState(known.get(name, ""), one.generation, is_built=self.is_new)
            if name not in known:
                self.database.execute("DELETE FROM views WHERE name = ?", [name])
                del self.views[name]
        for view in plan.views:
            if view.name not in self.views:
                insert = "INSERT INTO views VALUES (NULL, ?, ?, 0, 0, 0, 0)"
                self.database.execute(insert, [view.name, view.fingerprint])
                self.views[view.name] = ViewState(view.fingerprint, is_built=self.is_new)
        for family in plan.families:
            self.database.execute("INSERT OR IGNORE INTO collections (pattern) VALUES (?)", [family.pattern.text])
        owners = dict(self.database.execute("SELECT name, id FROM views"))
        collections = dict(self.database.execute("SELECT pattern, id FROM collections"))
        self._cells = StoredCells(
            self.database,
            plan,
            [owners[view.name] for view in plan.views],
            [collections[family.pattern.text] for family in plan.families],
        )
        return self._cells

    def collections(self) -> set[str]:
        """See `State`."""
        return {pattern for (pattern,) in self.database.execute("SELECT pattern FROM collections")}

    def documents(self, collection: str) -> Iterator[str]:
        """See `State`."""
        (owner,) = self.database.execute("SELECT id FROM collections WHERE pattern = ?", [collection]).fetchone()
        return self._keys(space_of(owner, DOCUMENT))

    def rows(self, view: str) -> Iterator[str]:
        """See `State`."""
        (owner,) = self.database.execute("SELECT id FROM views WHERE name = ?", [view]).fetchone()
        return self._keys(space_of(owner, ROW))

    def _keys(self, space: int) -> Iterator[str]:
        last = b""
        while True:  # in steps, so that no reader stands in the way of a transaction
            found = self.database.execute(
                "SELECT key FROM cells WHERE space = ? AND key > ? ORDER BY key LIMIT 1000",
                [space, last],
            ).fetchall()
            if not found:
                return
            for (key,) in found:
                yield text(key)
            last = found[-1][0]

    def positions(self) -> Mapping[str, str]:
        """See `State`."""
        return dict(self.database.execute("SELECT uri, position FROM sources"))

    def waiting(self) -> Iterable[Change]:
        """See `State`."""
        for path, version, fields in self.database.execute("SELECT path, version, fields FROM waiting ORDER BY id"):
            yield Change(path, version, msgspec.Raw(fields))

    def commit(self, progress: Progress) -> None:
        """See `State`."""
        database = self.database
        try:
            database.execute("BEGIN IMMEDIATE")
            if self._cells is not None:
                self._cells.flush()
            database.execute("DELETE FROM outbox WHERE id <= ?", [self._sent_to])
            entries = [(_encode(entry),) for entry in progress.entries]
            database.executemany("INSERT INTO outbox (entry) VALUES (?)", entries)
            database.executemany("INSERT OR REPLACE INTO sources VALUES (?, ?)", progress.positions.items())
            if progress.released is not None:
                database.execute("DELETE FROM waiting WHERE version <= ?", [progress.released])
            pushed = [(one.version, one.path, bytes(one.fields)) for one in progress.pushed]
            database.executemany("INSERT INTO waiting (version, path, fields) VALUES (?, ?, ?)", pushed)
            database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", self.facts.items())
            views = [
                (one.fingerprint, one.generation, one.is_built, one.is_complete, one.rows, name)
                for name, one in self.views.items()
            ]
            names = "fingerprint = ?, generation = ?, is_built = ?, is_complete = ?, rows = ?"
            update = f"UPDATE views SET {names} WHERE name = ?"
            database.executemany(update, views)
            dead = [(pattern,) for pattern in self.dead_collections]
            database.executemany("UPDATE collections SET is_dead = 1 WHERE pattern = ?", dead)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise BoilerBeamError(
                f"--state {self.uri}: could not be written ({error}); it stands as before; mend: free space, run again"
            ) from error
        self._sent_to = 0
        self.is_new = False
        if self._cells is not None:
            self._cells.settle()

    def outbox(self) -> Sequence[Entry]:
        """See `State`."""
        found = self.database.execute("SELECT id, entry FROM outbox WHERE id > ? ORDER BY id", [self._sent_to])
        rows = found.fetchall()
        self._given_to = rows[-1][0] if rows else self._sent_to
        return [_decode(entry) for _, entry in rows]

    def sent(self) -> None:
        """See `State`."""
        self._sent_to = self._given_to

    def forget_rows(self, view: str) -> None:
        """See `State`."""
        (owner,) = self.database.execute("SELECT id FROM views WHERE name = ?", [view]).fetchone()
        self.database.execute("DELETE FROM cells WHERE space = ?", [space_of(owner, EMITTED)])
        assert self._cells is not None
        self._cells.forget()

    def compact(self, horizon: int) -> int:
        """Forgets what was deleted before a time (S3), and makes the file as small as it can be.

        Args:
            horizon: In microseconds since the epoch. Changes of unknown documents that are older are refused from now.

        Returns:
            How many documents and rows were forgotten.
        """
        gone = []
        for kind, is_gone in ((DOCUMENT, is_deleted_document), (EMITTED, is_deleted_row)):
            select = "SELECT space, key, item, value FROM cells WHERE (space >> 16) & 15 = ?"
            found = self.database.execute(select, [kind])
            gone += [(space, key, item) for space, key, item, value in found if is_gone(value, horizon)]
        self.database.execute("BEGIN IMMEDIATE")
        self.database.executemany("DELETE FROM cells WHERE space = ? AND key = ? AND item = ?", gone)
        self.facts["horizon"] = max(horizon, self.facts.get("horizon", 0))
        self.database.execute("INSERT OR REPLACE INTO facts VALUES ('horizon', ?)", [self.facts["horizon"]])
        self.database.execute("COMMIT")
        self.database.execute("VACUUM")
        return len(gone)

    def numbers(self) -> dict[str, int]:
        """How many entries each table has, and the size of the file in bytes."""
        found = {}
        for table in ("cells", "outbox", "waiting"):
            (found[table],) = self.database.execute(f"SELECT count(*) FROM {table}").fetchone()
        found["bytes"] = os.path.getsize(self.path)
        return found

    def problems(self) -> Iterator[str]:
        """What is wrong with the file: one line for each problem."""
        for (line,) in self.database.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield line
        kinds = "SELECT space, key, item, value FROM cells"
        for space, key, item, value in self.database.execute(kinds):
            try:
                check_value(space, value)
            except msgspec.MsgspecError as error:
                yield f"cells: space {space}, key {key!r}, item {item!r}: {error}"
        for number, entry in self.database.execute("SELECT id, entry FROM outbox"):
            try:
                _decode(entry)
            except msgspec.MsgspecError as error:
                yield f"outbox: entry {number}: {error}"

    def roll_back(self) -> bool:
        """See `State`."""
        assert self._cells is not None
        self._cells.forget()
        return True

    def close(self) -> None:
        """See `State`."""
        self.database.close()
        self._lock.close()
