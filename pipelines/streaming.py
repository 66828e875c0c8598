"""Following a stream on a Beam runner. Imports Beam: only where `--runner` asks."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from boiler_beam.connectors import open_sink, open_sources
from boiler_beam.connectors.base import Control, Sink
from boiler_beam.engine.follow import StreamReport
from boiler_beam.engine.write import Prune, refusal_to_prune
from boiler_beam.errors import UsageError
from boiler_beam.events import Row, Stamp
from boiler_beam.plan import Plan, refuse_main
from pipelines.beam import LOCAL_RUNNERS, pipeline_on, plain_errors
from pipelines.options import RunOptions
from transforms import AppendRows, Behavior, FollowViews, Outlet, ReadStream
from transforms.write import NAMESPACE

__all__ = ["run_streaming"]

_DURABLE = (*LOCAL_RUNNERS, "BundleBasedDirectRunner", "PrismRunner", "DataflowRunner")
"""Runners on which only what is committed passes a shuffle (S15): Dataflow writes it down, the others never run a
bundle a second time. Flink writes rows whose bundle may be rolled back."""


def run_streaming(plan: Plan, options: RunOptions, dead_letters: str) -> StreamReport:
    """Sends every change of bounded sources through the streaming plan on a runner, and writes the rows.

    Every run is a new start: its rows take the next generation (S13), and at its end those that it did not compute are
    pruned, where that is safe.

    Raises:
        UsageError: Nothing was written.
        BoilerBeamError: A worker failed.
    """
    refuse_main(plan)
    sources = open_sources(options.source, plan.collections)
    splits = [(source.uri, split) for source in sources for split in source.splits()]
    sink = open_sink(options.sink)
    controls = _next_generations(plan, sink)
    is_commit, is_durable = options.consistency == "commit", options.runner in _DURABLE
    behaviors = {
        name: Behavior(one.generation, options.coalesce_seconds, is_commit=is_commit, is_durable=is_durable)
        for name, one in controls.items()
    }
    pipeline = pipeline_on(options.runner or "", options.beam_arguments)
    refuse_at_least_once(pipeline.options)
    with sink.stream([view.target for view in plan.views]) as writer:
        writer.control(controls)
    with tempfile.TemporaryDirectory() as folder:
        outlet = Outlet(options.sink, dead_letters, os.path.join(folder, "left.jsonl"))
        read = pipeline | "Read" >> ReadStream(plan, splits, is_timed=is_commit)
        streamed = read["changes"] | "Follow" >> FollowViews(plan, behaviors)
        letters = [streamed["dead_letters"], read["dead_letters"]] | "DeadLetters" >> beam.Flatten()
        views = tuple(view.reference_name for view in plan.views)
        {**streamed, "dead_letters": letters} | "Write" >> AppendRows(views, outlet)
        with plain_errors():
            result = pipeline.run()
            result.wait_until_finish()
        counts = _counts(result)
        report = _report(plan, counts)
        _prune(plan, sink, controls, _left(outlet.left), counts, options.prune, report)
    return report


def refuse_at_least_once(options: PipelineOptions) -> None:
    """Refuses a mode of Dataflow in which messages between stages may come twice: what they say adds up.

    Raises:
        UsageError: It is asked for.
    """
    asked = options.view_as(GoogleCloudOptions).dataflow_service_options or []
    if any("at_least_once" in one for one in asked):
        raise UsageError(
            "--dataflow_service_options: expected exactly-once streaming, because what stages send adds up, got "
            "streaming_mode_at_least_once; mend: leave it out"
        )


def _next_generations(plan: Plan, sink: Sink) -> dict[str, Control]:
    controls, holder = sink.controls(), uuid.uuid4().hex
    found = {}
    for view in plan.views:
        known = controls.get(view.name)
        generation = 1 + (known.generation if known is not None else 0)
        found[view.name] = Control(generation=generation, fingerprint=view.fingerprint, holder=holder)
    return found


def _counts(result: Any) -> dict[str, int]:
    query = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))
    counts: dict[str, int] = {}
    for one in query["counters"]:  # one for each step that counted it
        counts[one.key.metric.name] = counts.get(one.key.metric.name, 0) + one.result
    newest = [one.result.max for one in query["distributions"] if one.key.metric.name == "version"]
    return {**counts, "newest": max(newest, default=0)}


def _report(plan: Plan, counts: Mapping[str, int]) -> StreamReport:
    names = [view.name for view in plan.views]
    return StreamReport(
        changes=counts.get("changes", 0),
        documents=counts.get("documents", 0),
        written={name: counts.get(f"{name}/written", 0) for name in names},
        deleted={name: counts.get(f"{name}/deleted", 0) for name in names},
        dead_letters=counts.get("dead_letters", 0),
        late=counts.get("late", 0),
        newest=counts["newest"],
    )


def _left(path: str) -> set[str]:
    if not os.path.exists(path):
        return set()
    with open(path, encoding="utf-8") as file:
        return {json.loads(line) for line in file}


def _prune(
    plan: Plan,
    sink: Sink,
    controls: Mapping[str, Control],
    left: set[str],
    counts: Mapping[str, int],
    prune: Prune,
    report: StreamReport,
) -> None:
    """Deletes the rows of older generations, where that is safe; counts those that stand."""
    with sink.stream([view.target for view in plan.views]) as writer:
        for view in plan.views:
            generation, standing = controls[view.name].generation, list(sink.standing(view.target))
            old = [row.path for row in standing if row.stamp.generation < generation]
            going = [path for path in old if path not in left and view.paths.mask_of(path) not in left]
            pattern = plan.families[view.root.family].pattern.text
            is_dead = counts.get(f"dead {pattern}", 0) > 0
            refusal = refusal_to_prune(prune, len(going), len(standing), is_root_dead=is_dead)
            report.rows[view.name] = len(standing)
            if refusal is not None:
                report.refusals.append(f"{view.name}: {refusal}")
            elif prune != "none" and going:
                stamp = Stamp(generation, counts["newest"], 0)
                writer.write([(view.target, Row(path, stamp, None)) for path in going])
                report.deleted[view.name] += len(going)
                report.rows[view.name] -= len(going)
