"""Runs a stream in this process: progress, signals, and the summary at the end."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

from rich.console import Console
from rich.text import Text

from boiler_beam.connectors import Sink, open_dead_letters, open_sink, open_source
from boiler_beam.engine.follow import Settings, StreamReport, follow
from boiler_beam.engine.memory import MemorySink
from boiler_beam.engine.state import MemoryState, open_state
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.plan import Plan
from pipelines.finish import DONE, finish, needs_beam
from pipelines.options import RunOptions, sink_of
from pipelines.show import show_rows, show_stream, where
from pipelines.workers import LOCAL_RUNNERS

__all__ = ["asked_to_end", "run_stream", "state_beside"]

_LOG_EVERY_SECONDS = 10.0
_log = logging.getLogger("boiler_beam")


def state_beside(sink: str, *, is_bounded: bool) -> str:
    """Returns the default of `--state`.

    >>> state_beside("jsonl:rows.jsonl", is_bounded=False)
    'sqlite:rows.jsonl.state.db'
    """
    if is_bounded:
        return "memory:"
    opened = open_sink(sink)
    return f"sqlite:{opened.rest}.state.db" if opened.has_path else "sqlite:boiler_beam.state.db"


def run_stream(plan: Plan, options: RunOptions, dead_letters: str) -> int:
    """Follows the sources; returns the exit code.

    Raises:
        UsageError: An option is wrong; nothing was written.
        BoilerBeamError: State or sink could not be written.
    """
    started = time.monotonic()
    console = Console(soft_wrap=False, highlight=False)
    if options.runner:
        done, sink = _on_beam(plan, options, dead_letters), sink_of(options, plan)
        if done is None:
            return DONE
        _warnings()(report := done)
    else:
        report, sink = _embedded(plan, options, dead_letters)
    show_rows(console, plan, sink)
    show_stream(console, report, "no file, because this was a dry run" if options.dry_run else where(dead_letters))
    return finish(
        console,
        options,
        started,
        documents=report.documents,
        changes=report.changes,
        rows=sum(report.rows.values()),
        dead_letters=report.dead_letters,
        refusals=report.refusals,
        billed=report.billed,
    )


def _on_beam(plan: Plan, options: RunOptions, dead_letters: str) -> StreamReport | None:
    for name, value in (("state", options.state), ("metrics_port", options.metrics_port)):
        if value is not None:
            raise UsageError(
                f"--{name}: expected the embedded engine, got --runner {options.runner}; fix: leave it out"
            )
    if options.dry_run and options.runner != "DataflowRunner":
        raise UsageError(
            f"--dry_run: expected the embedded engine, or DataflowRunner, got --runner {options.runner}; "
            "fix: leave one of the two out"
        )
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
        return run_streaming(plan, options, dead_letters, should_stop)


def _embedded(plan: Plan, options: RunOptions, dead_letters: str) -> tuple[StreamReport, Sink]:
    sources = [open_source(uri) for uri in options.source]
    if all(source.is_bounded for source in sources):
        sources = [source.following() for source in sources]
    for source in sources:
        source.read_time = options.read_time
    sink, letters = sink_of(options, plan), open_dead_letters(dead_letters)
    address = options.state or state_beside(options.sink, is_bounded=all(source.is_bounded for source in sources))
    lateness = options.allowed_lateness_seconds if options.consistency == "commit" else None
    settings = Settings(options.coalesce_seconds, lateness, options.prune, options.from_empty)
    with ExitStack() as stack:
        state = stack.enter_context(closing(MemoryState() if options.dry_run else open_state(address)))
        stack.callback(letters.close)
        if not all(source.is_bounded for source in sources):
            names = ", ".join(options.source)
            print(f"follows {names}; state {'memory:' if options.dry_run else address}", file=sys.stderr)
        told = _both(stack.enter_context(_progress()), _warnings())
        if options.metrics_port is not None:
            from pipelines.metrics import serve_metrics

            told = _both(told, stack.enter_context(serve_metrics(options.metrics_port)))
        should_stop = stack.enter_context(asked_to_end())
        if options.dry_run:
            sink = MemorySink(sink)
        report = follow(
            plan,
            sources,
            sink,
            None if options.dry_run else letters,
            state,
            settings,
            should_stop=should_stop,
            told=told,
        )
    return report, sink


def _both(one: Callable[[StreamReport], None], other: Callable[[StreamReport], None]) -> Callable[[StreamReport], None]:
    def told(report: StreamReport) -> None:
        one(report)
        other(report)

    return told


def _warnings() -> Callable[[StreamReport], None]:
    """Prints a warning on stderr when a view begins to have no row although there are roots or members."""
    console, known = Console(stderr=True, soft_wrap=True, highlight=False), set[str]()

    def told(report: StreamReport) -> None:
        for name in report.failures.keys() - known:
            console.print(Text(f"warning: {report.failures[name]}", style="bold red"))
        known.clear()
        known.update(report.failures)

    return told


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether SIGTERM or ^C was received; then the program completes its writes.

    A second signal ends the program at once; the next run resumes after the last transaction.
    """
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    old = {number: signal.signal(number, ask) for number in _ENDING}
    try:
        yield lambda: bool(asked)
    except KeyboardInterrupt:
        raise BoilerBeamError("interrupted; fix: run it again, it resumes after its last transaction") from None
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


_ENDING = (signal.SIGTERM, signal.SIGINT)


def _line(report: StreamReport, rate: float) -> str:
    lag = max(0.0, time.time() - report.newest / 1e6) if report.newest else 0.0
    written = sum(report.written.values()) + sum(report.deleted.values())
    return (
        f"{report.changes:,} changes ({rate:,.0f}/s), {written:,} rows written, {report.dirty:,} dirty, "
        f"{report.dead_letters:,} dead letters, {lag:,.0f} s behind"
    )


@contextmanager
def _progress() -> Iterator[Callable[[StreamReport], None]]:
    """Shows the progress: one live line on a terminal, otherwise a log line every ten seconds."""
    console, started = Console(stderr=True), time.monotonic()
    if console.is_terminal:
        with console.status("starting") as status:
            yield lambda report: status.update(_line(report, report.changes / (time.monotonic() - started)))
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    last = [started]

    def told(report: StreamReport) -> None:
        now = time.monotonic()
        if now - last[0] >= _LOG_EVERY_SECONDS:
            last[0] = now
            _log.info(_line(report, report.changes / (now - started)))

    try:
        yield told
    finally:
        _log.removeHandler(handler)
