"""What goes in and what comes out: changes and what else sources tell, rows with stamps and views, dead letters."""

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
        version: Its update time in microseconds since the epoch; for a deletion that of the version it deleted.
        fields: Its fields as JSON bytes (see `boiler_beam.values`); `null` for a deletion.
        event_time: When it was deleted, in microseconds since the epoch; 0 where that is not known, and of what was
            not deleted. It never orders versions, because another clock tells it: rows' stamps rise to it (S1).
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
    """All documents of a collection were given, as they were at one time: one that was not given did not exist (S22).

    Attributes:
        pattern: The collection, as models declare it: `users`, `conversations/{conversation}/messages`, `**/comments`.
        read_time: In microseconds since the epoch.
        paths: Those of the documents that were given.
    """

    pattern: str
    read_time: int
    paths: Container[str]


class Touch(msgspec.Struct, frozen=True):
    """A backfill found a row that differs, or stands and should not: write it as it is known (S16).

    Attributes:
        view: The view's name.
        path: The row path.
        read_time: Of the backfill's snapshot, in microseconds since the epoch.
    """

    view: str
    path: str
    read_time: int


class Stamp(NamedTuple):
    """Which of two writes of a row is newer: compared from left to right."""

    generation: int
    version: int
    seq: int


class Row(NamedTuple):
    """A view document.

    Attributes:
        path: The whole row path, `meeting_sessions/m1`.
        stamp: Which write this is.
        fields: Canonical JSON bytes (`boiler_beam.values.encode_wire`), or None for a deleted row.
    """

    path: str
    stamp: Stamp
    fields: bytes | None


class View(msgspec.Struct, frozen=True):
    """What a sink must know of a view.

    Attributes:
        name: The view class's name: a table's name where the sink has tables.
        template: Its row path, `meeting_sessions/{id}`.
        properties: The stored names of its fields, in the order of their declaration.
        indexed: The stored names of those that rows are found and ordered by, each with the SQL of its value in a row
            (`json_extract(fields, ...)`).
    """

    name: str
    template: str
    properties: tuple[str, ...]
    indexed: tuple[tuple[str, str], ...] = ()

    def matches(self, path: str) -> bool:
        """Whether a row at this path belongs to the view."""
        return _pattern(self.template).fullmatch(path) is not None


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)))


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    r"""An input that could not be used, with where, why, and enough to replay it.

    Attributes:
        stage: Where it was refused: `read`, `decode`, `newest`, `down`, `row`, `render`, `claim` or `write`.
        code: Why, as a word for programs: `malformed_line`, `invalid_document`, `version_conflict`, ...
        message: Why, for people.
        path: The document's or row's path, or None where it is not known.
        version: The document's version in microseconds, or None.
        source: Where the input came from (`file:x.jsonl:17`), or None.
        input: The raw input as text (bytes that are no UTF-8 as `\xNN`), or None where a row and no input failed.
        time: When, in RFC 3339.
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
        """What it is about, for people: the path, and where its line stands; else one of the two, else the stage."""
        if self.path is not None and self.source is not None:
            return f"{self.path} at {self.source}"
        return self.path or self.source or self.stage


Event = Change | Complete | Touch | DeadLetter
"""What a source that is followed gives."""
