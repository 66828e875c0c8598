"""State in an SQLite file: cells as rows of one table, read as they are needed, written in one transaction.

| table | |
| --- | --- |
| `cells` | see `boiler_beam.engine.state.table` |
| `views`, `collections` | the owners of cells, and what is known of them |
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
from contextlib import ExitStack, contextmanager

import msgspec

from boiler_beam.connectors.locks import Lock
from boiler_beam.engine.state.base import Entry, Progress, Stage, State, ViewState
from boiler_beam.engine.state.stored import StoredCells, check_value, forgotten, owner_range, space_of_documents
from boiler_beam.engine.state.table import CREATE
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change
from boiler_beam.plan import Plan

__all__ = ["SCHEMA", "SqliteState"]

SCHEMA = 2
_TABLES = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE views (id INTEGER PRIMARY KEY, name TEXT UNIQUE, known BLOB);
CREATE TABLE collections (id INTEGER PRIMARY KEY, pattern TEXT UNIQUE, is_dead INTEGER DEFAULT 0);
{CREATE};
CREATE TABLE outbox (id INTEGER PRIMARY KEY, entry BLOB);
CREATE TABLE sources (uri TEXT PRIMARY KEY, position TEXT) WITHOUT ROWID;
CREATE TABLE waiting (version INTEGER, id INTEGER PRIMARY KEY, path TEXT, fields BLOB, event_time INTEGER);
"""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode
_decode_view = msgspec.msgpack.Decoder(ViewState).decode


class SqliteState(State):
    """Keeps everything in a file.

    Args:
        path: The file; it is made where there is none.
        fix: What to do when another program uses it.

    Raises:
        UsageError: Another program uses it, or it holds something else, or that of another version.
    """

    is_durable = True
    _has_read = False

    def __init__(self, path: str, fix: str = "wait until it ends") -> None:
        self.path, self.uri = path, f"sqlite:{path}"
        is_there = os.path.exists(path) and os.path.getsize(path) > 0
        if is_there and not os.access(path, os.W_OK):
            raise UsageError(f"--state {self.uri}: expected a file that can be written, got a read-only one")
        with ExitStack() as opened:
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
            self.database.execute("PRAGMA cache_size = -65536")
            facts = dict(self.database.execute("SELECT name, value FROM facts"))
            found = self.database.execute("SELECT name, known FROM views")
            self.views = {name: _decode_view(known) for name, known in found}
            dead = self.database.execute("SELECT pattern FROM collections WHERE is_dead")
            self.dead_collections = {pattern for (pattern,) in dead}
            self._outbox = [
                _decode(entry) for (entry,) in self.database.execute("SELECT entry FROM outbox ORDER BY id")
            ]
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise UsageError(
                f"--state {self.uri}: expected a state, got: {error}; nothing was changed; fix: name another file"
            ) from None
        self.identity = facts.pop("identity")
        facts.pop("schema")
        self.facts: dict[str, int] = facts
        self.is_new = "newest" not in facts
        self._cells: StoredCells | None = None

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
        if head.startswith(b"SQLite format 3\0") and os.path.getsize(self.path) < pages * page_bytes:
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

    def open(self, plan: Plan) -> StoredCells:
        """See `State`."""
        with self._transaction() as database:
            self._open_views(database, plan)
            for family in plan.families:
                database.execute("INSERT OR IGNORE INTO collections (pattern) VALUES (?)", [family.pattern.text])
        owners = dict(self.database.execute("SELECT name, id FROM views"))
        collections = dict(self.database.execute("SELECT pattern, id FROM collections"))
        self._cells = StoredCells(
            self.database,
            plan,
            [owners[view.name] for view in plan.views],
            [base - self.views[name].base for name, base in _bases(plan).items()],
            [collections[family.pattern.text] for family in plan.families],
            is_new=self.is_new,
        )
        return self._cells

    def _open_views(self, database: sqlite3.Connection, plan: Plan) -> None:
        fingerprints = {view.name: view.fingerprint for view in plan.views}
        bases = _bases(plan)
        for name, one in list(self.views.items()):
            if fingerprints.get(name) == one.fingerprint and one.stage != "rebuilding":
                continue
            (owner,) = database.execute("SELECT id FROM views WHERE name = ?", [name]).fetchone()
            database.execute("DELETE FROM cells WHERE space BETWEEN ? AND ?", owner_range(owner))
            database.execute("DELETE FROM views WHERE name = ?", [name])
            if name not in fingerprints:
                del self.views[name]
        for name, fingerprint in fingerprints.items():
            one = self.views.get(name) or ViewState(fingerprint)
            if one.fingerprint != fingerprint or one.stage == "rebuilding" or name not in self.views:
                stage: Stage = "filling" if self.is_new else "rebuilding"
                one = ViewState(fingerprint, one.generation, one.epoch, stage, one.floor, 0, bases[name])
                database.execute("INSERT INTO views (name, known) VALUES (?, ?)", [name, _encode(one)])
                self.views[name] = one

    def collections(self) -> set[str]:
        """See `State`."""
        return {pattern for (pattern,) in self.database.execute("SELECT pattern FROM collections")}

    def documents(self, collection: str) -> Iterator[str]:
        """See `State`."""
        (owner,) = self.database.execute("SELECT id FROM collections WHERE pattern = ?", [collection]).fetchone()
        assert self._cells is not None
        return self._cells.table.keys(space_of_documents(owner))

    def positions(self) -> Mapping[str, str]:
        """See `State`."""
        return dict(self.database.execute("SELECT uri, position FROM sources"))

    def waiting(self) -> Iterable[Change]:
        """See `State`."""
        for path, version, fields, event_time in self.database.execute(
            "SELECT path, version, fields, event_time FROM waiting ORDER BY id"
        ):
            yield Change(path, version, msgspec.Raw(fields), event_time)

    def commit(self, progress: Progress) -> None:
        """See `State`."""
        try:
            with self._transaction() as database:
                self._write(database, progress)
        except sqlite3.Error as error:
            raise BoilerBeamError(
                f"--state {self.uri}: could not be written ({error}); it stands as before; fix: free space, run again"
            ) from error
        self.is_new = False
        self._outbox = [*self._outbox, *progress.entries]
        if self._cells is not None:
            self._cells.settle()

    def _write(self, database: sqlite3.Connection, progress: Progress) -> None:
        if self._cells is not None:
            self._cells.flush()
        database.execute("DELETE FROM outbox")
        entries = [(_encode(entry),) for entry in (*self._outbox, *progress.entries)]
        database.executemany("INSERT INTO outbox (entry) VALUES (?)", entries)
        database.executemany("INSERT OR REPLACE INTO sources VALUES (?, ?)", progress.positions.items())
        if progress.released is not None:
            database.execute("DELETE FROM waiting WHERE version <= ?", [progress.released])
        pushed = [(one.version, one.path, bytes(one.fields), one.event_time) for one in progress.pushed]
        database.executemany("INSERT INTO waiting (version, path, fields, event_time) VALUES (?, ?, ?, ?)", pushed)
        database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", self.facts.items())
        views = [(_encode(one), name) for name, one in self.views.items()]
        database.executemany("UPDATE views SET known = ? WHERE name = ?", views)
        dead = [(pattern,) for pattern in self.dead_collections]
        database.executemany("UPDATE collections SET is_dead = 1 WHERE pattern = ?", dead)

    def outbox(self) -> Sequence[Entry]:
        """See `State`."""
        return self._outbox

    def sent(self, left: Sequence[Entry] = ()) -> None:
        """See `State`."""
        self._outbox = list(left)

    def compact(self, horizon: int) -> int:
        """Forgets what was deleted before a time (S3), and makes the file as small as it can be.

        Args:
            horizon: In microseconds since the epoch. Changes of unknown documents that are older are refused from now.

        Returns:
            How many documents and rows were forgotten.
        """
        number, last = 0, (-1, b"")
        select = (
            "SELECT space, key, item, value FROM cells WHERE (space, key) > (?, ?) AND item = x'' "
            "ORDER BY space, key LIMIT 1000"
        )
        with self._transaction() as database:
            while found := database.execute(select, last).fetchall():
                for space, key, item, data in found:
                    left = forgotten(space, data, horizon)
                    place = (space, key, item)
                    if left is None:
                        database.execute("DELETE FROM cells WHERE space = ? AND key = ? AND item = ?", place)
                    elif left != data:
                        update = "UPDATE cells SET value = ? WHERE space = ? AND key = ? AND item = ?"
                        database.execute(update, (left, *place))
                    number += left != data
                last = found[-1][:2]
            self.facts["horizon"] = max(horizon, self.facts.get("horizon", 0))
            database.execute("INSERT OR REPLACE INTO facts VALUES ('horizon', ?)", [self.facts["horizon"]])
        self.database.execute("VACUUM")
        return number

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
        """See `State`. A file that this program made, and put nothing into that a source gave, goes."""
        self._has_read = bool(self.positions() or self.facts.get("newest"))
        self._opened.close()

    def _leave_nothing(self) -> None:
        if not self._has_read and os.path.exists(self.path):
            os.unlink(self.path)  # what lies beside it went when the database was closed


def _bases(plan: Plan) -> dict[str, int]:
    """The number of each view's first edge."""
    bases, number = {}, 0
    for view in plan.views:
        bases[view.name] = number
        number += len(view.edges)
    return bases
