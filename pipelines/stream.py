"""One stream: on a Beam runner, or in this process, with its progress and metrics; prints its summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from rich.console import Console
from rich.text import Text

from boiler_beam.connectors import open_source
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.plan import Plan
from boiler_beam.program import StreamReport, follow
from boiler_beam.program.signals import asked_to_end
from pipelines.finish import DONE, finish, needs_beam
from pipelines.options import RunOptions, sink_of
from pipelines.progress import stream_progress
from pipelines.show import show_rows, show_stream
from pipelines.workers import DATAFLOW, LOCAL_RUNNERS, dead_letters_of

__all__ = ["run_stream"]


def run_stream(plan: Plan, options: RunOptions) -> int:
    """Follows the sources; returns the exit code.

    Raises:
        UsageError: An option is wrong; nothing was written.
        BoilerBeamError: State or sink could not be written.
    """
    console = Console(soft_wrap=False, highlight=False)
    try:
        report = _on_beam(plan, options) if options.runner else _embedded(plan, options)
    except KeyboardInterrupt:
        raise BoilerBeamError("interrupted; fix: run it again, it resumes after its last transaction") from None
    if report is None:
        return DONE
    if not options.dry_run:
        show_rows(console, plan, sink_of(options, plan), {view.view: view.rows for view in report.views})
    show_stream(console, report)
    return finish(console, report, report.not_pruned, (), is_strict=options.strict)


def _on_beam(plan: Plan, options: RunOptions) -> StreamReport | None:
    """Returns the report; None: the job was submitted, and nobody waits for it."""
    for name, value in (("state", options.state), ("metrics_port", options.metrics_port)):
        if value is not None:
            raise UsageError(
                f"--{name}: expected the embedded engine, got --runner {options.runner}; fix: leave it out"
            )
    if options.dry_run and options.runner != DATAFLOW:
        raise UsageError(
            f"--dry_run: expected the embedded engine, or DataflowRunner, got --runner {options.runner}; "
            "fix: leave one of the two out"
        )
    started = time.monotonic()
    dead_letters = dead_letters_of(options)
    with needs_beam(options.runner):
        from pipelines.streaming import run_streaming
    if not all(open_source(uri).is_bounded for uri in options.source):
        if options.runner in (*LOCAL_RUNNERS, "PrismRunner"):
            print(
                f"{options.runner}: state is in the memory of Prism, for development: it is lost when the run ends, "
                "and the next run begins with a snapshot",
                file=sys.stderr,
            )
    elif options.runner in LOCAL_RUNNERS:
        print("bounded input: runs on FnApiRunner, in this process", file=sys.stderr)
    with asked_to_end() as should_stop:
        counts = run_streaming(plan, options, dead_letters, should_stop)
    if counts is None:
        return None
    report = StreamReport.of(counts, time.monotonic() - started, dead_letters, is_dry_run=options.dry_run)
    _warnings()(report)
    return report


def _embedded(plan: Plan, options: RunOptions) -> StreamReport:
    running = follow(
        plan,
        sources=options.source,
        sink=options.sink,
        state=options.state,
        dead_letter=options.dead_letter,
        consistency=options.consistency,
        coalesce_seconds=options.coalesce_seconds,
        allowed_lateness_seconds=options.allowed_lateness_seconds,
        from_empty=options.from_empty,
        prune=options.prune,
        read_time=options.read_time,
        dry_run=options.dry_run,
        ramp_up=options.ramp_up,
        row_seconds=options.row_seconds,
    )
    if not running.is_bounded:
        print(f"follows {', '.join(options.source)}; state {running.state}", file=sys.stderr)
    with ExitStack() as stack:
        observers = [stack.enter_context(stream_progress()), _warnings()]
        if options.metrics_port is not None:
            from pipelines.metrics import serve_metrics

            observers.append(stack.enter_context(serve_metrics(options.metrics_port)))
        for report in stack.enter_context(running):
            for observe in observers:
                observe(report.total)
    return running.report


def _warnings() -> Callable[[StreamReport], None]:
    """Prints a warning on stderr when a view begins to have no row although there are roots or members."""
    console, known = Console(stderr=True, soft_wrap=True, highlight=False), set[str]()

    def warn(report: StreamReport) -> None:
        failures = {view.view: view.failure for view in report.views if view.failure is not None}
        for name in failures.keys() - known:
            console.print(Text(f"warning: {failures[name]}", style="bold red"))
        known.clear()
        known.update(failures)

    return warn
