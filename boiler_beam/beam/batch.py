"""The backfill as a Beam pipeline: newest versions, one grouping for each level of edges, rows.

    Pack -> Newest -> Level1 ... LevelN -> Rows (-> Claims) -> Result

Every stage is a grouping by partition and one function of `boiler_beam.steps.hash_join`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import apache_beam as beam
from apache_beam import pvalue

from boiler_beam.beam.elements import Changes, ComputedRows
from boiler_beam.beam.packs import PACKED, Packer, PackingDoFn, packing
from boiler_beam.engine.partition import compute_rows
from boiler_beam.events import Change, DeadLetter, Row
from boiler_beam.plan import Plan, PlanName, load_plan
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
from boiler_beam.steps.hash_join.messages import (
    Failure,
    Observed,
    RowCopy,
    Statistics,
    TaintedRow,
    ViewTaint,
    decode_pack,
    encode_packs,
)
from boiler_beam.steps.hash_join.spill import messages_within
from boiler_beam.steps.newest import types_lost
from boiler_beam.steps.taint import PossibleMember

__all__ = ["Backfill", "Batch"]

_FACTS, _DEAD_LETTERS, _NOTES = "facts", "dead_letters", "notes"


@dataclass(frozen=True)
class Batch:
    """How a backfill is computed.

    Attributes:
        generation: The generation of the rows, by the name of their view.
        read_time: The version of the rows, in microseconds since the epoch; None: the newest version read.
        partitions: The number of partitions of documents and rows.
        memory_bytes: The bytes of packs that are joined in memory at once; as objects they need five times as much.
        in_memory: Whether all documents fit one worker's memory: then there is one grouping, and the embedded engine
            behind it.
    """

    generation: dict[str, int]
    read_time: int | None = None
    partitions: int = 32
    memory_bytes: int = 128 << 20
    in_memory: bool = False


@lru_cache(maxsize=4)
def _plan(views: PlanName) -> HashJoinPlan:
    return HashJoinPlan(load_plan(views))


@dataclass(frozen=True)
class Backfill:
    """Computes the rows of some views from the newest versions of all documents.

    Attributes:
        views: The plan of the views, importable on the workers.
        batch: How they are computed.
    """

    views: PlanName
    batch: Batch

    def compute(self, given: Changes) -> ComputedRows:
        """Adds the stages to a pipeline, behind changes and the dead letters of their sources."""
        partitions = 1 if self.batch.in_memory else self.batch.partitions
        packed = [given.changes | "Pack" >> packing(_Pack(self.views, partitions), (OBSERVED, WRITE), Change)]
        dead_letters = []
        if given.dead_letters is not None:
            dead_letters = [given.dead_letters]
            unreadable = packing(_PackUnreadable(self.views, partitions), (OBSERVED, WRITE))
            packed.append(given.dead_letters | "PackUnreadable" >> unreadable)
        arriving = {stage: [one[stage] for one in packed] for stage in (OBSERVED, WRITE)}
        if self.batch.in_memory:
            grouped = arriving[OBSERVED] | "All/Flatten" >> beam.Flatten() | "All/Group" >> beam.GroupByKey()
            computed = grouped | "All/Compute" >> packing(_Everything(self.views), [WRITE])
            arriving[WRITE].append(computed[WRITE])
        else:
            self._join(arriving)
        return self._result(arriving[WRITE] | "Result/Flatten" >> beam.Flatten(), dead_letters)

    def _join(self, arriving: dict[str, list[Any]]) -> None:
        """Adds the stages of the hash join, from `OBSERVED` to `WRITE`."""
        plan = _plan(self.views)
        is_claimed = any(not view.paths.is_unique for view in plan.plan.views)
        joins = {join_stage(level): f"Level{level}" for level in range(1, plan.depth + 1)}
        labels = {OBSERVED: "Newest", **joins, ROWS: "Rows", **({CLAIMS: "Claims"} if is_claimed else {})}
        stages = [*labels, WRITE]
        for number, (stage, label) in enumerate(labels.items()):
            later = stages[number + 1 :]
            function = _Stage(self.views, stage, number, self.batch.partitions, self.batch.memory_bytes)
            outputs = (
                arriving[stage]
                | f"{label}/Flatten" >> beam.Flatten()
                | f"{label}/Group" >> beam.GroupByKey()
                | f"{label}/Join" >> packing(function, later)
            )
            for other in later:
                arriving.setdefault(other, []).append(outputs[other])

    def _result(self, gathered: Any, dead_letters: list[Any]) -> ComputedRows:
        facts = gathered | "Result/Facts" >> beam.ParDo(_Facts()).with_output_types(bytes)
        types: Any = {_DEAD_LETTERS: DeadLetter, _NOTES: bytes}
        found = gathered | "Result/Rows" >> (
            beam.ParDo(_Result(self.views, self.batch), facts=pvalue.AsList(facts))
            .with_output_types(Row, **types)
            .with_outputs(*types, main="rows")
        )
        dead = [found[_DEAD_LETTERS], *dead_letters] | "Result/DeadLetters" >> beam.Flatten()
        return ComputedRows(found["rows"], dead, found[_NOTES])


class _Pack(PackingDoFn):
    """Packs changes by the partition of their document; those of other collections are only counted."""

    def __init__(self, views: PlanName, partitions: int) -> None:
        super().__init__(partitions)
        self.views = views

    def start_bundle(self) -> None:
        """Starts with no changes."""
        super().start_bundle()
        self.plan, self.number, self.newest = load_plan(self.views), 0, 0

    def process(self, element: Change) -> Iterable[Any]:
        self.number += 1
        self.newest = max(self.newest, element.version)
        if not self.plan.types_of(element.path):
            return ()
        return self.send(OBSERVED, Observed(element.path, element.version, bytes(element.fields)))

    def finish_bundle(self) -> Iterator[Any]:
        """Yields the remaining packs, and what was counted."""
        self.packer.send(WRITE, Statistics(self.number, self.newest))
        yield from super().finish_bundle()


class _PackUnreadable(PackingDoFn):
    """Packs the paths of documents of which a version can't be read."""

    def __init__(self, views: PlanName, partitions: int) -> None:
        super().__init__(partitions)
        self.views = views

    def process(self, element: DeadLetter) -> Iterable[Any]:
        lost = types_lost(load_plan(self.views), element)
        yield from self.send(WRITE, Statistics(lost_types=sorted(lost)))
        if element.path is not None:
            yield from self.send(OBSERVED, Observed(element.path, 0, None))


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


class _Facts(beam.DoFn):  # type: ignore[misc]
    """Sends what must be known of all documents before the first row."""

    def process(self, element: PACKED) -> Iterator[bytes]:
        some = [one for one in decode_pack(element[1]) if isinstance(one, (Statistics, ViewTaint))]
        if some:
            yield from encode_packs(some)


class _Result(beam.DoFn):  # type: ignore[misc]
    """Rows with their stamps, dead letters, and notes for who writes rows to a sink.

    A row that an invalid document may belong to has generation 0, so it is written only where no row is (S5).
    """

    def __init__(self, views: PlanName, batch: Batch) -> None:
        self.views, self.batch = views, batch

    def process(self, element: PACKED, facts: list[bytes]) -> Iterator[Any]:
        plan = load_plan(self.views)
        version, suspects = _known(plan, facts)
        if self.batch.read_time is not None:
            version = self.batch.read_time
        notes = []
        for message in decode_pack(element[1]):
            match message:
                case RowCopy(fields=bytes()):
                    view, path = plan.views[message.view_index], message.path
                    is_tainted = bool(message.tainted_by)
                    if is_tainted:
                        notes.append(TaintedRow(message.view_index, path, message.tainted_by))
                    is_tainted = is_tainted or any(
                        one.includes_path(view, path) for one in suspects[message.view_index]
                    )
                    generation = 0 if is_tainted else self.batch.generation[view.name]
                    yield Row(view.name, path, generation, version, 0, message.fields)
                case Failure():
                    yield pvalue.TaggedOutput(_DEAD_LETTERS, message.dead_letter)
                case _:
                    notes.append(message)
        if notes:
            for pack in encode_packs(notes):
                yield pvalue.TaggedOutput(_NOTES, pack)


def _known(plan: Plan, facts: Iterable[bytes]) -> tuple[int, list[list[PossibleMember]]]:
    """Returns the newest version of all, and of each view the invalid documents that may belong to any row."""
    version, suspects = 0, [list[PossibleMember]() for _ in plan.views]
    for pack in facts:
        for message in decode_pack(pack):
            if isinstance(message, Statistics):
                version = max(version, message.newest_version)
            else:
                suspects[message.view_index].append(message.member)
    return version, suspects
