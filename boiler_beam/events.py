"""The data that sources yield and sinks receive: changes and other events, rows with stamps, dead letters.

>>> change = Change("users/u1", 7, {"firstName": "Ann"})
>>> bytes(change.fields), change.decode()
(b'{"firstName":"Ann"}', {'firstName': 'Ann'})
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec

from boiler_beam.values import decode_fields, encode_fields

__all__ = ["Change", "Complete", "DeadLetter", "EncodedRow", "Event", "Row", "Stamp", "Touch", "View"]


class Change(msgspec.Struct, frozen=True, gc=False):
    """One observed version of a document.

    Attributes:
        path: The document's path relative to its database, `users/u1`.
        version: Its update time in microseconds since the epoch. A deletion has the version that it deleted, or a later
            one.
        fields: Its fields as JSON bytes (see `boiler_beam.values`); `null` for a deletion. They may be given as a dict
            of Python values, as JSON bytes, or as None for a deletion. Changes are equal if their bytes are.
        event_time: The time of a deletion in microseconds since the epoch; 0 if it is unknown, and for documents. It
            comes from another clock, so it never orders versions; it only raises the stamps of rows (S1).
    """

    path: str
    version: int
    fields: msgspec.Raw
    event_time: int = 0

    if TYPE_CHECKING:

        def __init__(
            self, path: str, version: int, fields: msgspec.Raw | bytes | Mapping[str, Any] | None, event_time: int = 0
        ) -> None: ...

    def __post_init__(self) -> None:
        """Encodes fields that are not JSON yet.

        Raises:
            TypeError: Firestore has no type for a value, or the fields are no dict.
        """
        if self.fields.__class__ is not msgspec.Raw:
            msgspec.structs.force_setattr(
                self, "fields", msgspec.Raw(_json("Change", self.path, self.fields) or b"null")
            )

    @property
    def is_deleted(self) -> bool:
        """Whether it is a deletion."""
        return bytes(self.fields) == b"null"

    def decode(self) -> dict[str, Any] | None:
        """Returns the fields as Python values; None for a deletion."""
        return None if self.is_deleted else decode_fields(self.fields)

    def __eq__(self, other: object) -> bool:  # msgspec.Raw compares by identity
        return isinstance(other, Change) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, int, bytes, int]:
        return self.path, self.version, bytes(self.fields), self.event_time

    def __repr__(self) -> str:
        event_time = f", event_time={self.event_time}" if self.event_time else ""
        return f"Change({self.path!r}, {self.version}, {bytes(self.fields)!r}{event_time})"


def _json(kind: str, path: str, fields: object) -> bytes | None:
    if fields is None:
        return None
    if isinstance(fields, Mapping):
        return encode_fields(dict(fields))
    if isinstance(fields, (bytes, bytearray, memoryview)):
        return bytes(fields)
    raise TypeError(
        f"{kind} {path}: expected fields as a dict, JSON bytes or None, got {type(fields).__name__}; "
        "fix: pass a dict of Python values"
    )


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

    @property
    def version(self) -> int:
        """The read time: the row that is written has at least this version."""
        return self.read_time


class Stamp(NamedTuple):
    """Says which of two writes of a row is newer. Stamps are compared from left to right."""

    generation: int
    version: int
    seq: int


class EncodedRow(NamedTuple):
    """A row as sinks take it; its view is given beside it. In pipelines it is a `Row`.

    Attributes:
        path: The row path, `meeting_sessions/m1`.
        stamp: Its stamp.
        fields: Canonical JSON bytes (`boiler_beam.values.encode_wire`), or None for a deleted row.
    """

    path: str
    stamp: Stamp
    fields: bytes | None


class Row:
    """A row: a document that a view computes, an element of a pipeline.

    Rows are equal if view, path, stamp and data are. Of two rows of one path, the one with the greater stamp is newer.

    >>> row = Row("MeetingSession", "meeting_sessions/m1", 1, 7, 7, {"inSession": True})
    >>> row.fields["inSession"], row.data, row.stamp
    (True, b'{"inSession":true}', Stamp(generation=1, version=7, seq=7))

    Attributes:
        view: The name of the view's class.
        path: The row path, `meeting_sessions/m1`.
        generation: The generation of the view that computed it, from 1; 0 if an invalid document may belong to the row,
            so that it never replaces a row in a sink.
        version: The newest version, in microseconds since the epoch, that is in it.
        seq: Grows with each row of a path at the same version.
        data: The fields as canonical JSON bytes; None for a deleted row.
    """

    __slots__ = ("_fields", "data", "generation", "path", "seq", "version", "view")
    view: str
    path: str
    generation: int
    version: int
    seq: int
    data: bytes | None
    _fields: dict[str, Any]

    def __init__(
        self, view: str, path: str, generation: int, version: int, seq: int, fields: Mapping[str, Any] | bytes | None
    ) -> None:
        """Creates a row.

        Args:
            view: The name of the view's class.
            path: The row path.
            generation: The generation.
            version: The version in microseconds since the epoch.
            seq: The sequence number.
            fields: The fields as a dict of Python values, or as canonical JSON bytes; None for a deleted row.

        Raises:
            TypeError: Firestore has no type for a value, or the fields are no dict.
        """
        data = _json("Row", path, fields)
        for name, value in zip(_ROW, (view, path, generation, version, seq, data), strict=True):
            object.__setattr__(self, name, value)

    @property
    def fields(self) -> dict[str, Any] | None:
        """The fields as Python values; None for a deleted row. They are decoded when they are asked for first."""
        if self.data is None:
            return None
        try:
            return self._fields
        except AttributeError:
            object.__setattr__(self, "_fields", decode_fields(self.data))
            return self._fields

    @property
    def stamp(self) -> Stamp:
        """Generation, version and sequence number: which of two rows of one path is newer."""
        return Stamp(self.generation, self.version, self.seq)

    def encoded(self) -> EncodedRow:
        """Returns the row as sinks take it."""
        return EncodedRow(self.path, self.stamp, self.data)

    def _key(self) -> tuple[Any, ...]:
        return self.view, self.path, self.generation, self.version, self.seq, self.data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Row is immutable: make another with Row(..., {name}={value!r})")

    def __repr__(self) -> str:
        return f"Row({self.view!r}, {self.path!r}, {self.generation}, {self.version}, {self.seq}, {self.fields!r})"

    def __reduce__(self) -> tuple[Callable[..., Row], tuple[Any, ...]]:
        return Row, self._key()


_ROW = ("view", "path", "generation", "version", "seq", "data")


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
        stage: Where it was refused: `read`, `decode`, `newest`, `document`, `row`, `render`, `claim` or `write`.
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
