"""The messages of a hash join, and the packs that carry many of them as bytes.

`edge_index` and `view_index` are indexes in `Plan.planned_edges` and `Plan.views`, `aggregate_index` one in the view.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from boiler_beam.events import DeadLetter
from boiler_beam.steps.distributed import WireContribution
from boiler_beam.steps.missing import Absences
from boiler_beam.steps.taint import PossibleMember

__all__ = ["Accumulators", "AggregateValue", "Document", "Failure", "GroupKeys"]
__all__ += ["LookupRequest", "Match", "Member", "Message", "Observed", "RowCopy", "Rows", "Statistics", "Taint"]
__all__ += ["TaintedRow", "ViewTaint", "decode_pack", "encode_packs", "partition_of"]

Rows = list[str] | None
"""Ids of rows; None for every row of the view."""


def partition_of(key: str, partitions: int, salt: int = 0) -> int:
    """The partition that a path or row id belongs to: the same in every process."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass"), salt) % partitions


class _Message(msgspec.Struct, array_like=True, gc=False):
    """Base: an array on the wire, its kind first."""

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        """The partitions that the message is sent to, each with the part of the message for it."""
        raise TypeError(f"{type(self).__name__} goes to no partition")


class _AtPath(_Message):
    """Base: goes to the partition of a document."""

    path: str

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        return ((partition_of(self.path, partitions, salt), self),)


class _ToRows(_Message):
    """Base: goes to the partitions of its rows; to all of them where it is for every row."""

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        ids: Rows = self.rows  # type: ignore[attr-defined]
        if ids is None:
            return [(partition, self) for partition in range(partitions)]
        if len(ids) == 1:
            return ((partition_of(ids[0], partitions, salt), self),)
        found: dict[int, list[str]] = {}
        for row in ids:
            found.setdefault(partition_of(row, partitions, salt), []).append(row)
        return [(partition, msgspec.structs.replace(self, rows=some)) for partition, some in found.items()]


class _ByRow(_Message):
    """Base: goes to the partitions of its rows, each of which has an item of its own."""

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        found: dict[int, dict[str, Any]] = {}
        by_row: dict[str, Any] = self.by_row  # type: ignore[attr-defined]
        for row, item in by_row.items():
            found.setdefault(partition_of(row, partitions, salt), {})[row] = item
        return [(partition, msgspec.structs.replace(self, by_row=some)) for partition, some in found.items()]


class Observed(_AtPath, tag="c"):
    """A change that was read, sent to its document's partition; without fields, a version that could not be read."""

    version: int
    fields: bytes | None


class Document(_Message, tag="d"):
    """A document at a key of some edges: its own path, or that of a parent that it refers to.

    Attributes:
        key: The path at which rows request it.
        fields: Its fields; None where rows do not need them.
        contributions: What it contributes at each of these edges, by `edge_index`; None where its newest version is
            invalid, which taints the rows.
    """

    key: str
    path: str
    version: int
    fields: bytes | None
    contributions: dict[int, WireContribution | None]

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        """The partition of the key."""
        return ((partition_of(self.key, partitions, salt), self),)


class LookupRequest(_AtPath, tag="w"):
    """Rows that request the document at a path over an edge."""

    edge_index: int
    rows: Rows


class Match(_ToRows, tag="k"):
    """Rows that match a document over an edge; it is sent if the edge has a limit: the document is a candidate.

    Attributes:
        fields: Its fields; None where rows do not need them.
    """

    edge_index: int
    contribution: WireContribution
    path: str
    version: int
    fields: bytes | None
    rows: Rows

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        """The partitions of its rows; one where it is for every row, for they all have the same first ones."""
        if self.rows is None:
            return ((partition_of("", partitions, salt), self),)
        return super().parts(partitions, salt)


class Member(_ToRows, tag="v"):
    """A document that rows have over an edge."""

    edge_index: int
    path: str
    version: int
    fields: bytes
    rows: Rows


class AggregateValue(_ToRows, tag="a", eq=False):
    """What one document adds to an aggregate of rows that may get it from several partitions: it is added once."""

    view_index: int
    aggregate_index: int
    path: str
    value: Any
    rows: Rows


class Accumulators(_ByRow, tag="s", eq=False):
    """Accumulators of one aggregate, folded over the documents of a partition, by row."""

    view_index: int
    aggregate_index: int
    by_row: dict[str, Any]


class GroupKeys(_ByRow, tag="o", eq=False):
    """Rows of groups that have a member: their keys by id."""

    view_index: int
    by_row: dict[str, Any]


class Taint(_ToRows, tag="t"):
    """Rows that an invalid document may belong to; with `is_root` it may make them, so they need not exist."""

    view_index: int
    is_root: bool
    document: str
    rows: list[str]


class ViewTaint(_Message, tag="m"):
    """An invalid document that may belong to any row of a view (S5)."""

    view_index: int
    member: PossibleMember


class RowCopy(_AtPath, tag="p"):
    """A `Copy` of a row, sent to the sink, or first to the partition where all rows that claim its path meet."""

    fields: bytes | None
    tainted_by: tuple[str, ...]
    view_index: int
    row_id: str


class TaintedRow(_Message, tag="T"):
    """The path of a computed row that invalid documents may belong to, on its way to the sink beside the row."""

    view_index: int
    path: str
    tainted_by: tuple[str, ...]


class Failure(_Message, tag="F"):
    """A dead letter."""

    dead_letter: DeadLetter


class Statistics(_Message, tag="S"):
    """What was counted in one place.

    Attributes:
        changes: Changes read.
        newest_version: The newest version of all.
        lost_types: The indexes of the document types that may have lost a document, because an input was unreadable.
        known: For each document type: how many documents exist, and how many have a newer version that is invalid.
        absences: By view index, how many rows are absent, and why.
    """

    changes: int = 0
    newest_version: int = 0
    lost_types: list[int] = []
    known: list[tuple[int, int]] = []
    absences: dict[int, Absences] = {}


Message = (
    Observed | Document | LookupRequest | Match | Member | AggregateValue | Accumulators | GroupKeys
    | Taint | ViewTaint | RowCopy | TaintedRow | Failure | Statistics
)  # fmt: skip

MAX_PACK_BYTES = 4 << 20
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Message]).decode


def encode_packs(messages: list[Any]) -> Iterator[bytes]:
    """Many messages as bytes, in packs of at most `MAX_PACK_BYTES` where no single message is larger."""
    pack = _encode(messages)
    if len(pack) <= MAX_PACK_BYTES or len(messages) == 1:
        yield pack
    else:
        middle = len(messages) // 2
        yield from encode_packs(messages[:middle])
        yield from encode_packs(messages[middle:])


def decode_pack(pack: bytes) -> list[Any]:
    """The messages of a pack."""
    return _decode(pack)
