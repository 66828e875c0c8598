"""Following unbounded sources on a runner of this machine (Prism), for development.

A source is read within bundles, and acknowledged when the runner has taken over what a bundle gave. Prism keeps that,
as all state, in memory: a run that ends has lost it, and the next one begins with a snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from boiler_beam.connectors import open_source
from boiler_beam.events import Change, DeadLetter, Event, Touch
from boiler_beam.plan import Plan, PlanName, load_plan
from boiler_beam.steps.keyed.wire import encode_event, encode_letter
from transforms.stateful import LETTERS
from transforms.write import NAMESPACE

__all__ = ["FollowSources"]

_BUNDLE_EVENTS, _BUNDLE_SECONDS, _IDLE_SECONDS = 2_000, 0.2, 0.05


class FollowSources(beam.PTransform):  # type: ignore[misc]
    """Follows some unbounded sources, each from now on.

    Args:
        plan: The views whose documents are wanted; others are counted and passed over.
        uris: Of the sources.
        lateness_seconds: How much later than others a change may come: by so much the watermark is behind the clock.

    Returns:
        PCollections: `changes` (bytes for `boiler_beam.steps.keyed.wire.decode_event`), `dead_letters` (for
        `decode_letter`).
    """

    def __init__(self, plan: Plan, uris: Sequence[str], lateness_seconds: float) -> None:
        super().__init__()
        self.views = plan.name
        self.uris, self.lateness_seconds = list(uris), lateness_seconds

    def expand(self, pipeline: Any) -> dict[str, Any]:
        """Builds it on a pipeline."""
        outputs = (
            pipeline
            | "Sources" >> beam.Create(self.uris, reshuffle=False)
            | "Alone" >> beam.Reshuffle()  # bundles are finalized only of what comes first after a shuffle
            | "Follow"
            >> beam.ParDo(_Follow(self.views, self.lateness_seconds))
            .with_output_types(bytes)
            .with_outputs(LETTERS, main="changes")
        )
        return {"changes": outputs["changes"], LETTERS: outputs[LETTERS]}


class _Following:
    """A source that one process follows, from bundle to bundle."""

    def __init__(self, uri: str, views: PlanName) -> None:
        self.plan, self.source = load_plan(views), open_source(uri)
        self.source.prepare(self.plan.collections)
        self.batches = iter(self.source.follow(None))
        self.back: tuple[Sequence[Event], str] | None = None

    def next(self) -> tuple[Sequence[Event], str]:
        """The next batch; one that was put back comes first."""
        if self.back is not None:
            batch, self.back = self.back, None
            return batch
        return next(self.batches)


@lru_cache(maxsize=16)
def _following(uri: str, views: PlanName) -> _Following:
    return _Following(uri, views)


class _Tracker(OffsetRestrictionTracker):  # type: ignore[misc]
    """Counts batches; is never split but where it stands."""

    def try_split(self, fraction_of_remainder: float) -> Any:
        return super().try_split(0) if fraction_of_remainder == 0 else None

    def is_bounded(self) -> bool:
        return False


class _Endless(RestrictionProvider):  # type: ignore[misc]
    def initial_restriction(self, element: str) -> OffsetRange:
        return OffsetRange(0, 1 << 62)

    def create_tracker(self, restriction: OffsetRange) -> _Tracker:
        return _Tracker(restriction)

    def restriction_size(self, element: str, restriction: OffsetRange) -> int:
        return 1

    def truncate(self, element: str, restriction: OffsetRange) -> None:
        return None


@beam.DoFn.unbounded_per_element()
class _Follow(beam.DoFn):  # type: ignore[misc]
    def __init__(self, views: PlanName, lateness_seconds: float) -> None:
        self.views, self.lateness_seconds = views, lateness_seconds

    def process(
        self,
        element: str,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,  # before the others: Beam finds these two by their names
        tracker: Any = beam.DoFn.RestrictionParam(_Endless()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),
    ) -> Iterator[Any]:
        following = _following(element, self.views)
        place, deadline, number = tracker.current_restriction().start, time.monotonic() + _BUNDLE_SECONDS, 0
        source, position = following.source, [""]
        # Whatever comes of the bundle: Beam insists.
        finalizer.register(lambda: source.acknowledge(position[0]) if position[0] else None)
        while number < _BUNDLE_EVENTS and time.monotonic() < deadline:
            events, found = following.next()
            if not tracker.try_claim(place):
                following.back = events, found
                return
            place, position[0], number = place + 1, found, number + len(events)
            yield from self._told(following.plan, events)
            if not events:
                break
        watermark.set_watermark(Timestamp.of(time.time() - self.lateness_seconds))
        tracker.defer_remainder(Duration(0 if number else _IDLE_SECONDS))

    def _told(self, plan: Plan, events: Sequence[Event]) -> Iterator[Any]:
        for event in events:
            match event:
                case DeadLetter():
                    Metrics.counter(NAMESPACE, "dead_letters").inc()
                    yield pvalue.TaggedOutput(LETTERS, encode_letter(event))
                case Change():
                    Metrics.counter(NAMESPACE, "changes").inc()
                    if plan.families_of(event.path):
                        yield TimestampedValue(encode_event(event), Timestamp(micros=event.version))
                case Touch():
                    yield TimestampedValue(encode_event(event), Timestamp(micros=event.read_time))
