"""Follows unbounded sources on a runner on this machine (Prism), for development.

A source is read within bundles, and acknowledged when the runner has committed a bundle. Prism keeps all state in
memory: it is lost at the end of a run, and the next run begins with a snapshot.
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
        plan: The views whose documents are read; other documents are counted and skipped.
        uris: The URIs of the sources.
        lateness_seconds: The allowed lateness: how far the watermark is behind the clock.

    Returns:
        PCollections: `changes` (bytes for `boiler_beam.steps.keyed.wire.decode_event`), `dead_letters` (for
        `decode_letter`).
    """

    def __init__(self, plan: Plan, uris: Sequence[str], lateness_seconds: float) -> None:
        super().__init__()
        self.views = plan.name
        self.uris, self.lateness_seconds = list(uris), lateness_seconds

    def expand(self, pipeline: Any) -> dict[str, Any]:
        """Applies it to a pipeline."""
        outputs = (
            pipeline
            | "Sources" >> beam.Create(self.uris, reshuffle=False)
            | "Alone" >> beam.Reshuffle()  # Prism finalizes only bundles of the first stage after a shuffle
            | "Follow"
            >> beam.ParDo(_Follow(self.views, self.lateness_seconds))
            .with_output_types(bytes)
            .with_outputs(LETTERS, main="changes")
        )
        return {"changes": outputs["changes"], LETTERS: outputs[LETTERS]}


class _Following:
    """A source that one process follows across bundles."""

    def __init__(self, uri: str, views: PlanName) -> None:
        self.plan, self.source = load_plan(views), open_source(uri)
        self.source.prepare(self.plan.collections)
        self.batches = iter(self.source.follow(None))
        self.back: tuple[Sequence[Event], str] | None = None

    def next(self) -> tuple[Sequence[Event], str]:
        """Returns the next batch; a batch that was put back comes first."""
        if self.back is not None:
            batch, self.back = self.back, None
            return batch
        return next(self.batches)


@lru_cache(maxsize=16)
def _following(uri: str, views: PlanName) -> _Following:
    return _Following(uri, views)


class _Tracker(OffsetRestrictionTracker):  # type: ignore[misc]
    """Tracks the number of batches; it can be split only at its current position."""

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
        finalizer: Any = beam.DoFn.BundleFinalizerParam,  # these two come first: Beam finds them by their names
        tracker: Any = beam.DoFn.RestrictionParam(_Endless()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),
    ) -> Iterator[Any]:
        following = _following(element, self.views)
        place, deadline, number = tracker.current_restriction().start, time.monotonic() + _BUNDLE_SECONDS, 0
        source, position = following.source, [""]
        # Beam requires a finalizer in every bundle.
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
