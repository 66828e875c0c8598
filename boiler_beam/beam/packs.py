"""The elements between the stages of a backfill: `(partition, pack)`, an int and the bytes of many messages.

Beam pays for each element; a pack holds the messages of one partition, so that it pays seldom. The coder is explicit
(a varint and length-prefixed bytes), `boiler_beam.steps.hash_join.messages` defines the form of a pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from boiler_beam.steps.hash_join import WRITE
from boiler_beam.steps.hash_join.messages import encode_packs

__all__ = ["PACKED", "Packer", "PackingDoFn", "packing"]

PACKED = tuple[int, bytes]
_PACK_MESSAGES = 1024
_FLUSH_EVERY = 8192


def packing(function: beam.DoFn, stages: Iterable[str], element: Any = None) -> Any:
    """A `ParDo` with an output of packs, with their coder, for each of some stages of the hash join, by name.

    Args:
        function: What yields the packs.
        stages: The stages.
        element: The type of the input; None: any.
    """
    types: dict[str, Any] = dict.fromkeys(stages, PACKED)
    transform = beam.ParDo(function).with_output_types(PACKED, **types)
    return (transform if element is None else transform.with_input_types(element)).with_outputs(*types)


class Packer:
    """Gathers messages by stage and partition, and makes packs of them.

    Args:
        partitions: How many partitions of documents and rows there are. What goes to the sink goes to partition 0.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._open: dict[str, dict[int, list[Any]]] = {}
        self._full: list[tuple[str, int, bytes]] = []

    def send(self, stage: str, message: Any) -> None:
        """Takes a message to a stage: a `Send` of the hash join."""
        waiting = self._open.get(stage)
        if waiting is None:
            waiting = self._open[stage] = {partition: [] for partition in range(self.partitions)}
        is_one = self.partitions == 1 or stage == WRITE
        parts = ((0, message),) if is_one else message.parts(self.partitions)
        for partition, part in parts:
            messages = waiting[partition]
            messages.append(part)
            if len(messages) == _PACK_MESSAGES:
                self._close(stage, partition, messages)

    def _close(self, stage: str, partition: int, messages: list[Any]) -> None:
        self._full += [(stage, partition, pack) for pack in encode_packs(messages)]
        messages.clear()

    def full(self) -> Iterator[pvalue.TaggedOutput]:
        """Yields the full packs."""
        full, self._full = self._full, []
        for stage, partition, pack in full:
            yield pvalue.TaggedOutput(stage, (partition, pack))

    def rest(self) -> Iterator[pvalue.TaggedOutput]:
        """All that is left."""
        for stage, waiting in self._open.items():
            for partition, messages in waiting.items():
                if messages:
                    self._close(stage, partition, messages)
        yield from self.full()


class PackingDoFn(beam.DoFn):  # type: ignore[misc]
    """Base of what packs the elements of a bundle: `process` returns what `send` returns.

    Args:
        partitions: The number of partitions.
    """

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions

    def start_bundle(self) -> None:
        """Starts with no messages."""
        self.packer, self._number = Packer(self.partitions), 0

    def send(self, stage: str, message: Any) -> Iterable[Any]:
        """Takes a message to a stage, and returns full packs now and then."""
        self.packer.send(stage, message)
        self._number += 1
        return self.packer.full() if self._number % _FLUSH_EVERY == 0 else ()

    def finish_bundle(self) -> Iterator[Any]:
        """Yields the remaining packs."""
        for output in self.packer.rest():
            output.value = WindowedValue(output.value, GlobalWindow().max_timestamp(), (GlobalWindow(),))
            yield output
