"""The relay: follows a source (a database that it listens to) and publishes the changes to a topic.

    read a batch -> publish it -> store its versions and position, in one transaction -> read the next batch

It stores the version of each published document. So it does not publish a version again that the source repeats after a
restart, and it finds the documents that were deleted while it was down. Two relays for one topic do no harm, because
messages may repeat.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import msgspec

from boiler_beam.connectors.base import Source
from boiler_beam.connectors.locks import Lock
from boiler_beam.connectors.pubsub.envelope import Message, message_of
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, Complete, Event
from boiler_beam.models.collection import CollectionPattern

__all__ = ["RelayReport", "RelayState", "relay"]

_MOST = 1000
"""The number of deletions that are published in one batch."""
_APPLICATION = 0x62625F72
"""The application id of the SQLite file, which identifies it as a relay's state: `bb_r`."""
_CREATE = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE documents (path TEXT PRIMARY KEY, version INTEGER) WITHOUT ROWID;
"""


@dataclass
class RelayReport:
    """Counts of a relay's run.

    Attributes:
        published: The number of published messages.
        deletions: How many of them are deletions.
        unchanged: The number of versions that had been published before.
    """

    published: int = 0
    deletions: int = 0
    unchanged: int = 0


class RelayState:
    """The state of a relay between runs, an SQLite file.

    Args:
        path: The file; it is created if it does not exist.
        source: The source's URI.
        topic: The topic's name.

    Raises:
        UsageError: The file is not a relay's state, belongs to another source or topic, or another relay uses it.
    """

    def __init__(self, path: str, source: str, topic: str) -> None:
        self.uri = f"sqlite:{path}"
        with ExitStack() as stack:
            stack.enter_context(closing(Lock(self.uri, path)))
            try:
                is_new = not os.path.exists(path) or os.path.getsize(path) == 0
                self._database = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
                self._begin(source, topic, is_new=is_new)
            except sqlite3.Error as error:
                raise UsageError(
                    f"{self.uri}: expected the state of a relay, got: {error}; fix: name another file"
                ) from None
            self._opened = stack.pop_all()

    def _begin(self, source: str, topic: str, *, is_new: bool) -> None:
        database = self._database
        if is_new:
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(f"BEGIN; {_CREATE} PRAGMA application_id={_APPLICATION}; COMMIT;")
        if database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise UsageError(f"{self.uri}: expected the state of a relay, got something else; fix: name another file")
        for name, value in (("source", source), ("topic", topic)):
            known = self.fact(name)
            if known is None:
                self.remember(name, value)
            elif known != value:
                raise UsageError(
                    f"{self.uri}: expected the state of a relay with {name} {value}, got one with {known}; "
                    "fix: name another file"
                )

    def fact(self, name: str) -> str | None:
        """Returns a stored value by its name."""
        found = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def remember(self, name: str, value: str) -> None:
        """Stores a value under a name."""
        self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def version(self, path: str) -> int:
        """Returns the last published version of a document; -1 if it is unknown or was deleted."""
        found = self._database.execute("SELECT version FROM documents WHERE path = ?", (path,)).fetchone()
        return -1 if found is None else int(found[0])

    def put(self, change: Change) -> None:
        """Stores the published version of a document; a deletion removes the document."""
        if change.is_deleted:
            self._database.execute("DELETE FROM documents WHERE path = ?", (change.path,))
        else:
            self._database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (change.path, change.version))

    def missing(self, complete: Complete) -> list[str]:
        """Yields the known documents of a collection that a complete read of it did not contain."""
        pattern, read_time = CollectionPattern(complete.pattern), complete.read_time
        known = self._database.execute("SELECT path FROM documents WHERE version <= ?", (read_time,))
        return [path for (path,) in known if path not in complete.paths and pattern.match(path) is not None]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Opens a transaction: all changes within it are stored together at its end, or not at all."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                message = f"{self.uri}: could not be written ({error}); nothing is lost; fix: free space, run again"
                raise BoilerBeamError(message) from error
            raise

    def close(self) -> None:
        """Closes the file and releases its lock."""
        self._opened.close()


def relay(
    source: Source,
    collections: Sequence[str],
    publish: Callable[[Sequence[Message]], object],
    state: RelayState,
    *,
    database: str = "",
    should_stop: Callable[[], bool] = lambda: False,
    now: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> RelayReport:
    """Publishes the changes of a source until it ends.

    Args:
        source: The source; one that listens to a database does not end.
        collections: The collections to read, as models declare them; none means all collections of the source.
        publish: Publishes messages, and returns when they are durable.
        state: The state between runs.
        database: The database's resource name, `projects/p/databases/(default)`.
        should_stop: Called after each batch of events; true ends the relay.
        now: Returns the time in microseconds since the epoch, for inputs that can't be decoded and have no time.

    Raises:
        UsageError: The source can't be read.
        BoilerBeamError: Messages can't be published; the next run resumes after the last published batch.
    """
    source.prepare(collections)
    report = RelayReport()
    for events, position in source.follow(state.fact("position")):
        for some in _in_parts(events, state):
            with state.transaction():
                _publish(some, publish, state, report, database, now())
        if position != state.fact("position"):
            with state.transaction():
                state.remember("position", position)
        source.acknowledge(position)
        if should_stop():
            break
    return report


def _in_parts(events: Sequence[Event], state: RelayState) -> Iterator[Sequence[Event]]:
    """Yields the events; each `Complete` is replaced by the deletions that follow from it."""
    yield [event for event in events if not isinstance(event, Complete)]
    for event in events:
        if isinstance(event, Complete):
            lost = state.missing(event)
            for begin in range(0, len(lost), _MOST):
                some = lost[begin : begin + _MOST]
                yield [Change(path, event.read_time, msgspec.Raw(b"null")) for path in some]


def _publish(
    events: Sequence[Event],
    publish: Callable[[Sequence[Message]], object],
    state: RelayState,
    report: RelayReport,
    database: str,
    now_micros: int,
) -> None:
    """Publishes events, and then stores their versions in the state."""
    messages: list[Message] = []
    deletions = unchanged = 0
    for event in events:
        assert not isinstance(event, Complete)
        if isinstance(event, Change):
            if not event.is_deleted and event.version <= state.version(event.path):
                unchanged += 1
                continue
            deletions += event.is_deleted
            state.put(event)
        message = message_of(event, now_micros, database)
        if message is not None:
            messages.append(message)
    if messages:
        publish(messages)
    report.published += len(messages)
    report.deletions += deletions
    report.unchanged += unchanged
