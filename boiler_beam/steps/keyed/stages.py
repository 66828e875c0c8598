"""The keyed stages of a view, each behind those that send to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from boiler_beam.plan import Fixed
from boiler_beam.steps.keyed.edges import DownStage, FirstStage, UpStage, WaysStage
from boiler_beam.steps.keyed.posting import CLAIM, ROW, is_fused
from boiler_beam.steps.keyed.rows import ClaimStage, DistinctStage, RankStage, RowStage
from boiler_beam.steps.keyed.stage import Output, Stage
from boiler_beam.steps.stream.plan import StreamPlan

__all__ = ["reporting", "stages"]


def reporting(plans: Sequence[StreamPlan]) -> list[frozenset[str]]:
    """Of each view's plan, the labels of the stages that tell what is wrong with a document.

    Each edge reads its documents for itself. Of all that read those of one model the first one tells it; where views
    read single documents of it alone, the first that reads each of these.
    """
    edges = [(place, plan, number) for place, plan in enumerate(plans) for number in range(len(plan.edges))]
    found: list[set[str]] = [set() for _ in plans]
    told: set[tuple[type, str]] = set()
    for is_fixed in (False, True):
        for place, plan, number in edges:
            edge = plan.edges[number][1]
            base = plan.plan.families[edge.family].base
            key = (base, edge.path if isinstance(edge, Fixed) else "")
            if isinstance(edge, Fixed) is is_fixed and told.isdisjoint({key, (base, "")}):
                told.add(key)
                found[place].add(f"{edge.name}/{'Up' if is_fused(plan, number) else 'Down'}")
    return [frozenset(labels) for labels in found]


def stages(
    plan: StreamPlan,
    output: Output,
    generation: int = 1,
    clock: Callable[[], int] | None = None,
    horizon: Callable[[], int] = lambda: 0,
    reports: frozenset[str] | None = None,
) -> dict[str, Stage]:
    """The stages of a plan of one view by label, each behind those that send to it.

    Args:
        plan: A plan of one view.
        output: Where they send.
        generation: See `RowStage`.
        clock: See there.
        horizon: The time before which gone cells are dropped, in microseconds (S3).
        reports: The labels of the stages that tell what is wrong with a document (see `reporting`); None: all.
    """
    (view,) = plan.plan.views
    found: list[Stage] = []
    for number, (_, edge) in enumerate(plan.edges):
        if not is_fused(plan, number):
            found.append(DownStage(plan, f"{edge.name}/Down", output, number, horizon, reports))
        if is_fused(plan, number) or plan.is_open[number]:
            found.append(UpStage(plan, f"{edge.name}/Up", output, number, horizon, reports))
        if plan.counts_ways[number]:
            found.append(WaysStage(plan, f"{edge.name}/Ways", output))
        if edge.limit is not None:
            found.append(FirstStage(plan, f"{edge.name}/First", output, number))
    for place, one in enumerate(view.aggregates):
        if one.fold.keeps == "distinct":
            found.append(DistinctStage(plan, f"{one.name}/Distinct", output))
        if one.fold.keeps == "ranking":
            found.append(RankStage(plan, f"{one.name}/Rank", output, place))
    found.append(RowStage(plan, ROW, output, generation, clock))
    if not view.paths.is_unique:
        found.append(ClaimStage(plan, CLAIM, output, generation, clock))
    return {stage.label: stage for stage in found}
