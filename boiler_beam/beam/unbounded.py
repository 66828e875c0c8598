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
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from boiler_beam.beam.elements import Changes, changes_of, reading, tagged
from boiler_beam.connectors import open_source
from boiler_beam.events import Change, DeadLetter, Event, Touch
from boiler_beam.plan import PlanName, load_plan

__all__ = ["FollowSources"]

_BUNDLE_EVENTS, _BUNDLE_SECONDS, _IDLE_SECONDS = 2_000, 0.2, 0.05


class FollowSources(beam.PTransform):  # type: ignore[misc]
    """Follows some unbounded sources, each from now on.

    Args:
        views: The plan of the views whose collections are read.
        uris: The URIs of the sources.

    Returns:
        `Changes`. The time of an element is its version, the watermark is the clock.
    """

    def __init__(self, views: PlanName, uris: Sequence[str]) -> None:
        super().__init__()
        self.views, self.uris = views, list(uris)

    def expand(self, pipeline: Any) -> Changes:
        """Applies it to a pipeline."""
        outputs = (
            pipeline
            | "Sources" >> beam.Create(self.uris, reshuffle=False)
            | "Alone" >> beam.Reshuffle()  # Prism finalizes only bundles of the first stage after a shuffle
            | "Follow" >> reading(_Follow(self.views))
        )
        return changes_of(outputs)


class _Following:
    """A source that one process follows across bundles."""

    def __init__(self, uri: str, views: PlanName) -> None:
        self.source = open_source(uri)
        self.source.prepare(load_plan(views).collections)
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
    def __init__(self, views: PlanName) -> None:
        self.views = views

    def process(
        self,
        element: str,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,  # these two come first: Beam finds them by their names
        tracker: Any = beam.DoFn.RestrictionParam(_Endless()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),
    ) -> Iterator[Any]:
        following = _following(element, self.views)
        index, deadline, number = tracker.current_restriction().start, time.monotonic() + _BUNDLE_SECONDS, 0
        source, position = following.source, [""]
        # Beam requires a finalizer in every bundle.
        finalizer.register(lambda: source.acknowledge(position[0]) if position[0] else None)
        while number < _BUNDLE_EVENTS and time.monotonic() < deadline:
            events, found = following.next()
            if not tracker.try_claim(index):
                following.back = events, found
                return
            index, position[0], number = index + 1, found, number + len(events)
            yield from _timed(events)
            if not events:
                break
        watermark.set_watermark(Timestamp.of(time.time()))
        tracker.defer_remainder(Duration(0 if number else _IDLE_SECONDS))


def _timed(events: Sequence[Event]) -> Iterator[Any]:
    """Yields events as elements, whose times are their versions; the end of a snapshot is no element on Beam."""
    for event in events:
        match event:
            case Change():
                yield TimestampedValue(event, Timestamp(micros=event.version))
            case Touch():
                output = tagged(event)
                output.value = TimestampedValue(event, Timestamp(micros=event.read_time))
                yield output
            case DeadLetter():
                yield tagged(event)
