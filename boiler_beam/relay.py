"""A relay: follows a source (a database that is listened to) and publishes what it tells, as messages to a topic.

    events -> [versions, position: one transaction, after they were published] -> next events

It keeps the version of each document that it published: what a source gives again after a restart is not published
again, and what a collection lacks when it was read anew was deleted meanwhile. Two relays with the same work are
harmless: messages may come twice.
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
"""Deletions that are published at a time."""
_APPLICATION = 0x62625F72
"""Tells the file from other SQLite files: `bb_r`."""
_CREATE = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE documents (path TEXT PRIMARY KEY, version INTEGER) WITHOUT ROWID;
"""


@dataclass
class RelayReport:
    """What was done so far.

    Attributes:
        published: How many messages were published.
        deletions: How many of them say that a document was deleted.
        unchanged: How many versions came that were published before.
    """

    published: int = 0
    deletions: int = 0
    unchanged: int = 0


class RelayState:
    """What a relay remembers between runs, in SQLite.

    Args:
        path: The file; it is made where there is none.
        source: The source's URI.
        topic: The topic's name.

    Raises:
        UsageError: It is something else, of another source or topic, or another relay uses it.
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
        """Something that was remembered."""
        found = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def remember(self, name: str, value: str) -> None:
        """Remembers something."""
        self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def version(self, path: str) -> int:
        """The version of a document that was published last; -1 where it is not known, or was deleted."""
        found = self._database.execute("SELECT version FROM documents WHERE path = ?", (path,)).fetchone()
        return -1 if found is None else int(found[0])

    def put(self, change: Change) -> None:
        """A version is published."""
        if change.is_deleted:
            self._database.execute("DELETE FROM documents WHERE path = ?", (change.path,))
        else:
            self._database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (change.path, change.version))

    def missing(self, complete: Complete) -> list[str]:
        """The documents of a collection that were known before it was read, and were not in it."""
        pattern, read_time = CollectionPattern(complete.pattern), complete.read_time
        known = self._database.execute("SELECT path FROM documents WHERE version <= ?", (read_time,))
        return [path for (path,) in known if path not in complete.paths and pattern.match(path) is not None]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is done within it is remembered at its end, or not at all."""
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
        """Lets go of it."""
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
    """Publishes what a source tells, until it ends.

    Args:
        source: Any; one that is listened to has no end.
        collections: What is asked of it, as models declare collections; none: all that it has.
        publish: Takes messages, and is back when they are durable.
        state: What is remembered.
        database: The database's resource name, `projects/p/databases/(default)`.
        should_stop: Asked after each batch of events.
        now: Gives the time in microseconds since the epoch, for what can't be decoded and tells none.

    Raises:
        UsageError: The source can't be read.
        BoilerBeamError: Messages can't be published; the next run goes on from the last batch.
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
    """The events, each `Complete` as the deletions that it tells of."""
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
    """Publishes events; the state has them when that was done."""
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
