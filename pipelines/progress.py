"""Shows on stderr how far a run is: on a terminal a bar where the number is known, else a count."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from boiler_beam import program

__all__ = ["backfill_progress", "stream_progress"]

_LOG_EVERY_SECONDS = 10.0
_log = logging.getLogger("boiler_beam")


class _Count(ProgressColumn):
    """How many are done, and of how many if that is known: `4,096` or `4,096/10,000`."""

    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{int(task.total):,}"
        return Text(f"{int(task.completed):,}{total}")


@contextmanager
def backfill_progress(console: Console | None = None) -> Iterator[Callable[[program.Progress], None]]:
    """Shows a line for the documents that are read, and a bar for each view's rows; nothing without a terminal."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), _Count(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bars:
        tasks = {"": bars.add_task("changes read", total=None)}

        def show(progress: program.Progress) -> None:
            if progress.view not in tasks:
                bars.stop_task(list(tasks.values())[-1])
                tasks[progress.view] = bars.add_task(f"rows of {progress.view}", total=progress.total)
            bars.update(tasks[progress.view], completed=progress.done)

        yield show


@contextmanager
def stream_progress() -> Iterator[Callable[[program.StreamReport], None]]:
    """Shows one live line on a terminal; otherwise a log line every ten seconds."""
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

    def log(report: program.StreamReport) -> None:
        now = time.monotonic()
        if now - last[0] >= _LOG_EVERY_SECONDS:
            last[0] = now
            _log.info(_line(report, report.changes / (now - started)))

    try:
        yield log
    finally:
        _log.removeHandler(handler)


def _line(report: program.StreamReport, rate: float) -> str:
    lag = max(0.0, time.time() - report.newest / 1e6) if report.newest else 0.0
    return (
        f"{report.changes:,} changes ({rate:,.0f}/s), {report.written + report.deleted:,} rows written, "
        f"{report.dirty:,} dirty, {report.dead_letters:,} dead letters, {lag:,.0f} s behind"
    )
