"""The elements between the stages of a backfill: `(partition, pack)`, an int and the bytes of many messages.

Each element costs Beam time; a pack holds many messages of one partition. The coder is explicit (a varint and
length-prefixed bytes), and `boiler_beam.steps.messages` defines the form of a pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import pvalue

from boiler_beam.steps.messages import encode_packs
from boiler_beam.steps.partition import CLAIMS, ROWS, WRITE

__all__ = ["PACKED", "Packer", "packing", "tag_of"]

PACKED = tuple[int, bytes]
_PACK_MESSAGES = 1024


def tag_of(place: int) -> str:
    """Returns the tag of the output to a destination: `rows`, `claims`, `write`, or `level1`, `level2`, ..."""
    return {ROWS: "rows", CLAIMS: "claims", WRITE: "write"}.get(place, f"level{place}")


def packing(function: beam.DoFn, places: Iterable[int]) -> Any:
    """Returns a `ParDo` with an output of packs, with their coder, for each destination: `outputs[tag_of(place)]`."""
    tags = [tag_of(place) for place in places]
    typed = beam.ParDo(function).with_output_types(PACKED, **dict.fromkeys(tags, PACKED))
    return typed.with_outputs(*tags)


class Packer:
    """Gathers messages by destination and partition, and returns them as packs.

    Args:
        partitions: The number of partitions of documents and rows. Output for the sink is in one partition, 0.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._open: dict[int, dict[int, list[Any]]] = {}
        self._full: list[tuple[int, int, bytes]] = []

    def send(self, place: int, message: Any) -> None:
        """Adds a message for a destination; this is the `Send` of `boiler_beam.steps.partition`."""
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
        """Yields the full packs."""
        full, self._full = self._full, []
        for place, partition, pack in full:
            yield pvalue.TaggedOutput(tag_of(place), (partition, pack))

    def rest(self) -> Iterator[pvalue.TaggedOutput]:
        """Yields the remaining packs."""
        for place, waiting in self._open.items():
            for partition, messages in waiting.items():
                if messages:
                    self._close(place, partition, messages)
        yield from self.full()
