"""One run: chooses backfill or stream from the options, runs it, prints the result and returns the exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console

from boiler_beam.connectors import open_source
from boiler_beam.errors import UsageError
from boiler_beam.plan import Plan
from boiler_beam.plan.impure import warnings_of
from boiler_beam.program import Report, backfill, explain
from boiler_beam.program.loading import plan_of
from boiler_beam.views import ViewModel
from pipelines.finish import DONE, FAILED, finish, needs_beam
from pipelines.options import RunOptions, sink_of, write_options
from pipelines.progress import backfill_progress
from pipelines.show import show_report, show_rows
from pipelines.stream import run_stream
from pipelines.workers import LOCAL_RUNNERS, dead_letters_of

__all__ = ["run"]

_OF_STREAMS = {"state", "consistency", "coalesce_seconds", "allowed_lateness_seconds", "from_empty", "metrics_port"}


def run(views: Sequence[type[ViewModel]], options: RunOptions) -> int:
    """Runs some views with the given options; returns the exit code.

    Raises:
        UsageError, DeclarationError: An option or a class is wrong; nothing was written.
    """
    sources = [open_source(uri) for uri in options.source]
    plan = plan_of(views, sources, project=options.project, database=options.database)
    if options.explain:
        print(explain(plan, sources=options.source))
        return DONE
    for warning in warnings_of(plan):
        print(f"warning: {warning}", file=sys.stderr)
    if not sources:
        raise UsageError("--source: expected a source of documents, got none; fix: add --source file:PATH")
    is_bounded = all(source.is_bounded for source in sources)
    if options.mode == "stream" or (options.mode == "auto" and not is_bounded):
        return run_stream(plan, options)
    if not is_bounded:
        raise UsageError("--mode backfill: expected sources that end, got an unbounded one; fix: --mode stream")
    for name in sorted(_OF_STREAMS & options.given):
        print(f"--{name}: has no effect on a backfill; fix: add --mode stream, or leave it out", file=sys.stderr)
    report = _on_beam(plan, options) if options.runner else _embedded(plan, options)
    if report is None:
        return DONE
    console = Console(soft_wrap=False, highlight=False)
    if not options.dry_run:
        standing = {view.view: view.rows + view.kept for view in report.views}
        show_rows(console, plan, sink_of(options, plan), standing)
    show_report(console, report)
    for view in report.views:
        if not (view.rows or view.tainted or view.newer or view.failure):
            print(
                f"note: {view.view}: no document makes a row; fix: if one should, run boiler-beam check",
                file=sys.stderr,
            )
    code = finish(console, report, report.not_pruned, report.failures, is_strict=options.strict)
    return FAILED if report.drift else code


def _embedded(plan: Plan, options: RunOptions) -> Report:
    with backfill_progress() as progress:
        return backfill(
            plan,
            sources=options.source,
            sink=options.sink,
            dead_letter=options.dead_letter,
            prune=options.prune,
            read_time=options.read_time,
            dry_run=options.dry_run,
            ramp_up=options.ramp_up,
            row_seconds=options.row_seconds,
            touches=options.touches,
            progress=progress,
        )


def _on_beam(plan: Plan, options: RunOptions) -> Report | None:
    """Returns the report; None: the job was submitted, and nobody waits for it."""
    started = time.monotonic()
    dead_letters = dead_letters_of(options)
    with needs_beam(options.runner):
        from boiler_beam.beam import Destination
        from pipelines.beam import run_backfill
    if options.runner in LOCAL_RUNNERS:
        print("bounded input: runs on FnApiRunner, in this process", file=sys.stderr)
    destination = Destination(
        options.sink,
        dead_letters,
        prune=options.prune,
        read_time=options.read_time,
        dry_run=options.dry_run,
        options=write_options(options, plan),
    )
    arguments = options.beam_arguments
    counts = run_backfill(plan, options.source, destination, runner=options.runner or "", beam_arguments=arguments)
    if counts is None:
        return None
    return Report.of(counts, time.monotonic() - started, dead_letters, is_dry_run=options.dry_run)
