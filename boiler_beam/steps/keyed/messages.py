"""The messages between the steps of a stream. Each is sent to one key and carries the version that caused it (S7).

Most are deltas, which add up: a sender remembers what it sent, and retracts exactly that (`old`, or a negative weight)
when it changes. So messages may arrive in any order, but each must arrive once (S10). `weight` counts occurrences: 1
adds one, -1 retracts one.

Messages are of one view. `edge_index` and `aggregate_index` are indexes in `PlannedView.edges` and
`ViewPlan.aggregates`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from boiler_beam.events import Change, Touch
from boiler_beam.steps.distributed import WireContribution

__all__ = ["CandidateDelta", "Claim", "DistinctDelta", "DocumentDelta", "DocumentState", "FirstValues", "Input"]
__all__ += ["MemberDelta", "MembershipDelta", "Message", "RankedValuesDelta", "SubscriptionDelta"]
__all__ += ["ValueCountDelta", "ValueDelta"]


class DocumentState(msgspec.Struct, frozen=True, array_like=True, gc=False, eq=False):
    """One state of a document at an edge: what other steps get of it.

    Attributes:
        sequence: Which of the document's states it is: the one with the larger sequence is current (S9).
        contribution: What it contributes; None where the document is missing or not shown.
        fields: Those of its fields that rows need, as JSON; None if they need none, and where the state is retracted.
        version: Its version in microseconds.
    """

    sequence: int
    contribution: WireContribution | None
    fields: bytes | None
    version: int


class ValueDelta(NamedTuple):
    """A value is added to an aggregate, or retracted, `weight` times."""

    aggregate_index: int
    value: Any
    weight: int


class MemberDelta(NamedTuple):
    """Changes the number of members of a group's row by `weight`; has the group's key."""

    weight: int
    key: Any


class _Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base: an array on the wire, its kind first."""


class DocumentDelta(_Message, tag="d", frozen=True):
    """A document joined, left or changed at a key of an edge: at the path of a parent that it refers to.

    Attributes:
        edge_index: The edge.
        key: The parent's path, to which rows subscribe.
        path: The document's path.
        old: The state that was sent before, without fields; None where it was not at this key.
        new: The state now; None where it is not at this key.
        version: The version that caused it, in microseconds since the epoch.
    """

    edge_index: int
    key: str
    path: str
    old: DocumentState | None
    new: DocumentState | None
    version: int


class SubscriptionDelta(_Message, tag="s", frozen=True):
    """Changes by `weight` how often a row subscribes to a key of an edge."""

    edge_index: int
    key: str
    row: str
    weight: int
    version: int


class CandidateDelta(_Message, tag="c", frozen=True):
    """Changes by `weight` the number of paths that lead from a row to a document in some state."""

    edge_index: int
    row: str
    path: str
    weight: int
    state: DocumentState
    version: int


class MembershipDelta(_Message, tag="m", frozen=True, eq=False):
    """A document enters, changes in, or leaves a row over an edge.

    Attributes:
        edge_index: The edge.
        row: The row.
        path: The document's path.
        weight: How often the change counts.
        old: The sequence of the state that the row had; None where it did not have the document or does not keep it.
        new: What it has now; None where it no longer has the document or does not keep it.
        values: The values that are added to aggregates of the row, or retracted.
        member: The change of the number of members of a group's row; None if it does not change.
        version: The version that caused the message; the document's own is in `new`.
    """

    edge_index: int
    row: str
    path: str
    weight: int
    old: int | None
    new: DocumentState | None
    values: list[ValueDelta]
    member: MemberDelta | None
    version: int


class ValueCountDelta(_Message, tag="v", frozen=True):
    """Changes by `weight` the number of documents of a row with a value that an aggregate counts once."""

    aggregate_index: int
    row: str
    value: bytes
    weight: int
    version: int


class DistinctDelta(_Message, tag="u", frozen=True):
    """Changes by `weight` the number of distinct values that an aggregate of a row counts."""

    aggregate_index: int
    row: str
    weight: int
    version: int


class RankedValuesDelta(_Message, tag="r", frozen=True, eq=False):
    """The values, with weights, by which a document changes an aggregate that keeps its values in order."""

    aggregate_index: int
    row: str
    path: str
    values: list[tuple[Any, int]]
    version: int


class FirstValues(_Message, tag="f", frozen=True, eq=False):
    """The first values of an aggregate that keeps them in order; the message with the larger sequence is current."""

    aggregate_index: int
    row: str
    values: list[Any]
    sequence: int
    version: int


class Claim(_Message, tag="p", frozen=True):
    """A row claims a row path with its fields, or gives it up (None); its claim with the largest sequence counts."""

    path: str
    row: str
    sequence: int
    fields: bytes | None
    version: int


Message = (
    DocumentDelta | SubscriptionDelta | CandidateDelta | MembershipDelta | ValueCountDelta | DistinctDelta
    | RankedValuesDelta | FirstValues | Claim
)  # fmt: skip
Input = Message | Change | Touch
"""What a step takes."""
