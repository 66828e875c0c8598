"""Views that follow a stream of changes, as a pipeline: stateful steps for each edge, then rows.

    changes -> MeetingSession/Route -> .../meeting/Documents -> .../tickets/Join -> ... -> .../Row (-> .../Claim)

Labels, coders and state never change while a view does not, so that a running job can be updated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import pvalue

from boiler_beam.events import Change
from boiler_beam.plan import Fixed, Plan, PlanName
from boiler_beam.steps.keyed import KeyedView, reporting_labels, steps_of
from boiler_beam.steps.keyed.messages import StaleRow
from boiler_beam.steps.keyed.routing import CLAIM, ROW, address, addresses_of_change
from boiler_beam.steps.keyed.wire import decode_event, encode
from transforms.stateful import KEYED, LEFT, LETTERS, ROWS, BeamOutput, Behavior, Roles, keyed_view, stateful

__all__ = ["FollowView", "FollowViews"]


class FollowViews(beam.PTransform):  # type: ignore[misc]
    """Follows a stream with several views, each by steps of its own.

    Args:
        views: As `module:Class`, importable on the workers.
        behaviors: Of each view, by its name.

    Returns:
        PCollections: `rows` (path, and bytes for `boiler_beam.steps.keyed.wire.decode_row`), `dead_letters` (bytes for
        `decode_letter`), `left` (paths of unknown rows, or masks of their copies: what the sink holds stays).
    """

    def __init__(self, plan: Plan, behaviors: dict[str, Behavior]) -> None:
        super().__init__()
        self.views = [(view.name, PlanName((view.reference_name,), plan.database)) for view in plan.views]
        self.behaviors = behaviors

    def expand(self, changes: Any) -> dict[str, Any]:
        """Builds it on a PCollection of bytes of changes."""
        counted: set[str] = set()
        outcomes = []
        reporting = reporting_labels([keyed_view(one) for _, one in self.views])
        for (name, one), labels in zip(self.views, reporting, strict=True):
            counting = _counting(keyed_view(one), counted)
            follow = FollowView(one, self.behaviors[name], counting, labels)
            outcomes.append(changes | name >> follow)
        return {name: [one[name] for one in outcomes] | name >> beam.Flatten() for name in (ROWS, LETTERS, LEFT)}


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
        ends: dict[str, list[Any]] = {ROWS: [], LETTERS: [], LEFT: []}
        for level, (label, step) in enumerate(steps.items()):
            later = labels[level + 1 :]
            own = [LETTERS, *([ROWS] if label in (ROW, CLAIM) else []), *([LEFT] if label == ROW else [])]
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
    types: dict[str, Any] = {tag: {LETTERS: bytes, LEFT: str}.get(tag, KEYED) for tag in tags}
    return beam.ParDo(function).with_output_types(KEYED, **types).with_outputs(*types)


class _Route(beam.DoFn):  # type: ignore[misc]
    """From a change to all steps that it goes to."""

    def __init__(self, view: PlanName) -> None:
        self.view = view

    def process(self, element: bytes) -> Iterator[Any]:
        event, view = decode_event(element), keyed_view(self.view)
        if isinstance(event, Change):
            for label, key in addresses_of_change(view, event.path):
                yield pvalue.TaggedOutput(label, (key.encode(), element))
        elif event.view == view.view.name and view.view.target.matches(event.path):
            stale = StaleRow(event.path, event.read_time)
            label, key = address(view, stale)
            yield pvalue.TaggedOutput(label, (key.encode(), encode(stale)))
