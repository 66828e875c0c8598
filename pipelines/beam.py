"""Runs a backfill on a Beam runner. It imports Beam, so it is imported only with `--runner`."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from boiler_beam.beam import ComputeRows, Destination, ReadChanges, WriteRows
from boiler_beam.beam.elements import NAMESPACE
from boiler_beam.connectors import open_dead_letters, open_sink, open_sources
from boiler_beam.engine.backfill import Report
from boiler_beam.engine.garbage import without_garbage_collection
from boiler_beam.engine.write import ViewReport
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.plan import Plan, refuse_main
from pipelines.options import NAMES, did_you_mean
from pipelines.workers import DATAFLOW, LOCAL_RUNNERS, is_awaited, workers_are_elsewhere

__all__ = ["pipeline_on", "plain_errors", "run_backfill"]

PARTITION_BYTES = 32 << 20
"""The bytes of the sources for one partition; as objects in a worker, its documents need about ten times as much."""

LOCAL_BYTES = 256 << 20
"""The bytes of the sources up to which a local runner joins them at once. It holds all that it groups in memory anyway:
for 90 MB of documents it needed 1,049 MB and 22 s, and 959 MB and 60 s in partitions."""

WORKER_PARTITIONS = 32
"""The minimal number of partitions if several workers share them."""


def run_backfill(
    plan: Plan, sources: Sequence[str], destination: Destination, *, runner: str, beam_arguments: Sequence[str] = ()
) -> Report | None:
    """Computes all rows on a runner and writes them; returns None if the job was only handed to Dataflow.

    Args:
        plan: The views, importable on the workers.
        sources: URIs of bounded sources.
        destination: Where rows and dead letters are written. Its `read_time` is also the time as of which sources are
            read that support this. Without it the version of the rows is the sources' own read time, or the newest
            version.
        runner: A Beam runner's name; `DirectRunner` is FnApiRunner in this process.
        beam_arguments: Beam's own options, `--name=value`.

    Raises:
        UsageError: A source can't be read, the sink can't be written, or Beam does not know an option.
    """
    refuse_main(plan)
    opened = open_sources(sources, plan.collections, destination.read_time)
    splits = [(source.uri, split) for source in opened for split in source.splits()]
    if destination.read_time is None:
        destination = replace(destination, read_time=max(source.read_time or 0 for source in opened) or None)
    open_sink(destination.sink).controls()
    open_dead_letters(destination.dead_letters)
    sizes = [source.size_bytes() for source in opened]
    is_local = runner in LOCAL_RUNNERS
    size = sum(size or 0 for size in sizes)
    is_whole = is_local and None not in sizes and size <= LOCAL_BYTES
    partitions = 1 if is_whole else max(1 if is_local else WORKER_PARTITIONS, size // PARTITION_BYTES)
    pipeline = pipeline_on(runner, beam_arguments)
    destination = replace(destination, is_remote=workers_are_elsewhere(runner, destination.dead_letters))
    changes = pipeline | "ReadChanges" >> ReadChanges(splits)
    computed = changes | "ComputeRows" >> ComputeRows(
        *plan.name.views,
        mode="backfill",
        project=plan.database.project,
        database=plan.database.name,
        read_time=destination.read_time,
        partitions=partitions,
        in_memory=is_whole,
    )
    computed | "WriteRows" >> WriteRows(plan.name, destination)
    with without_garbage_collection() if is_local else contextlib.nullcontext(), plain_errors():
        result = pipeline.run()
        if not is_awaited(result, beam_arguments):
            print(f"{DATAFLOW}: handed over the job of the backfill", file=sys.stderr)
            return None
        result.wait_until_finish()
    return _report(plan, result)


def pipeline_on(runner: str, arguments: Sequence[str]) -> beam.Pipeline:
    """Creates an empty pipeline.

    Args:
        runner: A Beam runner's name; `DirectRunner` is FnApiRunner in this process.
        arguments: Beam's own options, `--name=value`.

    Raises:
        UsageError: The runner does not exist, or Beam does not know an option.
    """
    try:
        return beam.Pipeline(runner=FnApiRunner() if runner in LOCAL_RUNNERS else runner, options=_options(arguments))
    except ValueError as error:  # unknown runner
        raise UsageError(f"--runner {runner}: expected a Beam runner, got: {error}; fix: DirectRunner, ...") from None


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Returns the error that boiler_beam raised on a worker, without Beam's wrapper."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BoilerBeamError):
                message = str(cause).partition(" [while running")[0]
                raise (UsageError if isinstance(cause, UsageError) else BoilerBeamError)(message) from error
            cause = cause.__cause__
        raise


def _options(arguments: Sequence[str]) -> PipelineOptions:
    """Parses Beam's options, and raises an error for unknown ones, which Beam itself would ignore with a warning."""
    options = PipelineOptions(list(arguments))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            known, given = options.get_all_options(), options.get_all_options(retain_unknown_options=True)
    except SystemExit:  # argparse exits when it refuses a value
        said = complaint.getvalue().strip().rpartition("error: ")[2]
        raise UsageError(
            f"expected valid values of Beam's options, got {said}; fix: see Beam's pipeline options"
        ) from None
    for name in given.keys() - known.keys():
        meant = did_you_mean(f"--{name}", [f"--{one}" for one in (*known, *NAMES)])
        raise UsageError(f"--{name}: expected an option of boiler_beam or Beam, got neither{meant}; fix: see --help")
    return options


def _report(plan: Plan, result: Any) -> Report:
    counts = {
        counter.key.metric.name: counter.result
        for counter in result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))["counters"]
    }
    views = []
    for view in plan.views:
        numbers = {
            name.partition("/")[2]: number for name, number in counts.items() if name.startswith(f"{view.name}/")
        }
        views.append(ViewReport(view.name, **numbers))
    totals = {name: counts.get(name, 0) for name in ("documents", "changes", "dead_letters", "touched", "drift")}
    return Report(views=views, **totals)
