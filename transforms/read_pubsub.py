"""Reads changes from Pub/Sub by Beam's own source, which Dataflow replaces by its service.

Repeated messages are recognized by their attribute `event_id`, which the relay sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from boiler_beam.connectors.pubsub.envelope import decode
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Plan, PlanName, load_plan
from boiler_beam.steps.keyed.wire import encode_event, encode_letter
from transforms.stateful import LETTERS
from transforms.write import NAMESPACE

__all__ = ["ReadMessages"]


class ReadMessages(beam.PTransform):  # type: ignore[misc]
    """Follows Pub/Sub subscriptions.

    Args:
        plan: The views whose documents are read; other documents are counted and skipped.
        subscriptions: Their names, `projects/P/subscriptions/S`.
        is_timed: Whether the watermark follows the messages' attribute `event_time`, which consistency `commit` needs
            (S19); otherwise it follows the time of publication.

    Returns:
        PCollections: `changes` (bytes for `boiler_beam.steps.keyed.wire.decode_event`), `dead_letters` (for
        `decode_letter`).
    """

    def __init__(self, plan: Plan, subscriptions: Sequence[str], *, is_timed: bool) -> None:
        super().__init__()
        self.views = plan.name
        self.subscriptions, self.is_timed = list(subscriptions), is_timed

    def expand(self, pipeline: Any) -> dict[str, Any]:
        """Applies it to a pipeline."""
        time = "event_time" if self.is_timed else None
        read = [
            pipeline
            | f"Pull {name}"
            >> beam.io.ReadFromPubSub(
                subscription=name, with_attributes=True, id_label="event_id", timestamp_attribute=time
            )
            for name in self.subscriptions
        ]
        outputs = (read[0] if len(read) == 1 else read | beam.Flatten()) | "Decode" >> beam.ParDo(
            _Decode(self.views, is_timed=self.is_timed)
        ).with_output_types(bytes).with_outputs(LETTERS, main="changes")
        return {"changes": outputs["changes"], LETTERS: outputs[LETTERS]}


class _Decode(beam.DoFn):  # type: ignore[misc]
    def __init__(self, views: PlanName, *, is_timed: bool) -> None:
        self.views, self.is_timed = views, is_timed

    def process(self, element: PubsubMessage) -> Iterator[Any]:
        event, plan = decode(element.data, element.attributes or {}, "pubsub"), load_plan(self.views)
        if isinstance(event, DeadLetter):
            Metrics.counter(NAMESPACE, "dead_letters").inc()
            yield pvalue.TaggedOutput(LETTERS, encode_letter(event))
            return
        if isinstance(event, Change):
            Metrics.counter(NAMESPACE, "changes").inc()
            if not plan.families_of(event.path):
                return
        version = event.version if isinstance(event, Change) else event.read_time
        data = encode_event(event)
        yield TimestampedValue(data, Timestamp(micros=version)) if self.is_timed else data
