"""Reads sources for a backfill: changes in packs, by the partition of their document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam

from boiler_beam.connectors import open_source
from boiler_beam.events import DeadLetter
from boiler_beam.plan import PlanName, load_plan
from boiler_beam.steps.hash_join import OBSERVED, WRITE
from boiler_beam.steps.hash_join.messages import Failure, Observed, Statistics, Unreadable
from boiler_beam.steps.newest import families_lost
from transforms.packs import Packer, packing

__all__ = ["ReadChanges"]

_FLUSH_EVERY = 8192


class ReadChanges(beam.PTransform):  # type: ignore[misc]
    """Reads every split of some sources in parallel.

    Args:
        views: The views (`module:Class`) whose documents are read; other documents are counted and skipped.
        splits: URI and split of each part.
        partitions: How many partitions of documents there are.

    Returns:
        A tuple of PCollections of `(partition, pack)`: tag `observed` holds changes, `write` dead letters and counts.
    """

    def __init__(self, views: PlanName, splits: Sequence[tuple[str, str]], partitions: int) -> None:
        super().__init__()
        self.views, self.splits, self.partitions = views, list(splits), partitions

    def expand(self, pipeline: Any) -> Any:
        """Applies it to a pipeline."""
        return (
            pipeline
            | "Splits" >> beam.Create(self.splits, reshuffle=True).with_output_types(tuple[str, str])
            | "Read" >> packing(_Read(self.views, self.partitions), (OBSERVED, WRITE))
        )


class _Read(beam.DoFn):  # type: ignore[misc]
    def __init__(self, views: PlanName, partitions: int) -> None:
        self.views, self.partitions = views, partitions

    def process(self, element: tuple[str, str]) -> Iterator[Any]:
        uri, split = element
        plan = load_plan(self.views)
        packer = Packer(self.partitions)
        number = newest = 0
        lost: set[int] = set()
        for change in open_source(uri).read(split):
            if isinstance(change, DeadLetter):
                packer.send(WRITE, Failure(change))
                lost.update(families_lost(plan, change))
                if change.path is not None:
                    packer.send(OBSERVED, Unreadable(change.path))
                continue
            number += 1
            newest = max(newest, change.version)
            if plan.families_of(change.path):
                packer.send(OBSERVED, Observed(change.path, change.version, bytes(change.fields)))
            if number % _FLUSH_EVERY == 0:
                yield from packer.full()
        packer.send(WRITE, Statistics(number, 0, newest, sorted(lost)))
        yield from packer.rest()
