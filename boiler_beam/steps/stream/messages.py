"""The messages between the steps of a stream. Each goes to one key, and carries the version that caused it (S7).

Edges go by number, as in a partitioned backfill. `sequence` numbers a document's versions as its step counted them: of
two messages that say what a document is, the larger one stands, in whatever order they come.
"""

from __future__ import annotations

from typing import Any

import msgspec

from boiler_beam.steps.messages import Role

__all__ = ["Added", "Candidate", "Lies", "Message", "Owned", "Shown", "Wanted"]


class _Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base: an array on the wire, its kind first."""


class Lies(_Message, tag="l", frozen=True):
    """A document lies at a key of an edge: at its own path, or at the path of the parent that it refers to.

    Attributes:
        edge: The edge.
        key: The path that rows want.
        path: The document.
        sequence: Which of the document's states this is.
        role: What it is there; None: it is not, or is not shown.
        fields: Its fields as JSON; empty where no row needs them, or rows look it up.
        version: The version that caused it, in microseconds since the epoch.
    """

    edge: int
    key: str
    path: str
    sequence: int
    role: Role | None
    fields: bytes
    version: int


class Wanted(_Message, tag="w", frozen=True):
    """A row wants what lies at a key of an edge, once more or once less: weights add up in any order."""

    edge: int
    key: str
    row: str
    weight: int
    version: int


class Candidate(_Message, tag="c", frozen=True):
    """A row reached a document over an edge with a limit, once more or less, or the document changed (weight 0)."""

    edge: int
    row: str
    path: str
    weight: int
    sequence: int
    role: Role | None
    fields: bytes
    document_version: int
    version: int


class Shown(_Message, tag="s", frozen=True):
    """A row has what a document is over an edge, once more or less, or the document changed (weight 0).

    Attributes:
        is_there: Whether there is one: that it is missing is an answer, too.
        fields: Its fields as JSON; empty where the row looks it up.
        document_version: The document's own version; `version` is that of what caused the message.
        links: The keys that the edges below want for it: the row waits until these are answered.
    """

    edge: int
    row: str
    path: str
    weight: int
    sequence: int
    is_there: bool
    fields: bytes
    links: list[tuple[int, list[str]]]
    document_version: int
    version: int


class Added(_Message, tag="a", frozen=True):
    """What a document adds to an aggregate of a row, or takes back (weight -1)."""

    edge: int
    aggregate: int
    row: str
    path: str
    value: Any
    weight: int
    version: int


class Owned(_Message, tag="o", frozen=True):
    """A group's row has a member more or less; its key."""

    view: int
    row: str
    key: Any
    weight: int
    version: int


Message = Lies | Wanted | Candidate | Shown | Added | Owned
