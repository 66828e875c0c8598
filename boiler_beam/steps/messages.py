"""The messages of a partitioned backfill, and the packs that carry many of them as bytes.

Edges go by number: their place in `tuple(plan.edges())`. `rows` is a list of row ids, or None for all of the view.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from boiler_beam.compare import same_value
from boiler_beam.events import DeadLetter

__all__ = [
    "Absent",
    "Candidate",
    "Claim",
    "Contribution",
    "Document",
    "Failure",
    "Hang",
    "Invalid",
    "Link",
    "MayBelong",
    "Message",
    "Observed",
    "Own",
    "Rendered",
    "State",
    "Statistics",
    "Taint",
    "Unknown",
    "Unreadable",
    "Value",
    "Want",
    "decode_pack",
    "encode_packs",
    "partition_of",
]

Rows = list[str] | None


def partition_of(key: str, partitions: int, salt: int = 0) -> int:
    """The partition that a path or row id belongs to: the same in every process."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass"), salt) % partitions


def _by_row(items: dict[str, Any], partitions: int, salt: int) -> Iterable[tuple[int, dict[str, Any]]]:
    found: dict[int, dict[str, Any]] = {}
    for row, item in items.items():
        found.setdefault(partition_of(row, partitions, salt), {})[row] = item
    return found.items()


class _Message(msgspec.Struct, array_like=True, gc=False):
    """Base: an array on the wire, its kind first."""

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        """The partitions that the message goes to, and what of it goes to each."""
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


class Observed(_AtPath, tag="c"):
    """A change that was read, on its way to its document's partition."""

    version: int
    fields: bytes


class Unreadable(_AtPath, tag="u"):
    """Some version of a document that could not be read."""


class Link(_Message, tag="l"):
    """The paths that a document refers to over an edge."""

    edge: int
    paths: list[str]


class Role(_Message, tag="r", eq=False):
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


class Document(_AtPath, tag="d"):
    """A document, waiting in its own partition for those who want it over some edges."""

    version: int
    fields: bytes
    roles: list[Role]


class Invalid(_AtPath, tag="i"):
    """A document whose newest version is invalid: who wants it over these edges is tainted."""

    edges: list[int]


class Want(_AtPath, tag="w"):
    """Rows that reach the document at a path over an edge."""

    edge: int
    rows: Rows


class Hang(_Message, tag="h"):
    """A document that hangs on a parent; without a role it is invalid, and taints the parent's rows."""

    edge: int
    parent: str
    path: str
    version: int
    fields: bytes
    role: Role | None

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        """The partition of the parent."""
        return ((partition_of(self.parent, partitions, salt), self),)


class Value(_ToRows, tag="v"):
    """A document that rows reached over an edge."""

    edge: int
    path: str
    version: int
    fields: bytes
    rows: Rows


class Candidate(_ToRows, tag="k"):
    """A document that rows reached over an edge with a limit: one of their first ones, perhaps."""

    role: Role
    path: str
    version: int
    fields: bytes
    rows: Rows

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        """The partitions of its rows; one where it is for every row, for they all have the same first ones."""
        if self.rows is None:
            return ((partition_of("", partitions, salt), self),)
        return super().parts(partitions, salt)


class Claim(_AtPath, tag="p"):
    """A copy of a row (see `boiler_beam.steps.row.Copy`), on its way to where all that want its path meet."""

    view: int
    row: str
    fields: bytes | None
    tainted_by: tuple[str, ...]


class State(_Message, tag="s", eq=False):
    """Accumulators of one aggregate, folded over a partition, by row."""

    view: int
    aggregate: int
    states: dict[str, Any]

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        """The partitions of its rows."""
        return [(p, State(self.view, self.aggregate, some)) for p, some in _by_row(self.states, partitions, salt)]


class Contribution(_ToRows, tag="a", eq=False):
    """What one document adds to an aggregate of rows that it may reach by several ways, to be added once."""

    view: int
    aggregate: int
    path: str
    value: Any
    rows: Rows


class Own(_Message, tag="o", eq=False):
    """Rows of groups that have a member: their keys by id."""

    view: int
    keys: dict[str, Any]

    def parts(self, partitions: int, salt: int = 0) -> Iterable[tuple[int, _Message]]:
        """The partitions of its rows."""
        return [(p, Own(self.view, some)) for p, some in _by_row(self.keys, partitions, salt)]


class Taint(_ToRows, tag="t"):
    """Rows that an invalid document may belong to; those of `is_root` whether or not they have a root."""

    view: int
    is_root: bool
    document: str
    rows: list[str]


class MayBelong(_Message, tag="m"):
    """An invalid document that may belong to any row of a view; see `boiler_beam.steps.taint.MayBelong`."""

    view: int
    document: str
    known: tuple[tuple[str, ...] | None, ...]


class Rendered(_Message, tag="R"):
    """A computed row, on its way to the sink."""

    view: int
    path: str
    fields: bytes
    tainted_by: tuple[str, ...] = ()


class Unknown(_Message, tag="U"):
    """The path of a row that is not known, on its way to the sink: what stands there stays."""

    view: int
    path: str
    tainted_by: tuple[str, ...] = ()


class Absent(_Message, tag="n"):
    """How many rows of a view are not there in one partition; see `boiler_beam.steps.missing.Absences`."""

    view: int
    lacking: int
    absent: int
    failed: int
    example: str


class Failure(_Message, tag="F"):
    """A dead letter."""

    letter: DeadLetter


class Statistics(_Message, tag="S"):
    """What one partition counted.

    Attributes:
        changes: Changes read.
        documents: Documents that stand.
        newest_version: The newest version of all.
        invalid_families: The places of the families that have an invalid document, or may have lost one.
        known: Of each family, how many documents stand, and how many have a newer version that is invalid.
    """

    changes: int
    documents: int
    newest_version: int
    invalid_families: list[int]
    known: list[tuple[int, int]] = []


Message = (
    Observed | Unreadable | Document | Invalid | Want | Hang | Value | Candidate | State | Contribution | Own | Taint
    | Claim | MayBelong | Rendered | Unknown | Absent | Failure | Statistics
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
