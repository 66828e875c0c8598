"""What the messages of a Listen stream mean: a state per query, messages in, events out. Pure.

    ADD -> [documents] -> CURRENT -> NO_CHANGE (a consistent time) -> document, delete, NO_CHANGE -> ...
    RESET -> all documents again -> CURRENT -> NO_CHANGE: what was known and did not come is deleted

It keeps the path and version of every document that it was told of (about 200 bytes each), which makes of an answer
that repeats everything what changed. A watch that goes on from a position knows none at first: where it is told
everything it gives `Complete` instead of deletions, so that the engine compares with what it knows (S22).

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

__all__ = ["Target", "TargetLost", "Watch"]

_NO_CHANGE, _ADD, _REMOVE, _CURRENT, _RESET = range(5)
_GONE = msgspec.Raw(b"null")


class TargetLost(Exception):
    """The server ended a target.

    Attributes:
        code: gRPC's number of the cause.
        message: What it says.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _Since(msgspec.Struct, omit_defaults=True):
    """From where a target goes on: a token where there is one, else a time."""

    read_time: int
    token: str = ""


class Target:
    """One query that is listened to.

    Attributes:
        query: Which.
        since: From where it goes on when it is added; None: it needs a snapshot.
        known: Path and version of the documents that are there, those of other collections of the group among them.
        is_whole: Whether `known` holds all of them.
    """

    def __init__(self, query: Query, since: _Since | None) -> None:
        self.query, self.since = query, since
        self.known: dict[str, int] = {}
        self.is_whole = False
        self.token = b""
        self.begin()

    def begin(self) -> None:
        """A stream begins."""
        self.came: dict[str, int] | None = None  # what came since everything is sent
        self.is_current = False

    def start_over(self) -> None:
        """It needs a snapshot: what is known may lack a deletion."""
        self.since = None

    def observe(self, path: str, version: int) -> bool:
        """A document is there in a version; tells whether that is news."""
        is_new = version > self.known.get(path, -1)
        self.known[path] = version
        if self.came is not None:
            self.came[path] = version
        return is_new

    def settle(self, read_time: int) -> list[Event]:
        """All that is there has come, as it was at a time: what did not is deleted."""
        if self.came is None:
            return []
        gone = [path for path in self.known if path not in self.came]
        events: list[Event]
        if self.is_whole:
            events = [Change(path, read_time, _GONE) for path in gone if self.query.holds(path)]
        else:
            events = [Complete(pattern, read_time, self.came) for pattern in self.query.patterns]
        self.known, self.came, self.is_whole = self.came, None, True
        return events


class Watch:
    """The targets of one Listen stream.

    Args:
        queries: What is listened to.
        position: From where it goes on; None: from snapshots.
        path_of: A document's path, from its name.

    Attributes:
        targets: One for each query, by its number in the stream, from 1.
        position: Where it is at the last consistent time.
        documents: How many documents came.
    """

    def __init__(self, queries: Sequence[Query], position: str | None, path_of: Callable[[str], str]) -> None:
        known = msgspec.json.decode(position, type=dict[str, _Since]) if position and position[0] == "{" else {}
        self.targets = {number: Target(query, known.get(query.name)) for number, query in enumerate(queries, 1)}
        self.path_of = path_of
        self.documents = 0
        self.keep()

    def keep(self) -> None:
        """The position is here."""
        since = {one.query.name: one.since for one in self.targets.values() if one.since is not None}
        self.position = msgspec.json.encode(since).decode()

    def snapshot(self, target: Target, changes: Iterable[Change]) -> Iterable[Change]:
        """Takes all documents of a target; gives on those that are news. `settled` tells its end."""
        target.came = {}
        for change in changes:
            if target.observe(change.path, change.version) and target.query.holds(change.path):
                yield change

    def settled(self, target: Target, read_time: int) -> list[Event]:
        """The snapshot of a target is whole."""
        events = target.settle(read_time)
        target.since = _Since(read_time)
        self.keep()
        return events

    def observe(self, change: Change) -> None:
        """A document is there, whatever the stream told."""
        for target in self.targets.values():
            if target.query.holds(change.path):
                target.observe(change.path, change.version)

    def requests(self, database: str, root: str) -> list[Any]:
        """What a new stream is asked for."""
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
        """What a message tells.

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
        self.documents += 1
        targets = [self.targets[number] for number in change.target_ids]
        news = [target for target in targets if target.observe(path, version)]
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
        """The server says how many documents there are: where that is not what is known, deletions were missed."""
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
        """All that happened until a time has come; of targets that are not current yet, it has not."""
        targets = self.targets.values()
        if not all(target.is_current and target.since is not None for target in targets):
            return []
        events = [event for target in targets for event in target.settle(read_time)]
        for target in targets:
            target.since = _Since(read_time, base64.b64encode(target.token).decode())
        self.keep()
        return events

    def needs_snapshot(self) -> list[Target]:
        """The targets that can't go on from where they are."""
        return [target for target in self.targets.values() if target.since is None]
