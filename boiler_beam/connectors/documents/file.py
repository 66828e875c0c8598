"""The file of a document store.

`documents` has one record for each document that ever existed, with its newest version:

| column | |
| --- | --- |
| `path` | primary key |
| `collection_id` | the last collection name in the path, by which queries find documents |
| `version` | microseconds since the epoch; all documents of a commit have the same, later commits have a greater one |
| `number` | counts writes: those after a number are the changes since then |
| `fields` | JSON; NULL for a deleted document |

So the table is also the log of changes, compacted to the newest version of each document. `facts` holds the
`incarnation`, a random name of the file, by which a replaced file is noticed, and the last `number` and `version`.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

from boiler_beam.errors import BoilerBeamError, UsageError

__all__ = ["DocumentsFile"]

_APPLICATION = 0x62625F64
"""The application id of the SQLite file: `bb_d`."""
_WAIT_SECONDS = 30.0
"""How long a commit waits for the commits of others."""
_CREATE = """
BEGIN IMMEDIATE;
CREATE TABLE documents (path TEXT PRIMARY KEY, collection_id TEXT, version INTEGER, number INTEGER, fields TEXT)
    WITHOUT ROWID;
CREATE INDEX by_number ON documents (number);
CREATE INDEX by_collection ON documents (collection_id, path);
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
PRAGMA application_id={application};
COMMIT;
"""


class DocumentsFile:
    """Opens the file of a document store.

    Args:
        path: The path of the file.
        uri: The URI, for messages.
    """

    def __init__(self, path: str, uri: str) -> None:
        self.path, self.uri = path, uri
        if not path:
            raise UsageError(f"{uri}: expected a path behind the scheme, got none; fix: write documents:PATH")

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return os.path.exists(self.path)

    def connect(self) -> sqlite3.Connection:
        """Opens a connection; a missing file is created. Each thread needs a connection of its own.

        Raises:
            UsageError: It is not such a file, or can't be created.
        """
        try:
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            database = sqlite3.connect(self.path, isolation_level=None, timeout=_WAIT_SECONDS, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(
                f"{self.uri}: expected a file that can be opened, got: {error}; fix: name another"
            ) from None
        try:
            if self._application(database) != _APPLICATION:
                self._create(database)
        except (UsageError, sqlite3.Error) as error:
            database.close()
            if isinstance(error, UsageError):
                raise
            raise self._not_ours(str(error)) from None
        return database

    def _application(self, database: sqlite3.Connection) -> int:
        return int(database.execute("PRAGMA application_id").fetchone()[0])

    def _not_ours(self, got: str) -> UsageError:
        return UsageError(f"{self.uri}: expected a file of documents, got {got}; fix: name another")

    def _create(self, database: sqlite3.Connection) -> None:
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise self._not_ours("another SQLite database")
        database.execute("PRAGMA journal_mode=WAL")
        try:
            database.executescript(_CREATE.format(application=_APPLICATION))
        except sqlite3.OperationalError as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if self._application(database) != _APPLICATION:  # another program created it at the same time
                raise self._not_ours(str(error)) from None
        facts = [("incarnation", uuid.uuid4().hex), ("number", 0), ("version", 0)]
        database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Opens a connection on which everything is read as of one time."""
        with closing(self.connect()) as database, self.explained():
            database.execute("BEGIN")
            yield database

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Converts errors of SQLite.

        Raises:
            BoilerBeamError: The file can't be read or written.
        """
        try:
            yield
        except sqlite3.Error as error:
            message = f"{self.uri}: could not be read or written ({error}); nothing is lost; fix: free space, run again"
            raise BoilerBeamError(message) from error


def fact(database: sqlite3.Connection, name: str) -> int:
    """Returns the last `number` or `version`."""
    return int(database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])


def incarnation(database: sqlite3.Connection) -> str:
    """Returns the random name of the file."""
    return str(database.execute("SELECT value FROM facts WHERE name = 'incarnation'").fetchone()[0])
