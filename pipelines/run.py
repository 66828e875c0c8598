"""One run: chooses backfill or stream from the options, runs it, prints the result and returns the exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from boiler_beam.connectors import open_dead_letters, open_source, read_sources
from boiler_beam.engine import Report, backfill
from boiler_beam.engine.cost import writes_per_change
from boiler_beam.engine.memory import MemorySink
from boiler_beam.errors import UsageError
from boiler_beam.events import DeadLetter
from boiler_beam.plan import Plan
from boiler_beam.plan.explain import explain
from boiler_beam.plan.impure import warnings_of
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.views import ViewModel
from pipelines.finish import DONE, FAILED, finish, needs_beam
from pipelines.options import RunOptions, sink_of, write_options
from pipelines.show import show_report, show_rows, where
from pipelines.stream import run_stream
from pipelines.views import plan_of
from pipelines.workers import LOCAL_RUNNERS, dead_letters_of

__all__ = ["explain_plan", "run"]

_OF_STREAMS = {"state", "consistency", "coalesce_seconds", "allowed_lateness_seconds", "from_empty", "metrics_port"}


def run(views: Sequence[type[ViewModel]], options: RunOptions) -> int:
    """Runs some views with the given options; returns the exit code.

    Raises:
        UsageError, DeclarationError: An option or a class is wrong; nothing was written.
    """
    plan = plan_of(views, options.source, options.project, options.database)
    for warning in warnings_of(plan) if not options.explain else ():
        print(f"warning: {warning}", file=sys.stderr)
    if options.explain:
        explain_plan(plan, options.source)
        return DONE
    if not options.source:
        raise UsageError("--source: expected a source of documents, got none; fix: add --source file:PATH")
    started = time.monotonic()
    console = Console(soft_wrap=False, highlight=False)
    dead_letters = dead_letters_of(options)
    is_bounded = all(open_source(uri).is_bounded for uri in options.source)
    if options.mode == "stream" or (options.mode == "auto" and not is_bounded):
        return run_stream(plan, options, dead_letters)
    if not is_bounded:
        raise UsageError("--mode backfill: expected sources that end, got an unbounded one; fix: --mode stream")
    for name in sorted(_OF_STREAMS & options.given):
        print(f"--{name}: has no effect on a backfill; fix: add --mode stream, or leave it out", file=sys.stderr)
    report = _on_beam(plan, options, dead_letters) if options.runner else _embedded(plan, options, dead_letters)
    if report is None:
        return DONE
    if not options.dry_run:
        show_rows(console, plan, sink_of(options, plan))
    show_report(console, report, "no file, because this was a dry run" if options.dry_run else where(dead_letters))
    code = finish(
        console,
        options,
        started,
        documents=report.documents,
        changes=report.changes,
        rows=report.rows,
        dead_letters=report.dead_letters,
        refusals=report.refusals,
        failures=report.failures,
        billed=report.billed,
    )
    return FAILED if report.drift else code


def explain_plan(plan: Plan, sources: Sequence[str]) -> None:
    """Prints a plan; with documents, also how many rows a change of one of them writes."""
    print(explain(plan))
    if sources:
        versions = NewestVersions(plan, lambda letter: None)
        versions.add_all(read_sources(sources, plan.collections))
        print("\nrows written for one change, counted over these documents (worst case: all its rows change):")
        for writes in writes_per_change(plan, versions):
            print(f"  {writes}")


def _embedded(plan: Plan, options: RunOptions, dead_letters: str) -> Report:
    sources = [open_source(uri) for uri in options.source]
    sink = sink_of(options, plan)
    writer = open_dead_letters(dead_letters)

    def drop(letter: DeadLetter) -> None:
        """Counts dead letters in a dry run, without writing them."""

    try:
        with _progress() as progress:
            return backfill(
                plan,
                sources,
                MemorySink(sink) if options.dry_run else sink,
                drop if options.dry_run else writer.write,
                prune=options.prune,
                read_time=options.read_time,
                progress=progress,
            )
    finally:
        writer.close()


def _on_beam(plan: Plan, options: RunOptions, dead_letters: str) -> Report | None:
    with needs_beam(options.runner):
        from pipelines.beam import run_backfill
        from transforms import Destination
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
    return run_backfill(plan, options.source, destination, runner=options.runner or "", beam_arguments=arguments)


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Shows the progress on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage, number: None
        return
    words = {"read": "changes read", "rows": "rows computed"}
    with console.status("starting") as status:
        yield lambda stage, number: status.update(f"{number:,} {words[stage]}")
