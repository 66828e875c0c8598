"""Commit numbers of rows in SQLite: which rows changed since when, so that readers can go on from where they were.

A row's stamp orders the writes of that row alone: another row that is written later may carry an older version. So each
transaction that changes rows takes the next number, and `_boiler_log` says which rows it changed:

| table | |
| --- | --- |
| `_boiler_served` | one line: `incarnation`, the last `number`, `oldest` (what changed since then is known), `alive` |
| `_boiler_log` | `view`, `number`, `path`, and `was`: null where the row was not there before, else who might see it |
| `_boiler_commits` | `number`, `at` (microseconds since the epoch) and `entries`: for forgetting what is old |

    number 7: rows a, b   number 8: row a      ->   since 6: a (8), b (7); since 7: a (8)

The incarnation is a random name of this sequence of numbers: numbers of another one say nothing here.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from boiler_beam.events import View

__all__ = ["CommitLog", "Retention"]

_TABLES = (
    "CREATE TABLE IF NOT EXISTS _boiler_served "
    "(only INTEGER PRIMARY KEY CHECK (only = 0), incarnation TEXT, number INTEGER, oldest INTEGER, alive INTEGER)",
    "CREATE TABLE IF NOT EXISTS _boiler_log "
    "(view TEXT, number INTEGER, path TEXT, was TEXT, PRIMARY KEY (view, number, path)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS _boiler_commits (number INTEGER PRIMARY KEY, at INTEGER, entries INTEGER)",
)
_TRIM_EVERY = 64
"""Commits between two looks for what is older than the retention."""


@dataclass(frozen=True)
class Retention:
    """How long it is known which rows changed; a reader that was away for longer reads all rows again.

    Attributes:
        seconds: After so many a commit is forgotten.
        entries: More changed rows than that are not remembered.
    """

    seconds: float = 86_400.0
    entries: int = 1_000_000


class CommitLog:
    """Numbers the transactions of one writer, and logs what they change. Its calls belong to the writer's transaction.

    Args:
        database: The writer's connection, within the transaction that prepares its tables.
        retention: How much is kept.
        now: Microseconds since the epoch.
    """

    def __init__(self, database: sqlite3.Connection, retention: Retention, now: Callable[[], int]) -> None:
        self._database, self._retention, self._now = database, retention, now
        for statement in _TABLES:
            database.execute(statement)
        database.execute("INSERT OR IGNORE INTO _boiler_served VALUES (0, ?, 0, 0, NULL)", (uuid.uuid4().hex[:12],))
        self._entries, self._is_forgetting, self._number = 0, False, 0

    def begin(self, number: int | None = None) -> None:
        """A transaction begins; `number` is its number where another clock gives it (it must be greater)."""
        (last,) = self._database.execute("SELECT number FROM _boiler_served").fetchone()
        self._number = last + 1 if number is None else max(number, last + 1)
        self._entries, self._is_forgetting = 0, False

    def was(self, view: View, path: str) -> str | None:
        """What is logged of the row that stands at a path, before it is changed: who may see it."""
        if "_viewers" not in view.properties:
            found = self._database.execute(f'SELECT 1 FROM "{view.name}" WHERE path = ?', (path,)).fetchone()
            return None if found is None else ""
        query = f"""SELECT coalesce(json_extract(fields, '$._viewers'), '') FROM "{view.name}" WHERE path = ?"""
        found = self._database.execute(query, (path,)).fetchone()
        return None if found is None else str(found[0])

    def add(self, view: View, path: str, was: str | None) -> None:
        """A row was written or deleted in this transaction."""
        self._entries += 1
        if self._is_forgetting or self._entries > self._retention.entries:
            self._is_forgetting = True
            return
        self._database.execute(
            "INSERT OR IGNORE INTO _boiler_log VALUES (?, ?, ?, ?)", (view.name, self._number, path, was)
        )

    def forget(self) -> None:
        """The rows that this transaction changes are too many to be logged: readers read all again."""
        self._entries += 1
        self._is_forgetting = True

    def end(self) -> None:
        """The transaction is about to be committed."""
        if not self._entries:
            return
        self._database.execute("UPDATE _boiler_served SET number = ?", (self._number,))
        if self._is_forgetting:
            self._drop(self._number)
            return
        commit = (self._number, self._now(), self._entries)
        self._database.execute("INSERT INTO _boiler_commits VALUES (?, ?, ?)", commit)
        if self._number % _TRIM_EVERY == 0 or self._entries >= self._retention.entries // _TRIM_EVERY:
            self._trim()

    def renew(self, name: str = "") -> None:
        """Begins another incarnation: for a database that was put back to an older state.

        Args:
            name: Its name; empty: a random one.
        """
        self._database.execute("UPDATE _boiler_served SET incarnation = ?", (name or uuid.uuid4().hex[:12],))

    def alive(self, at: int | None) -> None:
        """The writer lives, as of a time in microseconds; None: it ended, and all that it knew is written."""
        self._database.execute("UPDATE _boiler_served SET alive = ?", (at,))

    def _trim(self) -> None:
        known, newest, cut = 0, self._now() - round(self._retention.seconds * 1e6), 0
        query = "SELECT number, at, entries FROM _boiler_commits ORDER BY number DESC"
        for number, at, entries in self._database.execute(query):
            known += entries
            if known > self._retention.entries or at < newest:
                cut = number
                break
        if cut:
            self._drop(cut)

    def _drop(self, number: int) -> None:
        """Forgets the commits up to a number."""
        views = [view for (view,) in self._database.execute("SELECT DISTINCT view FROM _boiler_log")]
        for view in views:
            self._database.execute("DELETE FROM _boiler_log WHERE view = ? AND number <= ?", (view, number))
        self._database.execute("DELETE FROM _boiler_commits WHERE number <= ?", (number,))
        self._database.execute("UPDATE _boiler_served SET oldest = max(oldest, ?)", (number,))
