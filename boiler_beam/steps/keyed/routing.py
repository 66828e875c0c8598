"""Where messages go: the step and the key.

| step | key | takes |
| --- | --- | --- |
| `users/Documents` | document | changes of roots, groups and referrers |
| `tickets/Join` | document, or parent of referrers | changes (references), `SubscriptionDelta`, `DocumentDelta` |
| `users/PathCount` | row and document | `CandidateDelta` |
| `users/Limit` | row | `CandidateDelta` |
| `num_names/Distinct` | row and value | `ValueCountDelta` |
| `largest/Ranking` | row | `RankedValuesDelta` |
| `Row` | row | `MembershipDelta`, `DistinctDelta`, `FirstValues`, `Touch` |
| `Claim` | row path | `Claim`, `Touch` |
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from typing_extensions import assert_never

from boiler_beam.events import Change, Touch
from boiler_beam.plan import Fixed
from boiler_beam.steps.keyed.messages import (
    CandidateDelta,
    Claim,
    DistinctDelta,
    DocumentDelta,
    FirstValues,
    Input,
    MembershipDelta,
    Message,
    RankedValuesDelta,
    SubscriptionDelta,
    ValueCountDelta,
)
from boiler_beam.steps.keyed.plan import KeyedView

__all__ = ["CLAIM", "ROW", "SHARDS", "Key", "address", "addresses_of_change", "is_removal"]

ROW, CLAIM = "Row", "Claim"
SHARDS = 16
"""The number of shards of a fixed document, to which every row subscribes (S12)."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, object]).decode


class Key(NamedTuple):
    """What one cell of a step is kept for.

    >>> Key.decode(Key("o1", "items/i1").encode())
    Key(name='o1', part='items/i1')

    Attributes:
        name: A row, a row path or a document.
        part: Of a row: the path of one of its documents, or one of its values as bytes. Of a fixed document: a shard.
    """

    name: str
    part: str | bytes | int | None = None

    def encode(self) -> bytes:
        """The bytes by which a runner groups."""
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Key:
        """The key of such bytes."""
        return cls(*_decode(data))  # type: ignore[arg-type]


def addresses_of_change(view: KeyedView, path: str) -> Iterator[tuple[str, Key]]:
    """The label and key of each step that takes a change of a document: of every edge that may show it."""
    for type_index in view.plan.types_of(path):
        for one in view.edges_of_type[type_index]:
            if not isinstance(one.edge, Fixed):
                yield one.input, Key(path)
            elif path == one.edge.path:
                yield from ((one.input, Key(path, shard)) for shard in range(SHARDS))


def address(view: KeyedView, message: Message | Touch) -> tuple[str, Key]:
    """The label and key of the step that takes a message."""
    edges, aggregates, paths = view.edges, view.view.aggregates, view.view.paths
    match message:
        case DocumentDelta():
            return edges[message.edge_index].join, Key(message.key)
        case SubscriptionDelta():
            edge = edges[message.edge_index]
            shard = _shard_of(message.row) if isinstance(edge.edge, Fixed) else None
            return edge.join, Key(message.key, shard)
        case CandidateDelta():
            edge = edges[message.edge_index]
            if edge.planned.counts_paths:
                return edge.path_count, Key(message.row, message.path)
            return edge.limit, Key(message.row)
        case ValueCountDelta():
            return distinct_label(aggregates[message.aggregate_index].name), Key(message.row, message.value)
        case RankedValuesDelta():
            return ranking_label(aggregates[message.aggregate_index].name), Key(message.row)
        case MembershipDelta() | DistinctDelta() | FirstValues():
            return ROW, Key(message.row)
        case Claim():
            return CLAIM, Key(message.path)
        case Touch():
            if paths.is_unique:
                return ROW, Key(paths.row_id_of(message.path))
            return CLAIM, Key(message.path)
        case _:
            assert_never(message)


def distinct_label(aggregate: str) -> str:
    """The label of the step that counts an aggregate's distinct values."""
    return f"{aggregate}/Distinct"


def ranking_label(aggregate: str) -> str:
    """The label of the step that keeps an aggregate's values in order."""
    return f"{aggregate}/Ranking"


def _shard_of(row: str) -> int:
    return zlib.crc32(row.encode("utf-8", "surrogatepass")) % SHARDS


def is_removal(message: Input) -> bool:
    """Whether something is removed by it, so that its cell may become empty (S3)."""
    match message:
        case Change():
            return message.is_deleted
        case SubscriptionDelta() | CandidateDelta() | ValueCountDelta() | DistinctDelta():
            return message.weight < 0
        case RankedValuesDelta():
            return any(weight < 0 for _, weight in message.values)
        case Claim():
            return message.fields is None
        case MembershipDelta() | DocumentDelta():
            return message.new is None
        case FirstValues():
            return not message.values
        case Touch():
            return False
        case _:
            assert_never(message)
