"""The data that sources yield and sinks receive: changes and other events, rows with stamps, dead letters."""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache
from typing import NamedTuple

import msgspec

__all__ = ["Change", "Complete", "DeadLetter", "Event", "Row", "Stamp", "Touch", "View"]


class Change(msgspec.Struct, frozen=True, gc=False):
    """One observed version of a document.

    Attributes:
        path: The document's path relative to its database, `users/u1`.
        version: Its update time in microseconds since the epoch. A deletion has the version that it deleted, or a later
            one.
        fields: Its fields as JSON bytes (see `boiler_beam.values`); `null` for a deletion.
        event_time: The time of a deletion in microseconds since the epoch; 0 if it is unknown, and for documents. It
            comes from another clock, so it never orders versions; it only raises the stamps of rows (S1).
    """

    path: str
    version: int
    fields: msgspec.Raw
    event_time: int = 0

    @property
    def is_deleted(self) -> bool:
        """Whether it is a deletion."""
        return bytes(self.fields) == b"null"


class Complete(msgspec.Struct, frozen=True):
    """Says that a source has yielded all documents of a collection as of one time.

    A document in the state that was not yielded did not exist at that time, so it is deleted (S22).

    Attributes:
        pattern: The collection, as models declare it: `users`, `conversations/{conversation}/messages`, `**/comments`.
        read_time: That time, in microseconds since the epoch.
        paths: The paths of the documents that were yielded.
    """

    pattern: str
    read_time: int
    paths: Container[str]


class Touch(msgspec.Struct, frozen=True):
    """A request of a backfill to a stream: write this row again from your state, or delete it.

    A backfill beside a stream does not write rows itself; it sends a touch for each row that differs (S16).

    Attributes:
        view: The view's name.
        path: The row path.
        read_time: The read time of the backfill, in microseconds since the epoch.
    """

    view: str
    path: str
    read_time: int


class Stamp(NamedTuple):
    """Says which of two writes of a row is newer. Stamps are compared from left to right."""

    generation: int
    version: int
    seq: int


class Row(NamedTuple):
    """A row: a document that a view computes.

    Attributes:
        path: The row path, `meeting_sessions/m1`.
        stamp: Its stamp.
        fields: Canonical JSON bytes (`boiler_beam.values.encode_wire`), or None for a deleted row.
    """

    path: str
    stamp: Stamp
    fields: bytes | None


class View(msgspec.Struct, frozen=True):
    """The facts about a view that a sink needs.

    Attributes:
        name: The name of the view class; in a sink with tables the name of its table.
        template: The template of its row paths, `meeting_sessions/{id}`.
        properties: The stored names of its fields, in the order of their declaration.
        indexed: The stored names of those that rows are found and ordered by.
    """

    name: str
    template: str
    properties: tuple[str, ...]
    indexed: tuple[str, ...] = ()

    def matches(self, path: str) -> bool:
        """Returns whether a row at this path belongs to the view."""
        return _pattern(self.template).fullmatch(path) is not None


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)))


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    r"""An input or a row that could not be used, with the reason, and with what is needed to replay it.

    Attributes:
        stage: Where it was refused: `read`, `decode`, `newest`, `down`, `row`, `render`, `claim` or `write`.
        code: The reason, for programs: `malformed_line`, `invalid_document`, `version_conflict`, ...
        message: The reason, for people.
        path: The document's or row's path, or None if it is unknown.
        version: The document's version in microseconds, or None.
        source: Where the input came from (`file:x.jsonl:17`), or None.
        input: The raw input as text (bytes that are not UTF-8 as `\xNN`), or None if a row failed.
        time: The time of the failure, in RFC 3339.
    """

    stage: str
    code: str
    message: str
    path: str | None = None
    version: int | None = None
    source: str | None = None
    input: str | None = None
    time: str = ""

    @property
    def about(self) -> str:
        """Returns a name for messages: the path and the line's position, or one of them, or else the stage."""
        if self.path is not None and self.source is not None:
            return f"{self.path} at {self.source}"
        return self.path or self.source or self.stage


Event = Change | Complete | Touch | DeadLetter
"""What a source yields to a stream."""
