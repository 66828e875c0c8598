"""Elements on their way between stages: `(partition, pack)`, an int and the bytes of many messages.

Beam pays for each element; a pack holds the messages of one partition, so that it pays seldom. The coder is explicit
(a varint and length-prefixed bytes), the form of a pack is `boiler_beam.steps.hash_join.messages`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import pvalue

from boiler_beam.steps.hash_join import CLAIMS, ROWS, WRITE
from boiler_beam.steps.hash_join.messages import encode_packs

__all__ = ["PACKED", "Packer", "packing", "tag_of"]

PACKED = tuple[int, bytes]
_PACK_MESSAGES = 1024


def tag_of(place: int) -> str:
    """The output that carries messages to a place: `rows`, `claims`, `write`, or `level1`, `level2`, ..."""
    return {ROWS: "rows", CLAIMS: "claims", WRITE: "write"}.get(place, f"level{place}")


def packing(function: beam.DoFn, places: Iterable[int]) -> Any:
    """A `ParDo` with an output of packs for each of some places, with their coder: `outputs[tag_of(place)]`."""
    tags = [tag_of(place) for place in places]
    typed = beam.ParDo(function).with_output_types(PACKED, **dict.fromkeys(tags, PACKED))
    return typed.with_outputs(*tags)


class Packer:
    """Gathers messages by place and partition, and gives them away as packs.

    Args:
        partitions: How many partitions documents and rows lie in. What goes to the sink goes to one place, 0.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._open: dict[int, dict[int, list[Any]]] = {}
        self._full: list[tuple[int, int, bytes]] = []

    def send(self, place: int, message: Any) -> None:
        """Takes a message to a place: what `boiler_beam.steps.hash_join` calls `Send`."""
        waiting = self._open.get(place)
        if waiting is None:
            waiting = self._open[place] = {partition: [] for partition in range(self.partitions)}
        is_one = self.partitions == 1 or place == WRITE
        parts = ((0, message),) if is_one else message.parts(self.partitions)
        for partition, part in parts:
            messages = waiting[partition]
            messages.append(part)
            if len(messages) == _PACK_MESSAGES:
                self._close(place, partition, messages)

    def _close(self, place: int, partition: int, messages: list[Any]) -> None:
        self._full += [(place, partition, pack) for pack in encode_packs(messages)]
        messages.clear()

    def full(self) -> Iterator[pvalue.TaggedOutput]:
        """The packs that are full."""
        full, self._full = self._full, []
        for place, partition, pack in full:
            yield pvalue.TaggedOutput(tag_of(place), (partition, pack))

    def rest(self) -> Iterator[pvalue.TaggedOutput]:
        """All that is left."""
        for place, waiting in self._open.items():
            for partition, messages in waiting.items():
                if messages:
                    self._close(place, partition, messages)
        yield from self.full()
