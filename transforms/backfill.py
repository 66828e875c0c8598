"""The backfill as a Beam pipeline: reads, newest versions, one grouping for each level of edges, rows, writes.

    ReadChanges -> Newest -> Level1 ... LevelN -> Rows (-> Claims) -> WriteRows

Every stage is a grouping by partition and one function of `boiler_beam.steps.partition`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import apache_beam as beam

from boiler_beam.plan import PlanName, load_plan
from boiler_beam.steps.partition import (
    CLAIMS,
    ROWS,
    WRITE,
    PartitionedPlan,
    Send,
    ask_documents,
    join_level,
    render_rows,
    settle_claims,
)
from boiler_beam.steps.spill import messages_within
from transforms.packs import Packer, packing, tag_of
from transforms.read import OBSERVED, ReadChanges
from transforms.write import Destination, WriteRows

__all__ = ["Backfill"]

MEMORY_BYTES = 128 << 20
"""The bytes of packs that are joined in memory at once; as objects they need five times as much."""


@lru_cache(maxsize=4)
def _partitioned(views: PlanName) -> PartitionedPlan:
    return PartitionedPlan(load_plan(views))


class Backfill(beam.PTransform):  # type: ignore[misc]
    """Computes the rows of some views from bounded sources and writes them to a sink.

    Args:
        views: The plan of the views, importable on the workers.
        splits: URI and split of each part of the sources.
        destination: Where rows and dead letters go.
        partitions: The number of partitions of documents and rows.
        memory_bytes: The memory for one part of a partition, in bytes of packs.
    """

    def __init__(
        self,
        views: PlanName,
        splits: Sequence[tuple[str, str]],
        destination: Destination,
        *,
        partitions: int,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        super().__init__()
        self.views, self.splits, self.destination = views, splits, destination
        self.partitions, self.memory_bytes = partitions, memory_bytes

    def expand(self, pipeline: Any) -> Any:
        """Applies it to a pipeline."""
        plan = _partitioned(self.views)
        is_claimed = any(not view.paths.is_unique for view in plan.plan.views)
        places = [*range(1, plan.depth + 1), ROWS, *([CLAIMS] if is_claimed else []), WRITE]
        arriving: dict[int, list[Any]] = {place: [] for place in places}
        read = pipeline | "ReadChanges" >> ReadChanges(self.views, self.splits, self.partitions)
        arriving[WRITE].append(read[tag_of(WRITE)])
        stages: list[tuple[str, int, Any]] = [("Newest", OBSERVED, read[tag_of(OBSERVED)])]
        stages += [(f"Level{level}", level, None) for level in range(1, plan.depth + 1)]
        stages.append(("Rows", ROWS, None))
        if is_claimed:
            stages.append(("Claims", CLAIMS, None))
        order = {place: number for number, place in enumerate([OBSERVED, *places])}
        for label, place, source in stages:
            if source is None:
                source = arriving[place] | f"{label}/Flatten" >> beam.Flatten()
            outputs = (
                source
                | f"{label}/Group" >> beam.GroupByKey()
                | f"{label}/Join" >> packing(_Stage(self.views, place, self.partitions, self.memory_bytes), places)
            )
            for later in places:
                if order[later] > order[place]:
                    arriving[later].append(outputs[tag_of(later)])
        gathered = arriving[WRITE] | "Write/Flatten" >> beam.Flatten()
        return gathered | "WriteRows" >> WriteRows(self.views, self.destination)


class _Stage(beam.DoFn):  # type: ignore[misc]
    """Calls one function of `boiler_beam.steps.partition` with the messages of a partition."""

    def __init__(self, views: PlanName, place: int, partitions: int, memory_bytes: int) -> None:
        self.views, self.place, self.partitions, self.memory_bytes = views, place, partitions, memory_bytes

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        _, packs = element
        function = self._function()
        for messages in messages_within(packs, self.memory_bytes):
            packer = Packer(self.partitions)
            function(messages, packer.send)
            yield from packer.rest()

    def _function(self) -> Callable[[Iterable[Any], Send], None]:
        plan = _partitioned(self.views)
        if self.place == OBSERVED:
            return lambda messages, send: ask_documents(plan, messages, send)
        if self.place == ROWS:
            return lambda messages, send: render_rows(plan, messages, send)
        if self.place == CLAIMS:
            return lambda messages, send: settle_claims(plan, messages, send)
        return lambda messages, send: join_level(plan, self.place, messages, send)
