"""Views that follow a stream of changes, as a pipeline: stateful steps for each edge, then rows.

    changes -> MeetingSession/Route -> .../meeting/Documents -> .../tickets/Join -> ... -> .../Row (-> .../Claim)

Labels, coders and state never change while a view does not, so that a running job can be updated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from boiler_beam.beam.elements import NAMESPACE, Changes, ComputedRows
from boiler_beam.beam.stateful import DEAD_LETTERS, KEYED, LEFT, ROWS, BeamOutput, Behavior, Roles, keyed_view, stateful
from boiler_beam.events import Change, DeadLetter, Row, Touch
from boiler_beam.plan import Fixed, PlanName, load_plan
from boiler_beam.steps.keyed import KeyedView, reporting_labels, steps_of
from boiler_beam.steps.keyed.routing import CLAIM, ROW, address, addresses_of_change
from boiler_beam.steps.keyed.wire import decode, encode, path_bytes
from boiler_beam.steps.newest import types_lost

__all__ = ["follow_views"]


def follow_views(given: Changes, views: PlanName, behaviors: dict[str, Behavior]) -> ComputedRows:
    """Adds views that follow a stream to a pipeline, each by steps of its own.

    Args:
        given: Changes, touches and dead letters of their sources.
        views: The plan of the views, importable on the workers.
        behaviors: Of each view, by its name.
    """
    names = [(view.name, PlanName((view.reference_name,), views.database)) for view in load_plan(views).views]
    is_timed = any(one.is_commit for one in behaviors.values())
    events = given.changes | "Changes" >> _encoded(_Encode(views, is_timed=is_timed)).with_input_types(Change)
    if given.touches is not None:
        touches = given.touches | "Touches" >> _encoded(_EncodeTouch(is_timed=is_timed))
        events = [events, touches] | "Events" >> beam.Flatten()
    counted: set[str] = set()
    outcomes = []
    reporting = reporting_labels([keyed_view(one) for _, one in names])
    for (name, one), labels in zip(names, reporting, strict=True):
        counting = _counting(keyed_view(one), counted)
        follow = FollowView(one, behaviors[name], counting, labels)
        outcomes.append(events | name >> follow)
    rows, dead_letters, left = (
        [one[name] for one in outcomes] | name >> beam.Flatten() for name in (ROWS, DEAD_LETTERS, LEFT)
    )
    dead = dead_letters | "DeadLetters" >> beam.Map(decode).with_output_types(DeadLetter)
    if given.dead_letters is not None:
        counter = beam.ParDo(_CountDeadLetters(views)).with_output_types(DeadLetter)
        dead = [dead, given.dead_letters | "DeadLettersOfSources" >> counter] | "AllDeadLetters" >> beam.Flatten()
    return ComputedRows(
        rows | "Rows" >> beam.Map(lambda pair: decode(pair[1])).with_output_types(Row),
        dead,
        left | "Notes" >> beam.Map(path_bytes).with_output_types(bytes),
    )


def _encoded(function: beam.DoFn) -> Any:
    return beam.ParDo(function).with_output_types(bytes)


class _Encode(beam.DoFn):  # type: ignore[misc]
    """Encodes the changes of the collections that the views read; counts all.

    The times of elements become their versions where consistency `commit` needs it (S19).
    """

    def __init__(self, views: PlanName, *, is_timed: bool) -> None:
        self.views, self.is_timed = views, is_timed

    def start_bundle(self) -> None:
        """Looks up what each element needs."""
        self.plan = load_plan(self.views)
        self.number = Metrics.counter(NAMESPACE, "changes")
        self.newest = Metrics.distribution(NAMESPACE, "version")

    def process(self, element: Change) -> Iterator[Any]:
        self.number.inc()
        self.newest.update(element.version)
        if self.plan.types_of(element.path):
            data = encode(element)
            yield TimestampedValue(data, Timestamp(micros=element.version)) if self.is_timed else data


class _EncodeTouch(beam.DoFn):  # type: ignore[misc]
    def __init__(self, *, is_timed: bool) -> None:
        self.is_timed = is_timed

    def process(self, element: Touch) -> Iterator[Any]:
        data = encode(element)
        yield TimestampedValue(data, Timestamp(micros=element.read_time)) if self.is_timed else data


class _CountDeadLetters(beam.DoFn):  # type: ignore[misc]
    """Counts the dead letters of sources, also by the collections of which they may have been documents."""

    def __init__(self, views: PlanName) -> None:
        self.views = views

    def process(self, element: DeadLetter) -> Iterator[DeadLetter]:
        plan = load_plan(self.views)
        Metrics.counter(NAMESPACE, "dead_letters").inc()
        for type_index in types_lost(plan, element):
            Metrics.counter(NAMESPACE, f"dead {plan.collections[type_index]}").inc()
        yield element


def _counting(view: KeyedView, counted: set[str]) -> frozenset[str]:
    """The steps of a view that count the documents of a collection, where no other view's do."""
    labels = set()
    for one in view.edges:
        pattern = one.codec.pattern.text
        if pattern not in counted and not isinstance(one.edge, Fixed):
            counted.add(pattern)
            labels.add(one.input)
    return frozenset(labels)


class FollowView(beam.PTransform):  # type: ignore[misc]
    """Follows a stream of changes with one view.

    Args:
        view: The plan of one view, importable on the workers.
        behavior: How it follows.
        counting: The labels of the steps that count documents.
        reporting: Those of the steps that report what is wrong with a document; None: as if the view were alone.
    """

    def __init__(
        self,
        view: PlanName,
        behavior: Behavior,
        counting: frozenset[str] = frozenset(),
        reporting: frozenset[str] | None = None,
    ) -> None:
        super().__init__()
        self.view, self.behavior, self.counting = view, behavior, counting
        self.reporting = reporting_labels([keyed_view(view)])[0] if reporting is None else reporting

    def expand(self, changes: Any) -> dict[str, Any]:
        """Builds it on a PCollection of bytes of changes."""
        view = keyed_view(self.view)
        steps = steps_of(view, BeamOutput(view))
        labels = list(steps)
        end = ROW if view.view.paths.is_unique else CLAIM
        sources = [label for label in labels if label == end or label in {edge.input for edge in view.edges}]
        routed = changes | "Route" >> _outputs(_Route(self.view), sources)
        arriving: dict[str, list[Any]] = {label: [routed[label]] if label in sources else [] for label in labels}
        ends: dict[str, list[Any]] = {ROWS: [], DEAD_LETTERS: [], LEFT: []}
        for level, (label, step) in enumerate(steps.items()):
            later = labels[level + 1 :]
            own = [DEAD_LETTERS, *([ROWS] if label in (ROW, CLAIM) else []), *([LEFT] if label == ROW else [])]
            roles = Roles(label in self.counting, self.reporting)
            function = stateful(step, self.view, level, self.behavior, roles)
            flattened = arriving[label] | f"{label}/Flatten" >> beam.Flatten()
            outputs = flattened | label >> _outputs(function, [*later, *own])
            for other in later:
                arriving[other].append(outputs[other])
            for name in own:
                ends[name].append(outputs[name])
        return {name: some | name >> beam.Flatten() for name, some in ends.items()}


def _outputs(function: beam.DoFn, tags: Iterable[str]) -> Any:
    types: dict[str, Any] = {tag: {DEAD_LETTERS: bytes, LEFT: str}.get(tag, KEYED) for tag in tags}
    return beam.ParDo(function).with_output_types(KEYED, **types).with_outputs(*types)


class _Route(beam.DoFn):  # type: ignore[misc]
    """From a change to all steps that it goes to."""

    def __init__(self, view: PlanName) -> None:
        self.view = view

    def process(self, element: bytes) -> Iterator[Any]:
        event, view = decode(element), keyed_view(self.view)
        if isinstance(event, Change):
            for label, key in addresses_of_change(view, event.path):
                yield pvalue.TaggedOutput(label, (key.encode(), element))
        elif event.view == view.view.name and view.view.target.matches(event.path):
            label, key = address(view, event)
            yield pvalue.TaggedOutput(label, (key.encode(), element))
