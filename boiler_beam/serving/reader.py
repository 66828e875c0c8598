"""Reads the rows of a `sqlite:` sink, and which of them changed since a commit; another process may write meanwhile.

The database is never written, and its writer is never blocked (write-ahead log). A read takes at most some hundred
rows, so that it may run between the other tasks of a server.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from boiler_beam.connectors.sqlite import indexed_value, quote_name
from boiler_beam.events import Stamp
from boiler_beam.serving.offsets import Position
from boiler_beam.serving.problems import HistoryGone

__all__ = ["Changed", "Changes", "Condition", "Mark", "Order", "RowReader", "StoredRow"]

_LAST = "\U0010ffff"
"""Behind every path."""


class StoredRow(NamedTuple):
    """A row as it is stored.

    Attributes:
        path: Its path.
        stamp: Its stamp.
        fields: JSON.
    """

    path: str
    stamp: Stamp
    fields: str


class Mark(NamedTuple):
    """How far the writer is.

    Attributes:
        incarnation: The name of the sequence of numbers; empty while nothing was ever written.
        number: The number of the last commit.
        oldest: What changed since this commit is known.
        alive: When the writer last said that it lives, in microseconds; None: it ended, and rows are whole.
    """

    incarnation: str
    number: int
    oldest: int
    alive: int | None


class Changed(NamedTuple):
    """One row that a commit changed.

    Attributes:
        path: Its path.
        number: The number of the commit.
        was: Who might see it before: JSON, empty if that is not restricted, None if it was not there.
        row: The row as it is now; None if it is deleted.
    """

    path: str
    number: int
    was: str | None
    row: StoredRow | None


class Changes(NamedTuple):
    """What changed, in the order of commits.

    Attributes:
        changed: The rows.
        position: How far was read.
        mark: How far the writer was at that time.
        is_whole: Whether nothing is left to read.
    """

    changed: Sequence[Changed]
    position: Position
    mark: Mark
    is_whole: bool


class Condition(NamedTuple):
    """A property (its stored name) has a value."""

    name: str
    value: Any


class Order(NamedTuple):
    """Rows are ordered by a property (its stored name), then by path."""

    name: str
    is_descending: bool


class RowReader:
    """Reads one database file; it may be missing, and come later.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def close(self) -> None:
        """Closes the file."""
        if self._database is not None:
            self._database.close()
        self._database = self._file = None

    def version(self) -> tuple[Any, ...]:
        """Returns a value that differs after each commit of another connection; it is cheap."""
        database = self._open()
        if database is None:
            return ()
        return (self._file, database.execute("PRAGMA data_version").fetchone()[0])

    def mark(self) -> Mark:
        """Returns how far the writer is."""
        found = self._select("SELECT incarnation, number, oldest, alive FROM _boiler_served", ())
        return Mark(*found[0]) if found else _NOTHING

    def get(self, table: str, path: str) -> StoredRow | None:
        """Returns a row of a view (by its name), or None."""
        query = f"SELECT path, generation, version, seq, fields FROM {quote_name(table)} WHERE path = ?"
        return next(iter(self._rows(query, (path,))), None)

    def snapshot(self, table: str, after: str, limit: int) -> list[StoredRow]:
        """Returns rows in the order of their paths, those behind `after`."""
        query = f"SELECT path, generation, version, seq, fields FROM {quote_name(table)} WHERE path > ? ORDER BY path"
        return self._rows(f"{query} LIMIT ?", (after, limit))

    def find(
        self,
        table: str,
        conditions: Sequence[Condition],
        order: Order | None,
        after: tuple[Any, str] | None,
        limit: int,
    ) -> list[tuple[StoredRow, Any]]:
        """Returns rows that fulfil all conditions, in order, each with the value that it is ordered by.

        Args:
            table: The view's name.
            conditions: All of them hold.
            order: None: by path.
            after: Value and path of the last row that is not wanted.
            limit: How many.
        """
        where, values = ["1"], list[Any]()
        for name, value in conditions:
            where.append(f"{indexed_value(name)} = ?")
            values.append(value)
        by = "NULL" if order is None else indexed_value(order.name)
        if after is not None:
            condition, more = _behind(by, order, *after)
            where.append(condition)
            values.extend(more)
        way = " DESC" if order is not None and order.is_descending else ""
        ordered = f"path{way}" if order is None else f"{by}{way}, path{way}"
        query = (
            f"SELECT path, generation, version, seq, fields, {by} FROM {quote_name(table)} "
            f"WHERE {' AND '.join(where)} ORDER BY {ordered} LIMIT ?"
        )
        return [
            (StoredRow(path, Stamp(generation, version, seq), fields), value)
            for path, generation, version, seq, fields, value in self._select(query, (*values, limit))
        ]

    def changes(self, table: str, after: Position, limit: int) -> Changes:
        """Returns what changed behind a position (of changes, not of a snapshot), in one consistent read.

        Raises:
            HistoryGone: It is no longer known.
        """
        with _transaction(self._open()):
            mark = self.mark()
            if after.number < mark.oldest or after.number > mark.number:
                raise HistoryGone
            query = (
                "SELECT l.path, l.number, l.was, r.generation, r.version, r.seq, r.fields FROM _boiler_log AS l "
                f"LEFT JOIN {quote_name(table)} AS r ON r.path = l.path "
                "WHERE l.view = ? AND (l.number, l.path) > (?, ?) ORDER BY l.number, l.path LIMIT ?"
            )
            begin = _LAST if after.path is None else after.path
            found = self._select(query, (table, after.number, begin, limit + 1))
        changed = [
            Changed(path, number, was, None if fields is None else StoredRow(path, Stamp(*stamp), fields))
            for path, number, was, *stamp, fields in found[:limit]
        ]
        if len(found) <= limit:
            return Changes(changed, Position(mark.number), mark, True)
        return Changes(changed, Position(changed[-1].number, changed[-1].path), mark, False)

    def has_row_for_anyone(self, table: str) -> bool:
        """Returns whether some row may be seen without a token. It may read all rows."""
        query = (
            f"SELECT 1 FROM {quote_name(table)} WHERE json_extract(fields, '$._viewers') LIKE '%\"anyone\"%' LIMIT 1"
        )
        return bool(self._select(query, ()))

    def _rows(self, query: str, values: Sequence[Any]) -> list[StoredRow]:
        return [
            StoredRow(path, Stamp(generation, version, seq), fields)
            for path, generation, version, seq, fields in self._select(query, values)
        ]

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        database = self._open()
        if database is None:
            return []
        try:
            return database.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # the writer has not made it yet
                return []
            raise

    def _open(self) -> sqlite3.Connection | None:
        """Returns the connection to the file that is there now; another one may have been put in its place."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self.close()
            return None
        if self._database is not None and self._file != (status.st_dev, status.st_ino):
            self.close()
        if self._database is None:
            path = os.path.abspath(self.path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
            database = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, check_same_thread=False)
            database.execute("PRAGMA query_only = 1")
            self._database, self._file = database, (status.st_dev, status.st_ino)
        return self._database


_NOTHING = Mark("", 0, 0, None)


@contextmanager
def _transaction(database: sqlite3.Connection | None) -> Iterator[None]:
    if database is None:
        yield
        return
    database.execute("BEGIN")
    try:
        yield
    finally:
        database.execute("COMMIT")


def _behind(by: str, order: Order | None, value: Any, path: str) -> tuple[str, list[Any]]:
    """Returns the condition, with its values, that a row is behind another one; nulls are before all values."""
    if order is None:
        return "path > ?", [path]
    if order.is_descending:
        if value is None:
            return f"({by} IS NULL AND path < ?)", [path]
        return f"({by} < ? OR {by} IS NULL OR ({by} = ? AND path < ?))", [value, value, path]
    if value is None:
        return f"({by} IS NOT NULL OR path > ?)", [path]
    return f"({by} > ? OR ({by} = ? AND path > ?))", [value, value, path]
