"""The steps of a view, and which of them report what is wrong with a document."""

from __future__ import annotations

from collections.abc import Sequence

from boiler_beam.plan import Fixed
from boiler_beam.steps.keyed.aggregates import DistinctStep, RankingStep
from boiler_beam.steps.keyed.claims import ClaimStep
from boiler_beam.steps.keyed.documents import DocumentStep
from boiler_beam.steps.keyed.joins import LimitStep, PathCountStep, PathJoinStep, ReferrersJoinStep
from boiler_beam.steps.keyed.plan import KeyedView
from boiler_beam.steps.keyed.routing import CLAIM, ROW, distinct_label, ranking_label
from boiler_beam.steps.keyed.rows import RowStep
from boiler_beam.steps.keyed.step import Output, Step, StepSettings

__all__ = ["reporting_labels", "steps_of"]


def reporting_labels(views: Sequence[KeyedView]) -> list[frozenset[str]]:
    """For each view, the labels of the steps that report what is wrong with a document.

    Each edge reads its documents for itself. Of all edges that read documents of one model the first one reports; where
    views read only single documents of it, the first one that reads each of these.
    """
    found: list[set[str]] = [set() for _ in views]
    reported: set[tuple[type, str]] = set()
    edges = [(labels, edge) for labels, view in zip(found, views, strict=True) for edge in view.edges]
    for is_fixed in (False, True):
        for labels, one in edges:
            path = one.edge.path if isinstance(one.edge, Fixed) else ""
            known = {(one.codec.base, path), (one.codec.base, "")}
            if isinstance(one.edge, Fixed) is is_fixed and reported.isdisjoint(known):
                reported.add((one.codec.base, path))
                labels.add(one.input)
    return [frozenset(labels) for labels in found]


def steps_of(view: KeyedView, output: Output, settings: StepSettings | None = None) -> dict[str, Step]:
    """The steps of a view by label, each after those that send to it."""
    settings = settings or StepSettings()
    found: list[Step] = []
    for edge in view.edges:
        if edge.is_by_path:
            found.append(PathJoinStep(view, edge.join, output, settings, edge))
        else:
            found.append(DocumentStep(view, edge.documents, output, settings, edge))
        if edge.edge.has_many_at_key and edge.parent is not None:
            found.append(ReferrersJoinStep(view, edge.join, output, settings, edge))
        if edge.planned.counts_paths:
            found.append(PathCountStep(view, edge.path_count, output, settings, edge))
        if edge.edge.limit is not None:
            found.append(LimitStep(view, edge.limit, output, settings, edge))
    for one in view.view.aggregates:
        if one.fold.keeps == "distinct":
            found.append(DistinctStep(view, distinct_label(one.name), output, settings))
        if one.fold.keeps == "ranking":
            found.append(RankingStep(view, ranking_label(one.name), output, settings))
    found.append(RowStep(view, ROW, output, settings))
    if not view.view.paths.is_unique:
        found.append(ClaimStep(view, CLAIM, output, settings))
    return {step.label: step for step in found}
