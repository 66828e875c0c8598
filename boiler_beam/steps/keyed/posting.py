"""Messages of what steps send, and where each goes: the stages of a stream that runs on many machines.

| stage | key | takes |
| --- | --- | --- |
| `users/Down` | document | changes: of a root, group or referrers |
| `users/Up` | document, or what documents refer to | changes and `Wanted` (references: both steps in one), `Lies` |
| `users/Ways` | row and document | `Candidate` |
| `users/First` | row | `Candidate` |
| `num_names/Distinct` | row and value | `Counted` |
| `largest/Rank` | row | `Added` |
| `Row` | row | `Shown`, `Ranked`, `Doubted` |
| `Claim` | row path | `Claimed`, `Doubted` |
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from typing_extensions import assert_never

from boiler_beam.events import Change
from boiler_beam.models import narrow_fields
from boiler_beam.plan import Fixed, Reference
from boiler_beam.steps.stream.messages import (
    Added,
    Candidate,
    Claimed,
    Counted,
    Doubted,
    Held,
    Lies,
    Message,
    Part,
    Ranked,
    Shown,
    State,
    Wanted,
)
from boiler_beam.steps.stream.plan import StreamPlan

__all__ = ["CLAIM", "ROW", "Address", "Posting", "address", "addresses_of_change", "is_first_shard", "is_fused"]
__all__ += ["is_going"]

ROW, CLAIM = "Row", "Claim"
SHARDS = 16
"""Of a fixed document: every row wants it (S12)."""


class Address(NamedTuple):
    """The stage and the key that a message goes to."""

    stage: str
    key: str


def is_fused(plan: StreamPlan, edge: int) -> bool:
    """Whether down and up are one stage: a document lies at its own path."""
    return isinstance(plan.edges[edge][1], (Reference, Fixed))


def addresses_of_change(plan: StreamPlan, path: str) -> Iterator[Address]:
    """Where a change of a document goes: to every edge that may show it."""
    for family in plan.plan.families_of(path):
        for number in plan.of_family[family]:
            edge = plan.edges[number][1]
            if isinstance(edge, Fixed):
                if path == edge.path:
                    yield from (Address(f"{edge.name}/Up", _sharded(path, shard)) for shard in range(SHARDS))
            else:
                yield Address(f"{edge.name}/{'Up' if is_fused(plan, number) else 'Down'}", path)


def _sharded(path: str, shard: int) -> str:
    return f"{path}\0{shard}"


def is_first_shard(key: str) -> bool:
    """Whether the key of a fixed document is that of its first shard, which each change of it comes to."""
    return key.endswith("\0" + "0")


def address(plan: StreamPlan, message: Message) -> Address:
    """Where a message goes."""
    names = plan.places
    match message:
        case Lies():
            return Address(f"{names[message.edge][1]}/Up", message.key)
        case Wanted():
            key = message.key
            if isinstance(plan.edges[message.edge][1], Fixed):
                key = _sharded(key, zlib.crc32(message.row.encode("utf-8", "surrogatepass")) % SHARDS)
            return Address(f"{names[message.edge][1]}/Up", key)
        case Candidate():
            name = names[message.edge][1]
            if plan.counts_ways[message.edge]:
                return Address(f"{name}/Ways", f"{message.row}\0{message.path}")
            return Address(f"{name}/First", message.row)
        case Counted():
            name = _aggregate(plan, message).name
            return Address(f"{name}/Distinct", f"{message.row}\0{message.value.decode('latin-1')}")
        case Added():
            return Address(f"{_aggregate(plan, message).name}/Rank", message.row)
        case Shown() | Ranked():
            return Address(ROW, message.row)
        case Claimed():
            return Address(CLAIM, message.path)
        case Doubted():
            paths = plan.plan.views[message.view].paths
            return Address(ROW, paths.row_id_of(message.path)) if paths.is_unique else Address(CLAIM, message.path)
        case _:
            assert_never(message)


def is_going(message: Change | Message) -> bool:
    """Whether something goes by it, so that its cell may be left with nothing (S3)."""
    match message:
        case Change():
            return message.is_deleted
        case Wanted() | Candidate() | Counted():
            return message.weight < 0
        case Added():
            return any(weight < 0 for _, weight in message.values)
        case Shown():
            return message.new is None
        case Claimed():
            return message.fields is None
        case Lies():
            return message.new.role is None
        case Ranked():
            return not message.values
        case Doubted():
            return False
        case _:
            assert_never(message)


def _aggregate(plan: StreamPlan, message: Counted | Added) -> Any:
    return plan.plan.views[plan.edges[message.edge][0]].aggregates[message.aggregate]


class Posting:
    """Makes messages of what steps send; see `Out`.

    Args:
        plan: The views.
        post: Takes them.
    """

    def __init__(self, plan: StreamPlan, post: Callable[[Message], None]) -> None:
        self.plan, self.post = plan, post

    def lies(self, edge: int, key: str, path: str, old: State | None, new: State, version: int, /) -> None:
        """See `Out`."""
        self.post(Lies(edge, key, path, old, new, version))

    def touched(self, edge: int, path: str, version: int, /) -> None:
        """See `Out`."""
        raise AssertionError("no edge is bare where rows hold documents")

    def wanted(self, edge: int, key: str, row: str, weight: int, version: int, /) -> None:
        """See `Out`."""
        self.post(Wanted(edge, key, row, weight, version))

    def candidate(self, edge: int, row: str, path: str, weight: int, state: State, version: int, /) -> None:
        """See `Out`."""
        self.post(Candidate(edge, row, path, weight, state, version))

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
        """See `Out`; what needs an order goes to where that is kept."""
        aggregates = self.plan.plan.views[self.plan.edges[edge][0]].aggregates
        ranked: dict[int, list[tuple[Any, int]]] = {}
        others = []
        for place, value, times in parts:
            if aggregates[place].fold.keeps == "ranking":
                ranked.setdefault(place, []).append((value, times))
            else:
                others.append((place, value, times))
        for place, values in ranked.items():
            self.post(Added(edge, place, row, path, values, version))
        if others or member is not None or self.plan.travels[edge]:
            held = None if new is None else self._held(edge, path, new)
            sequence = None if old is None else old.sequence
            self.post(Shown(edge, row, path, weight, sequence, held, others, member, version))

    def _held(self, edge: int, path: str, state: State) -> Held:
        if state.role is None:
            return Held(state.sequence, False, b"", state.version, [])
        names, fields = self.plan.travelling[edge], state.fields
        if names is not None:
            fields = narrow_fields(fields, names)
        links = [link for link in self.plan.links(state.role, path) if self.plan.awaited[link[0]]]
        return Held(state.sequence, True, fields, state.version, links)

    def counted(self, edge: int, aggregate: int, row: str, value: bytes, weight: int, version: int, /) -> None:
        """See `Out`."""
        self.post(Counted(edge, aggregate, row, value, weight, version))
