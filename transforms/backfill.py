"""The backfill as a Beam pipeline: reads, newest versions, one grouping for each level of edges, rows, writes.

    ReadChanges -> Newest -> Level1 ... LevelN -> Rows (-> Claims) -> WriteRows

Every stage is a grouping by partition and one function of `boiler_beam.steps.hash_join`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import apache_beam as beam

from boiler_beam.engine.partition import compute_rows
from boiler_beam.plan import PlanName, load_plan
from boiler_beam.steps.hash_join import (
    CLAIMS,
    OBSERVED,
    ROWS,
    WRITE,
    HashJoinPlan,
    Send,
    index_documents,
    join_level,
    join_stage,
    render_rows,
    settle_claims,
)
from boiler_beam.steps.hash_join.messages import decode_pack
from boiler_beam.steps.hash_join.spill import messages_within
from transforms.packs import Packer, packing
from transforms.read import ReadChanges
from transforms.write import Destination, WriteRows

__all__ = ["Backfill"]

MEMORY_BYTES = 128 << 20
"""The bytes of packs that are joined in memory at once; as objects they need five times as much."""


@lru_cache(maxsize=4)
def _plan(views: PlanName) -> HashJoinPlan:
    return HashJoinPlan(load_plan(views))


class Backfill(beam.PTransform):  # type: ignore[misc]
    """Computes the rows of some views from bounded sources and writes them to a sink.

    Args:
        views: The plan of the views, importable on the workers.
        splits: URI and split of each part of the sources.
        destination: Where rows and dead letters go.
        partitions: The number of partitions of documents and rows.
        memory_bytes: The share of memory of one partition's part.
        is_whole: Whether all documents fit one worker's memory: then there is one grouping, and the embedded engine
            behind it.
    """

    def __init__(
        self,
        views: PlanName,
        splits: Sequence[tuple[str, str]],
        destination: Destination,
        *,
        partitions: int,
        memory_bytes: int = MEMORY_BYTES,
        is_whole: bool = False,
    ) -> None:
        super().__init__()
        self.is_whole = is_whole
        self.views, self.splits, self.destination = views, splits, destination
        self.partitions, self.memory_bytes = partitions, memory_bytes

    def expand(self, pipeline: Any) -> Any:
        """Builds it on a pipeline."""
        plan = _plan(self.views)
        is_claimed = any(not view.paths.is_unique for view in plan.plan.views)
        joins = {join_stage(level): f"Level{level}" for level in range(1, plan.depth + 1)}
        labels = {OBSERVED: "Newest", **joins, ROWS: "Rows", **({CLAIMS: "Claims"} if is_claimed else {})}
        stages = [*labels, WRITE]
        read = pipeline | "ReadChanges" >> ReadChanges(self.views, self.splits, self.partitions)
        if self.is_whole:
            grouped = read[OBSERVED] | "All/Group" >> beam.GroupByKey()
            computed = grouped | "All/Compute" >> packing(_Everything(self.views), [WRITE])
            gathered = (read[WRITE], computed[WRITE]) | "Write/Flatten" >> beam.Flatten()
            return gathered | "WriteRows" >> WriteRows(self.views, self.destination)
        arriving: dict[str, list[Any]] = {stage: [] for stage in stages}
        for stage in (OBSERVED, WRITE):
            arriving[stage].append(read[stage])
        for number, (stage, label) in enumerate(labels.items()):
            later = stages[number + 1 :]
            function = _Stage(self.views, stage, number, self.partitions, self.memory_bytes)
            outputs = (
                arriving[stage]
                | f"{label}/Flatten" >> beam.Flatten()
                | f"{label}/Group" >> beam.GroupByKey()
                | f"{label}/Join" >> packing(function, later)
            )
            for other in later:
                arriving[other].append(outputs[other])
        gathered = arriving[WRITE] | "Write/Flatten" >> beam.Flatten()
        return gathered | "WriteRows" >> WriteRows(self.views, self.destination)


class _Everything(beam.DoFn):  # type: ignore[misc]
    """The embedded engine over the messages of the only partition."""

    def __init__(self, views: PlanName) -> None:
        self.views = views

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        _, packs = element
        packer = Packer(1)
        compute_rows(_plan(self.views).plan, (message for pack in packs for message in decode_pack(pack)), packer.send)
        yield from packer.rest()


class _Stage(beam.DoFn):  # type: ignore[misc]
    """One stage of the hash join over a partition's messages; of a join `number` is its level."""

    def __init__(self, views: PlanName, stage: str, number: int, partitions: int, memory_bytes: int) -> None:
        self.views, self.stage, self.number = views, stage, number
        self.partitions, self.memory_bytes = partitions, memory_bytes

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        _, packs = element
        plan = _plan(self.views)
        for messages in messages_within(packs, self.memory_bytes):
            packer = Packer(self.partitions)
            self._join(plan, messages, packer.send)
            yield from packer.rest()

    def _join(self, plan: HashJoinPlan, messages: Iterable[Any], send: Send) -> None:
        if self.stage == OBSERVED:
            index_documents(plan, messages, send)
        elif self.stage == ROWS:
            render_rows(plan, messages, send)
        elif self.stage == CLAIMS:
            settle_claims(plan, messages, send)
        else:
            join_level(plan, self.number, messages, send)
