"""A set of document paths on the disk, for databases whose paths do not fit into memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

__all__ = ["Paths"]


class Paths:
    """A set of document paths in a temporary file, which is deleted with the set.

    >>> paths = Paths()
    >>> paths.add(["users/u1", "users/u2", "users/u1"])
    >>> "users/u1" in paths, "users/u3" in paths
    (True, False)
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE paths (path TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, paths: Iterable[str]) -> None:
        """Adds paths."""
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR IGNORE INTO paths VALUES (?)", ((path,) for path in paths))
        self._database.execute("COMMIT")

    def __contains__(self, path: object) -> bool:
        return self._database.execute("SELECT 1 FROM paths WHERE path = ?", (path,)).fetchone() is not None

    def __del__(self) -> None:
        self._database.close()
