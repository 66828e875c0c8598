"""Runs a stream on a Beam runner. It imports Beam, so it is imported only with `--runner`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from boiler_beam.beam import (
    AppendRows,
    ComputedRows,
    ComputeRows,
    FollowSources,
    Outlet,
    ReadChanges,
    ReadChangesFromPubSub,
    WriteToFirestore,
)
from boiler_beam.beam.elements import NAMESPACE, Changes
from boiler_beam.beam.write_firestore import workers_of
from boiler_beam.connectors import open_source
from boiler_beam.connectors.base import Control, Sink, Source
from boiler_beam.engine.failures import reason_for_no_rows
from boiler_beam.engine.report import StreamReport
from boiler_beam.engine.write import Prune, refusal_to_prune
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, Stamp
from boiler_beam.plan import Plan, refuse_main
from boiler_beam.steps.keyed.wire import path_bytes
from pipelines.beam import pipeline_on, plain_errors
from pipelines.options import RunOptions, sink_of, write_options
from pipelines.workers import DATAFLOW, LOCAL_RUNNERS, is_awaited, workers_are_elsewhere

__all__ = ["run_streaming"]


def run_streaming(
    plan: Plan, options: RunOptions, dead_letters: str, should_stop: Callable[[], bool] = lambda: False
) -> StreamReport | None:
    """Runs the streaming pipeline over the changes of some sources, and writes the rows.

    Every run begins with an empty state, so its rows take the next generation (S13); an update of a running job on
    Dataflow (`--update`) does not. If its sources end, the rows that it did not compute are pruned, if that is safe.
    Returns None if the job was only handed to Dataflow.

    Args:
        plan: The views.
        options: The options of the run.
        dead_letters: The URI where dead letters are written.
        should_stop: Called while unbounded sources are followed; true ends the run.

    Raises:
        UsageError: An option is wrong; nothing was written.
        BoilerBeamError: A worker failed.
    """
    refuse_main(plan)
    sources = [open_source(uri) for uri in options.source]
    live = [source for source in sources if not source.is_bounded]
    bounded = [source for source in sources if source.is_bounded]
    if live and not bounded and not options.from_empty:
        raise UsageError(
            f"{live[0].uri}: expected a snapshot to begin with, got no bounded source; fix: add --source with the "
            "documents, or --from_empty if there are none yet"
        )
    is_remote = workers_are_elsewhere(options.runner or "", dead_letters)
    pipeline = _pipeline(options, is_live=bool(live))
    for source in [*live, *bounded]:  # changes during the snapshot must not be missed
        source.read_time = options.read_time
        source.prepare(plan.collections)
    splits = [(source.uri, split) for source in bounded for split in source.splits()]
    sink = sink_of(options, plan)
    topic = next((source.topic for source in live if source.topic), "")
    is_update = bool(pipeline.options.view_as(GoogleCloudOptions).update)
    controls = _updated_generations(plan, sink) if is_update else _next_generations(plan, sink, topic)
    compute = ComputeRows(
        *plan.name.views,
        mode="stream",
        project=plan.database.project,
        database=plan.database.name,
        generation={name: one.generation for name, one in controls.items()},
        consistency=options.consistency,
        coalesce_seconds=options.coalesce_seconds,
        allowed_lateness_seconds=options.allowed_lateness_seconds,
        snapshot_time=time.time_ns() // 1000 if live and bounded else None,
    )
    with ExitStack() as held:
        if not options.dry_run:
            with ExitStack() as opened:
                opened.enter_context(sink.stream([view.target for view in plan.views])).control(controls)
                if _takes_many(sink) and options.runner != DATAFLOW:
                    held.push(opened.pop_all())  # the lease is held while this program waits for the runner
                if live and not is_update and options.runner == DATAFLOW:
                    held.enter_context(_withdrawn(plan, sink, controls))
        left = "" if live else os.path.join(held.enter_context(tempfile.TemporaryDirectory()), "left.jsonl")
        read = [pipeline | "Read" >> ReadChanges(splits)] if bounded or not live else []
        if live:
            read += _live(pipeline, plan, live, options)
        computed = _flattened(read) | "Follow" >> compute
        _write(computed, plan, sink, options, Outlet(options.sink, dead_letters, left, is_remote))
        with plain_errors():
            result: Any = pipeline.run()
            if options.runner == DATAFLOW and (live or options.dry_run or not is_awaited(result)):
                print(f"{DATAFLOW}: {_said(result, options)}", file=sys.stderr)
                return None
            _wait(result, should_stop)
        counts = _counts(result)
        report = _report(plan, counts)
        if live:
            report.rows = {view.name: sum(1 for _ in sink.current_rows(view.target)) for view in plan.views}
        else:
            _prune(plan, sink, controls, _left(left), counts, options.prune, report)
    for name, rows in report.rows.items():
        found = reason_for_no_rows(name, counts.get(f"{name}/failed", 0), 0, report.refused.get(name, 0), 0)
        if found is not None and not rows:
            report.failures[name] = found
    return report


@contextmanager
def _withdrawn(plan: Plan, sink: Sink, controls: Mapping[str, Control]) -> Iterator[None]:
    """If a job can't be submitted, removes its topic from the control data: no backfill must send touches to it (S16).

    The generation of the job stays taken.
    """
    try:
        yield
    except BaseException:
        with sink.stream([view.target for view in plan.views]) as writer:
            writer.control({name: msgspec.structs.replace(one, topic="") for name, one in controls.items()})
        raise


def _said(result: Any, options: RunOptions) -> str:
    """Says what happened to a job that nobody waits for."""
    if options.dry_run:
        return "built the job; nothing was submitted"
    return f"submitted the job {result.job_id()}" if is_awaited(result) else "wrote the job, which Dataflow starts"


def _takes_many(sink: Sink) -> bool:
    """Returns whether many workers may write to the sink at once."""
    return sink.scheme == "firestore"


def _flattened(read: Sequence[Changes]) -> Changes:
    """Returns what several transforms read as one."""
    if len(read) == 1:
        return read[0]
    outputs = {
        name: [one for one in some if one is not None]
        for name, some in zip(Changes._fields, zip(*read, strict=True), strict=True)
    }
    return Changes(
        **{
            name: some[0] if len(some) == 1 else some | f"All {name}" >> beam.Flatten()
            for name, some in outputs.items()
            if some
        }
    )


def _write(computed: ComputedRows, plan: Plan, sink: Sink, options: RunOptions, outlet: Outlet) -> None:
    """Adds the writes of rows and dead letters to the pipeline."""
    written = computed._asdict()
    if _takes_many(sink):
        rows = written.pop("rows")
        how = replace(write_options(options, plan), writers=workers_of(rows.pipeline.options))
        refused = (rows | "WriteRows" >> WriteToFirestore(sink.rest, options=how)).dead_letters
        kept = refused | "Refused" >> beam.Map(lambda letter: path_bytes(letter.path or "")).with_output_types(bytes)
        written["dead_letters"] = [computed.dead_letters, refused] | "AllDeadLetters" >> beam.Flatten()
        written["notes"] = [computed.notes, kept] | "AllNotes" >> beam.Flatten()
    written | "Write" >> AppendRows(plan.name, outlet)


def _live(pipeline: Any, plan: Plan, live: Sequence[Source], options: RunOptions) -> list[Changes]:
    """Follows unbounded sources: on Dataflow by its own service, else by reads within bundles."""
    if options.runner != DATAFLOW:
        return [pipeline | "Live" >> FollowSources(plan.name, [source.uri for source in live])]
    for source in live:
        if source.scheme != "pubsub":
            raise UsageError(
                f"{source.uri}: expected a source that {DATAFLOW} follows, got another; fix: name a subscription, "
                "pubsub:projects/P/subscriptions/S, and a relay that publishes to its topic"
            )
    time = "event_time" if options.consistency == "commit" else None
    return [
        pipeline | f"Live {source.rest}" >> ReadChangesFromPubSub(source.rest, timestamp_attribute=time)
        for source in live
    ]


def _pipeline(options: RunOptions, *, is_live: bool) -> beam.Pipeline:
    """Creates the pipeline; with unbounded sources, Prism is used instead of Beam's local runner."""
    runner, arguments = options.runner or "", options.beam_arguments
    if options.dry_run:
        arguments = ("--dry_run=True", *arguments)
    if is_live:
        arguments = ("--streaming", *arguments)
        if runner in LOCAL_RUNNERS:
            runner, found = "PrismRunner", shutil.which("prism") or os.environ.get("BOILER_BEAM_PRISM")
            if not found and not any(one.startswith("--prism_location") for one in arguments):
                raise UsageError(
                    f"--runner {options.runner}: expected sources that end, got one without an end; fix: leave "
                    "--runner out: the embedded engine follows it; or --runner PrismRunner, with prism on the PATH"
                )
            arguments = (*arguments, f"--prism_location={found}") if found else arguments
    pipeline = pipeline_on(runner, arguments)
    refuse_at_least_once(pipeline.options)
    return pipeline


def _wait(result: Any, should_stop: Callable[[], bool]) -> None:
    """Waits until the sources end, or the program is asked to stop."""
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            result.wait_until_finish()
        except BaseException as error:  # raised again in the main thread
            failed.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while waiting.is_alive() and not should_stop():
        waiting.join(0.1)
    if waiting.is_alive():
        result.cancel()
        waiting.join()
    elif failed:
        raise failed[0]


def refuse_at_least_once(options: PipelineOptions) -> None:
    """Refuses Dataflow's at-least-once mode, because a repeated delta between stages would be counted twice.

    Raises:
        UsageError: The options ask for that mode.
    """
    asked = options.view_as(GoogleCloudOptions).dataflow_service_options or []
    if any("at_least_once" in one for one in asked):
        raise UsageError(
            "--dataflow_service_options: expected exactly-once streaming, because stages add up the messages, got "
            "streaming_mode_at_least_once; fix: leave it out"
        )


def _next_generations(plan: Plan, sink: Sink, topic: str) -> dict[str, Control]:
    controls, holder = sink.controls(), uuid.uuid4().hex
    found = {}
    for view in plan.views:
        known = controls.get(view.name)
        generation = 1 + (known.generation if known is not None else 0)
        found[view.name] = Control(generation=generation, fingerprint=view.fingerprint, holder=holder, topic=topic)
    return found


def _updated_generations(plan: Plan, sink: Sink) -> dict[str, Control]:
    """Returns the control data for an update of a job: its state stays, and with it the generation of its rows.

    A changed view takes the next one: rows that are rendered again replace those of the old code, and a backfill beside
    the job asks for the others (S13, S16).

    Raises:
        UsageError: No job writes one of the views.
    """
    controls, found = sink.controls(), {}
    for view in plan.views:
        known = controls.get(view.name)
        if known is None or not known.holder:
            raise UsageError(
                f"--update: expected a job that writes {view.name} to {sink.uri}, got none; fix: start it without "
                "--update, as a job of its own"
            )
        generation = known.generation + (known.fingerprint != view.fingerprint)
        found[view.name] = msgspec.structs.replace(known, generation=generation, fingerprint=view.fingerprint)
    return found


def _counts(result: Any) -> dict[str, int]:
    query = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))
    counts: dict[str, int] = {}
    for one in query["counters"]:  # one value for each step with the counter
        counts[one.key.metric.name] = counts.get(one.key.metric.name, 0) + (one.result or 0)  # Prism: None for 0
    newest = [one.result.max for one in query["distributions"] if one.key.metric.name == "version"]
    return {**counts, "newest": max(newest, default=0)}


def _report(plan: Plan, counts: Mapping[str, int]) -> StreamReport:
    names = [view.name for view in plan.views]
    return StreamReport(
        changes=counts.get("changes", 0),
        documents=counts.get("documents", 0),
        written={name: counts.get(f"{name}/written", 0) for name in names},
        deleted={name: counts.get(f"{name}/deleted", 0) for name in names},
        refused={name: number for name in names if (number := counts.get(f"{name}/refused", 0))},
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
    """Deletes the rows of older generations, if that is safe; returns the number of current rows."""
    with sink.stream([view.target for view in plan.views]) as writer:
        for view in plan.views:
            generation, standing = controls[view.name].generation, list(sink.current_rows(view.target))
            old = [row.path for row in standing if row.stamp.generation < generation]
            going = [path for path in old if path not in left and view.paths.wildcard_of(path) not in left]
            pattern = plan.collections[view.root.type_index]
            is_dead = counts.get(f"dead {pattern}", 0) > 0
            refusal = refusal_to_prune(prune, len(going), len(standing), is_root_dead=is_dead)
            report.rows[view.name] = len(standing)
            if refusal is not None:
                report.refusals.append(f"{view.name}: {refusal}")
            elif prune != "none" and going:
                stamp = Stamp(generation, counts["newest"], 0)
                writer.write([(view.target, EncodedRow(path, stamp, None)) for path in going])
                report.deleted[view.name] += len(going)
                report.rows[view.name] -= len(going)
