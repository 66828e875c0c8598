"""Views that follow a stream of changes, as a pipeline: a stateful stage for each edge and direction, then rows.

    changes -> MeetingSession/Route -> .../meeting/Down -> .../tickets/Up -> ... -> .../Row (-> .../Claim) -> rows

Labels, coders and state never change while a view does not, so that a running job can be updated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import pvalue

from boiler_beam.events import Change
from boiler_beam.plan import Fixed, Plan, PlanName, Reference
from boiler_beam.steps.keyed.posting import CLAIM, ROW, address, addresses_of_change
from boiler_beam.steps.keyed.stages import reporting, stages
from boiler_beam.steps.keyed.wire import decode_event, encode, key_bytes
from boiler_beam.steps.stream import StreamPlan
from boiler_beam.steps.stream.messages import Doubted
from transforms.stateful import KEYED, LEFT, LETTERS, ROWS, Behavior, Outputs, Roles, numbered, stateful

__all__ = ["FollowView", "FollowViews"]


class FollowViews(beam.PTransform):  # type: ignore[misc]
    """Follows a stream with several views, each by stages of its own.

    Args:
        views: As `module:Class`, importable on the workers.
        behaviors: Of each view, by its name.

    Returns:
        PCollections: `rows` (path, and bytes for `boiler_beam.steps.keyed.wire.decode_row`), `dead_letters` (bytes for
        `decode_letter`), `left` (paths of rows, or masks of them, that can't be told: what stands in the sink stays).
    """

    def __init__(self, plan: Plan, behaviors: dict[str, Behavior]) -> None:
        super().__init__()
        self.views = [(view.name, PlanName((view.reference_name,), plan.database)) for view in plan.views]
        self.behaviors = behaviors

    def expand(self, changes: Any) -> dict[str, Any]:
        """Builds it on a PCollection of bytes of changes."""
        counted: set[str] = set()
        outcomes = []
        reports = reporting([numbered(one) for _, one in self.views])
        for (name, one), labels in zip(self.views, reports, strict=True):
            counting = _counting(numbered(one), counted)
            follow = FollowView(one, self.behaviors[name], counting, labels)
            outcomes.append(changes | name >> follow)
        return {name: [one[name] for one in outcomes] | name >> beam.Flatten() for name in (ROWS, LETTERS, LEFT)}


def _counting(plan: StreamPlan, counted: set[str]) -> frozenset[str]:
    """The stages of a view that count the documents of a collection, where no other view's do."""
    labels = set()
    for _, edge in plan.edges:
        pattern = plan.plan.families[edge.family].pattern.text
        if pattern not in counted and not isinstance(edge, Fixed):
            counted.add(pattern)
            labels.add(f"{edge.name}/{'Up' if isinstance(edge, Reference) else 'Down'}")
    return frozenset(labels)


class FollowView(beam.PTransform):  # type: ignore[misc]
    """Follows a stream of changes with one view.

    Args:
        view: The plan of one view, importable on the workers.
        behavior: See there.
        counting: The stages that count documents.
        reports: The stages that tell what is wrong with a document; None: those that do where this view is alone.
    """

    def __init__(
        self,
        view: PlanName,
        behavior: Behavior,
        counting: frozenset[str] = frozenset(),
        reports: frozenset[str] | None = None,
    ) -> None:
        super().__init__()
        self.view, self.behavior, self.counting = view, behavior, counting
        self.reports = reporting([numbered(view)])[0] if reports is None else reports

    def expand(self, changes: Any) -> dict[str, Any]:
        """Builds it on a PCollection of bytes of changes."""
        plan = numbered(self.view)
        known = stages(plan, Outputs(plan))
        labels = list(known)
        end = ROW if plan.plan.views[0].paths.is_unique else CLAIM
        sources = [label for label in labels if label.endswith(("/Down", "/Up")) or label == end]
        routed = changes | "Route" >> _outputs(_Route(self.view), sources)
        arriving: dict[str, list[Any]] = {label: [routed[label]] if label in sources else [] for label in labels}
        ends: dict[str, list[Any]] = {ROWS: [], LETTERS: [], LEFT: []}
        for place, label in enumerate(labels):
            later = labels[place + 1 :]
            own = [LETTERS, *([ROWS] if label in (ROW, CLAIM) else []), *([LEFT] if label == ROW else [])]
            roles = Roles(label in self.counting, self.reports)
            function = stateful(known[label], self.view, place, self.behavior, roles)
            stage = arriving[label] | f"{label}/Flatten" >> beam.Flatten()
            outputs = stage | label >> _outputs(function, [*later, *own])
            for other in later:
                arriving[other].append(outputs[other])
            for name in own:
                ends[name].append(outputs[name])
        return {name: some | name >> beam.Flatten() for name, some in ends.items()}


def _outputs(function: beam.DoFn, tags: Iterable[str]) -> Any:
    types: dict[str, Any] = {tag: {LETTERS: bytes, LEFT: str}.get(tag, KEYED) for tag in tags}
    return beam.ParDo(function).with_output_types(KEYED, **types).with_outputs(*types)


class _Route(beam.DoFn):  # type: ignore[misc]
    """From a change to all stages that it goes to."""

    def __init__(self, view: PlanName) -> None:
        self.view = view

    def process(self, element: bytes) -> Iterator[Any]:
        event, plan = decode_event(element), numbered(self.view)
        if isinstance(event, Change):
            for label, key in addresses_of_change(plan, event.path):
                yield pvalue.TaggedOutput(label, (key_bytes(key), element))
        elif event.view == plan.plan.views[0].name and plan.plan.views[0].target.matches(event.path):
            doubted = Doubted(0, event.path, event.read_time)
            label, key = address(plan, doubted)
            yield pvalue.TaggedOutput(label, (key_bytes(key), encode(doubted)))
