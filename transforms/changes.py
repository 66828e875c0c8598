"""Reads bounded sources for a stream: each change is one element, as bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from boiler_beam.connectors import open_source
from boiler_beam.events import DeadLetter
from boiler_beam.plan import Plan, PlanName, load_plan
from boiler_beam.steps.keyed.wire import encode, encode_letter
from boiler_beam.steps.newest import families_lost
from transforms.stateful import LETTERS
from transforms.write import NAMESPACE

__all__ = ["ReadStream"]


class ReadStream(beam.PTransform):  # type: ignore[misc]
    """Reads every split of some bounded sources.

    Args:
        plan: The views whose documents are read; other documents are counted and skipped.
        splits: URI and split of each part.
        is_timed: Whether the timestamps of elements are their versions, which consistency `commit` needs (S19).

    Returns:
        PCollections: `changes` (bytes for `boiler_beam.steps.keyed.wire.decode`), `dead_letters` (for `decode_letter`).
    """

    def __init__(self, plan: Plan, splits: Sequence[tuple[str, str]], *, is_timed: bool) -> None:
        super().__init__()
        self.views = plan.name
        self.splits, self.is_timed = list(splits), is_timed

    def expand(self, pipeline: Any) -> dict[str, Any]:
        """Applies it to a pipeline."""
        outputs = (
            pipeline
            | "Splits" >> beam.Create(self.splits, reshuffle=True).with_output_types(tuple[str, str])
            | "Read"
            >> beam.ParDo(_Read(self.views, is_timed=self.is_timed))
            .with_output_types(bytes)
            .with_outputs(LETTERS, main="changes")
        )
        return {"changes": outputs["changes"], LETTERS: outputs[LETTERS]}


class _Read(beam.DoFn):  # type: ignore[misc]
    def __init__(self, views: PlanName, *, is_timed: bool) -> None:
        self.views, self.is_timed = views, is_timed

    def process(self, element: tuple[str, str]) -> Iterator[Any]:
        uri, split = element
        plan, number = load_plan(self.views), 0
        newest = Metrics.distribution(NAMESPACE, "version")
        for change in open_source(uri).read(split):
            if isinstance(change, DeadLetter):
                Metrics.counter(NAMESPACE, "dead_letters").inc()
                for family in families_lost(plan, change):
                    Metrics.counter(NAMESPACE, f"dead {plan.families[family].pattern.text}").inc()
                yield pvalue.TaggedOutput(LETTERS, encode_letter(change))
                continue
            number += 1
            newest.update(change.version)
            if plan.families_of(change.path):
                data = encode(change)
                yield TimestampedValue(data, Timestamp(micros=change.version)) if self.is_timed else data
        Metrics.counter(NAMESPACE, "changes").inc(number)
