"""The messages between the steps of a stream. Each goes to one key, and carries the version that caused it (S7).

What they say adds up: whoever sends one says what is there no longer (`old`, a negative weight) and what is there now
(`new`, a positive one), and remembers what it said. So each may come at any time, but must come once (S10). Edges go by
number, as in a partitioned backfill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from boiler_beam.compare import same_value

__all__ = ["Added", "Candidate", "Claimed", "Counted", "Doubted", "Held", "Lies", "Link", "Message", "Out", "Part"]
__all__ += ["Ranked", "Role", "Shown", "State", "Wanted"]


class Link(msgspec.Struct, array_like=True, gc=False, tag="l"):
    """The paths that a document refers to over an edge."""

    edge: int
    paths: list[str]


class Role(msgspec.Struct, array_like=True, gc=False, tag="r", eq=False):
    """What a document is at one edge that shows it. Two are compared by `is_as`, which tells 1 from 1.0.

    Attributes:
        edge: The edge.
        contributions: What it adds to aggregates, by their places.
        links: What it refers to.
        ranks: What it is sorted by, where the edge has a limit.
    """

    edge: int
    contributions: list[tuple[int, Any]]
    links: list[Link]
    ranks: list[Any]

    def is_as(self, other: Role | None) -> bool:
        """Whether another state of the document adds and refers to the same."""
        return other is not None and (
            self.links == other.links
            and same_value(self.contributions, other.contributions)
            and same_value(self.ranks, other.ranks)
        )


class State(msgspec.Struct, frozen=True, array_like=True, gc=False, eq=False):
    """What a document is at a key of an edge: `role` None where it is not there, or is hidden.

    Two of one document are compared by their sequences.

    Attributes:
        sequence: Which of the document's states this is: the larger one stands.
        role: What it adds and refers to.
        fields: Its fields as JSON; empty where rows look documents up.
        version: Its version in microseconds.
    """

    sequence: int
    role: Role | None
    fields: bytes
    version: int


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A document as rows hold it.

    Attributes:
        sequence: See `State`.
        is_there: Whether there is one: that it is missing is an answer, too (S8).
        fields: Its fields as JSON, those that rows need.
        version: Its version in microseconds.
        links: The keys that the edges below want for it: the row waits until these are answered.
    """

    sequence: int
    is_there: bool
    fields: bytes
    version: int
    links: list[tuple[int, list[str]]]


class _Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base: an array on the wire, its kind first."""


class Lies(_Message, tag="l", frozen=True):
    """A document lies at a key of an edge: at its own path, or at the path of the parent that it refers to.

    Attributes:
        edge: The edge.
        key: The path that rows want.
        path: The document.
        old: What was said before that it is there, without fields; None where it was not.
        new: What it is there now.
        version: The version that caused it, in microseconds since the epoch.
    """

    edge: int
    key: str
    path: str
    old: State | None
    new: State
    version: int


class Wanted(_Message, tag="w", frozen=True):
    """A row wants what lies at a key of an edge, so many times more or less."""

    edge: int
    key: str
    row: str
    weight: int
    version: int


class Candidate(_Message, tag="c", frozen=True):
    """So many ways more or less lead from a row to a document in some state."""

    edge: int
    row: str
    path: str
    weight: int
    state: State
    version: int


class Shown(_Message, tag="s", frozen=True, eq=False):
    """What changes for a row by one document at one edge, all of it at once.

    Attributes:
        weight: How many times.
        old: The sequence of the state that it had; None: it did not have the document, or does not hold it.
        new: What it has; None: not any more, or it does not hold it.
        parts: What its aggregates get: place, value, and how many times more or less.
        member: How many members a group's row has more or less, and its key; None where that stays.
        version: That of what caused the message; the document's own is in `new`.
    """

    edge: int
    row: str
    path: str
    weight: int
    old: int | None
    new: Held | None
    parts: list[tuple[int, Any, int]]
    member: tuple[int, Any] | None
    version: int


class Counted(_Message, tag="d", frozen=True):
    """So many documents more or less have a value that an aggregate counts once."""

    edge: int
    aggregate: int
    row: str
    value: bytes
    weight: int
    version: int


class Added(_Message, tag="a", frozen=True, eq=False):
    """What a document adds to an aggregate that needs its values in order: values, and how many times more or less."""

    edge: int
    aggregate: int
    row: str
    path: str
    values: list[tuple[Any, int]]
    version: int


class Ranked(_Message, tag="k", frozen=True, eq=False):
    """The first values of an aggregate that needs them in order; of two the larger sequence stands."""

    aggregate: int
    row: str
    values: list[Any]
    sequence: int
    version: int


class Claimed(_Message, tag="p", frozen=True):
    """A row wants a path, with these fields; None: no longer. Of two by one row the larger sequence stands."""

    view: int
    path: str
    row: str
    sequence: int
    fields: bytes | None
    version: int


class Doubted(_Message, tag="t", frozen=True):
    """A backfill saw something else at a row path than what was given: it is to be given again (S16)."""

    view: int
    path: str
    version: int


Message = Lies | Wanted | Candidate | Shown | Counted | Added | Ranked | Claimed | Doubted


Part = tuple[int, Any, int]
"""What an aggregate gets: its place, a value, and how many times more or less."""


class Out(Protocol):
    """Where a step sends: a method for each kind of message, called with its attributes in their order.

    In one process the next step takes it at once; elsewhere `Posting` makes messages of the calls.
    """

    def lies(self, edge: int, key: str, path: str, old: State | None, new: State, version: int, /) -> None:
        """See `Lies`."""

    def touched(self, edge: int, path: str, version: int, /) -> None:
        """A document changed at an edge where nothing is kept of it (`StreamPlan.is_bare`)."""

    def wanted(self, edge: int, key: str, row: str, weight: int, version: int, /) -> None:
        """See `Wanted`."""

    def candidate(self, edge: int, row: str, path: str, weight: int, state: State, version: int, /) -> None:
        """See `Candidate`."""

    def shown(
        self,
        edge: int,
        row: str,
        path: str,
        weight: int,
        old: State | None,
        new: State | None,
        parts: Sequence[Part],
        member: tuple[int, Any] | None,
        version: int,
        /,
    ) -> None:
        """See `Shown`."""

    def counted(self, edge: int, aggregate: int, row: str, value: bytes, weight: int, version: int, /) -> None:
        """See `Counted`."""
