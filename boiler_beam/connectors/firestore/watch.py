"""Interprets the messages of a Listen call: a state machine for each query, without I/O.

    ADD -> [documents] -> CURRENT -> NO_CHANGE (a consistent time) -> document, delete, NO_CHANGE -> ...
    RESET -> all documents again -> CURRENT -> NO_CHANGE: known documents that were not sent are deleted

It keeps the path and version of every document (about 200 bytes each), and by these finds the changes if the server
sends all documents again. A watch that resumes from a position knows no documents at first. If the server then sends
all documents, it yields `Complete` instead of deletions, and the engine compares with the documents in its state (S22).

The emulator sends all documents at each change, and sometimes omits a document that is being written at that moment. So
an omitted document is `missed`, and has to be looked up; and a watch that knows no documents needs a snapshot.

Source: https://firebase.google.com/docs/firestore/reference/rpc/google.firestore.v1#listenresponse
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from boiler_beam.connectors.firestore.protos import ListenRequest
from boiler_beam.connectors.firestore.query import Query
from boiler_beam.connectors.firestore.values import fields_of, micros_of_proto, put_micros
from boiler_beam.events import Change, Complete, Event

__all__ = ["Target", "TargetLost", "Watch", "consistent_time"]

_NO_CHANGE, _ADD, _REMOVE, _CURRENT, _RESET = range(5)
_GONE = msgspec.Raw(b"null")


class TargetLost(Exception):
    """The server ended a target.

    Attributes:
        code: gRPC's number of the cause.
        message: The server's message.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _Since(msgspec.Struct, omit_defaults=True):
    """The position from which a target resumes: a token if there is one, else a time."""

    read_time: int
    token: str = ""


def consistent_time(position: str) -> int:
    """Returns the time, in microseconds, as of which all documents are known at a position; 0 if there is none.

    >>> consistent_time('{"users":{"read_time":9},"rooms":{"read_time":7,"token":"Cg=="}}'), consistent_time("{}")
    (7, 0)
    """
    known = msgspec.json.decode(position, type=dict[str, _Since])
    return min((since.read_time for since in known.values()), default=0)


class Target:
    """The state of one query that is listened to.

    Attributes:
        query: The query.
        is_exact: Whether the server sends all documents as of one time, which the emulator does not.
        since: The position from which it resumes when it is added; None: it needs a snapshot.
        known: Path and version of the existing documents, including those of other collections of the group.
        is_whole: Whether `known` contains all of them.
        missed: The paths of known documents that the server did not send, and that may exist.
    """

    def __init__(self, query: Query, since: _Since | None, *, is_exact: bool = True) -> None:
        self.query, self.since, self.is_exact = query, since, is_exact
        self.known: dict[str, int] = {}
        self.is_whole = False
        self.missed: list[str] = []
        self.token = b""
        self.begin()

    def begin(self) -> None:
        """Starts a new Listen call."""
        self.came: dict[str, int] | None = None  # the paths that were sent since the server began to send all documents
        self.is_current = False

    def start_over(self) -> None:
        """Says that it needs a snapshot, because it may have missed a deletion."""
        self.since = None

    def observe(self, path: str, version: int) -> bool:
        """Stores the version of a document, and returns whether it is new."""
        is_new = version > self.known.get(path, -1)
        self.known[path] = version
        if self.came is not None:
            self.came[path] = version
        return is_new

    def settle(self, read_time: int, *, is_exact: bool) -> list[Event]:
        """Handles the end of a complete set of documents as of one time: other known documents are deleted."""
        if self.came is None:
            return []
        gone = [path for path in self.known if path not in self.came and self.query.holds(path)]
        events: list[Event] = []
        if self.is_whole and is_exact:
            events = [Change(path, read_time, _GONE) for path in gone]
        elif self.is_whole:
            self.missed += gone
        elif not is_exact:
            self.start_over()
            return []
        else:
            events = [Complete(pattern, read_time, self.came) for pattern in self.query.patterns]
        self.known, self.came, self.is_whole = self.came, None, True
        return events


class Watch:
    """The targets of one Listen call.

    Args:
        queries: The queries to listen to.
        position: The position from which it resumes; None: from snapshots.
        path_of: Returns a document's path from its name.
        is_exact: Whether the server sends all documents as of one time, which the emulator does not.

    Attributes:
        targets: The target of each query, by its number in the call, from 1.
        position: The position at the last consistent time.
        documents: The number of new document versions, which are billed.
    """

    def __init__(
        self,
        queries: Sequence[Query],
        position: str | None,
        path_of: Callable[[str], str],
        *,
        is_exact: bool = True,
    ) -> None:
        known = msgspec.json.decode(position, type=dict[str, _Since]) if position and position[0] == "{" else {}
        self.targets = {
            number: Target(query, known.get(query.name), is_exact=is_exact) for number, query in enumerate(queries, 1)
        }
        self.path_of = path_of
        self.documents = 0
        self.keep()

    def keep(self) -> None:
        """Sets the position to the present state."""
        since = {one.query.name: one.since for one in self.targets.values() if one.since is not None}
        self.position = msgspec.json.encode(since).decode()

    def snapshot(self, target: Target, changes: Iterable[Change]) -> Iterable[Change]:
        """Adds the documents of a target's snapshot, and yields the new ones.

        `settled` marks the end of the snapshot.
        """
        target.came = {}
        for change in changes:
            if target.observe(change.path, change.version) and target.query.holds(change.path):
                yield change

    def settled(self, target: Target, read_time: int) -> list[Event]:
        """Says that the snapshot of a target is complete."""
        events = target.settle(read_time, is_exact=True)
        target.since = _Since(read_time)
        self.keep()
        return events

    def requests(self, database: str, root: str) -> list[Any]:
        """Returns the requests of a new Listen call."""
        found = []
        for number, target in self.targets.items():
            assert target.since is not None
            target.begin()
            target.token = base64.b64decode(target.since.token)
            request = ListenRequest(database=database)
            added = request.add_target
            added.target_id, added.query.parent = number, root[:-1]
            target.query.put(added.query.structured_query)
            if target.token:
                added.resume_token = target.token
            else:
                put_micros(added.read_time, target.since.read_time)
            found.append(request)
        return found

    def take(self, answer: Any) -> list[Event]:
        """Yields the events that follow from a message.

        Raises:
            TargetLost: The server ended a target.
        """
        kind = answer.WhichOneof("response_type")
        if kind == "document_change":
            return self._changed(answer.document_change)
        if kind == "target_change":
            return self._target_changed(answer.target_change)
        if kind == "filter":
            self._counted(answer.filter)
            return []
        if kind is None:
            return []
        gone = getattr(answer, kind)  # document_delete, document_remove
        return self._removed(self.path_of(gone.document), micros_of_proto(gone.read_time), gone.removed_target_ids)

    def _changed(self, change: Any) -> list[Event]:
        document = change.document
        path, version = self.path_of(document.name), micros_of_proto(document.update_time)
        targets = [self.targets[number] for number in change.target_ids]
        news = [target for target in targets if target.observe(path, version)]
        self.documents += bool(news)
        if any(target.query.holds(path) for target in news):
            return [Change(path, version, fields_of(document))]
        return []

    def _removed(self, path: str, read_time: int, numbers: Iterable[int]) -> list[Event]:
        targets = [self.targets[number] for number in numbers]
        for target in targets:
            target.known.pop(path, None)
            if target.came is not None:
                target.came.pop(path, None)
        return [Change(path, read_time, _GONE)] if any(target.query.holds(path) for target in targets) else []

    def _counted(self, told: Any) -> None:
        """Compares the number of documents that the server reports with the known ones.

        A difference means missed deletions.
        """
        target = self.targets[told.target_id]
        number = len(target.known if target.came is None else target.came)
        if number != told.count or not (target.is_whole or target.came is not None):
            target.start_over()

    def _target_changed(self, change: Any) -> list[Event]:
        kind = change.target_change_type
        targets = [self.targets[number] for number in change.target_ids] or list(self.targets.values())
        if kind == _REMOVE:
            raise TargetLost(change.cause.code, change.cause.message)
        for target in targets:
            if kind == _RESET:
                target.came = {}
            if kind in (_ADD, _RESET):
                target.is_current = False
            elif kind == _CURRENT:
                target.is_current = True
            if change.resume_token:
                target.token = change.resume_token
        if change.target_ids or not change.HasField("read_time"):
            return []
        return self._consistent(micros_of_proto(change.read_time))

    def _consistent(self, read_time: int) -> list[Event]:
        """Handles a consistent time: all earlier changes of the current targets were received."""
        targets = self.targets.values()
        if not all(target.is_current and target.since is not None for target in targets):
            return []
        events = [event for target in targets for event in target.settle(read_time, is_exact=target.is_exact)]
        if self.needs_snapshot():
            return events
        for target in targets:
            target.since = _Since(read_time, base64.b64encode(target.token).decode())
        self.keep()
        return events

    def looked_up(self, get: Callable[[Iterable[str]], Iterable[Change]]) -> list[Event]:
        """Looks up the documents that the server did not send, and yields their changes.

        Args:
            get: Returns documents by their paths, and deletions for missing documents.
        """
        events: list[Event] = []
        for target in self.targets.values():
            if target.missed:
                events += [one for one in get(target.missed) if one.is_deleted or target.observe(one.path, one.version)]
                target.missed = []
        return events

    def needs_snapshot(self) -> list[Target]:
        """Returns the targets that need a snapshot."""
        return [target for target in self.targets.values() if target.since is None]
