"""Keeps a copy of the rows of one view that another sink holds, with a commit log.

    copy.put(row)             rows as they come, in one open transaction; equal ones change nothing
    copy.delete("rooms/r1")
    copy.commit(number)       now readers see them; the log has the changed paths under this number

The sink that is copied decides which row is newer, so stamps are not compared. The number is that sink's time: numbers
grow from one copy of the same rows to the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container

from boiler_beam.connectors.commit_log import CommitLog
from boiler_beam.events import EncodedRow, View

__all__ = ["RowCopy"]


class RowCopy:
    """The open copy of one view.

    Args:
        database: A connection without an open transaction, to a file that has the view's table.
        log: The commit log in it.
        view: The view.
    """

    def __init__(self, database: sqlite3.Connection, log: CommitLog, view: View) -> None:
        self._database, self._log, self._view = database, log, view
        self._changed: dict[str, str | None] = {}  # path -> what the log has of the row before
        (number,) = database.execute("SELECT number FROM _boiler_served").fetchone()
        self._has_history = number > 0

    def put(self, row: EncodedRow) -> None:
        """Writes a row (its fields are not None)."""
        assert row.fields is not None
        values = (*row.stamp, row.fields.decode())
        query = f'SELECT generation, version, seq, fields FROM "{self._view.name}" WHERE path = ?'
        if self._database.execute(query, (row.path,)).fetchone() == values:
            return
        self._change(row.path)
        statement = f'INSERT OR REPLACE INTO "{self._view.name}" VALUES (?, ?, ?, ?, ?)'
        self._database.execute(statement, (row.path, *values))

    def delete(self, path: str) -> None:
        """Deletes the row at a path, if there is one."""
        query = f'SELECT 1 FROM "{self._view.name}" WHERE path = ?'
        if self._database.execute(query, (path,)).fetchone() is not None:
            self._change(path)
            self._database.execute(f'DELETE FROM "{self._view.name}" WHERE path = ?', (path,))

    def keep(self, paths: Container[str]) -> None:
        """Deletes the rows at all other paths."""
        there = [path for (path,) in self._database.execute(f'SELECT path FROM "{self._view.name}"')]
        for path in there:
            if path not in paths:
                self.delete(path)

    def _change(self, path: str) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")
        if path not in self._changed:
            self._changed[path] = self._log.was(self._view, path)

    def commit(self, number: int) -> bool:
        """Makes the rows visible, all of them as of one time.

        The first commit has no history: who reads the view reads all rows.

        Args:
            number: That time.

        Returns:
            Whether anything changed.
        """
        if self._has_history and not self._changed:
            return False
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")
        self._log.begin(number)
        if self._has_history:
            for path, was in self._changed.items():
                self._log.add(self._view, path, was)
        else:
            self._log.forget()
        self._log.end()
        self._database.execute("COMMIT")
        self._changed.clear()
        self._has_history = True
        return True
