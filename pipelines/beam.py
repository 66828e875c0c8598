"""Running a backfill on a Beam runner. Imports Beam: only where `--runner` asks."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from boiler_beam.connectors import open_sink, open_source
from boiler_beam.engine.backfill import Report
from boiler_beam.engine.write import Prune, ViewReport
from boiler_beam.errors import UsageError
from boiler_beam.plan import Plan, refuse_main
from transforms import Backfill
from transforms.write import NAMESPACE

__all__ = ["run_backfill"]

PARTITION_BYTES = 64 << 20
MIN_PARTITIONS = 8


def run_backfill(
    plan: Plan,
    sources: Sequence[str],
    sink: str,
    dead_letters: str,
    *,
    runner: str,
    prune: Prune = "safe",
    read_time: int | None = None,
    beam_arguments: Sequence[str] = (),
) -> Report:
    """Computes every row on a runner and writes them.

    Args:
        plan: The views, importable on the workers.
        sources: URIs of bounded sources.
        sink: The sink's URI.
        dead_letters: The URI where dead letters go.
        runner: A Beam runner's name; `DirectRunner` is FnApiRunner in this process.
        prune: What to do with rows that are not computed.
        read_time: The version of the rows, in microseconds since the epoch; None: the newest version read.
        beam_arguments: Options of Beam's own, `--name=value`.

    Raises:
        UsageError: A source can't be read, the sink can't be written, or Beam does not know an option.
    """
    refuse_main(plan)
    opened = [open_source(uri) for uri in sources]
    splits = [(source.uri, split) for source in opened for split in source.splits()]
    open_sink(sink).controls()
    sizes = [source.size_bytes() for source in opened]
    partitions = max(MIN_PARTITIONS, sum(size or 0 for size in sizes) // PARTITION_BYTES)
    options = _options(beam_arguments)
    backfill = Backfill(
        tuple(view.reference_name for view in plan.views), splits, sink, dead_letters,
        partitions=partitions, prune=prune, read_time=read_time,
    )  # fmt: skip
    is_local = runner in ("DirectRunner", "FnApiRunner")
    if is_local:
        gc.disable()  # documents hold no cycles: looking for some takes a third of the time
    try:
        pipeline = beam.Pipeline(runner=FnApiRunner() if is_local else runner, options=options)
        pipeline | "Backfill" >> backfill  # noqa: B018
        result = pipeline.run()
        result.wait_until_finish()
    finally:
        if is_local:
            gc.enable()
    return _report(plan, result)


def _options(arguments: Sequence[str]) -> Any:
    options = PipelineOptions(list(arguments))
    _, unknown = options._get_all_options_and_unknown() if hasattr(options, "_get_all_options_and_unknown") else ({}, [])
    if unknown:
        raise UsageError(f"{unknown[0]}: expected an option of boiler_beam or Beam; mend: see --help")
    return options


def _report(plan: Plan, result: Any) -> Report:
    counts = {
        counter.key.metric.name: counter.result
        for counter in result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))["counters"]
    }
    views = []
    for view in plan.views:
        numbers = {name.partition("/")[2]: number for name, number in counts.items() if name.startswith(f"{view.name}/")}
        views.append(ViewReport(view.name, **numbers))
    return Report(counts.get("documents", 0), counts.get("changes", 0), counts.get("dead_letters", 0), views)
