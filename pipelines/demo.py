"""`python -m pipelines.demo`: shows the meeting room's rows, makes one change, and shows how the rows differ after it.

With `--runner DirectRunner` it shows instead the rows that Apache Beam computes, and says whether they are equal.
"""

from __future__ import annotations

import sys
import tempfile

import click
from rich.console import Console

from boiler_beam.connectors import open_sink, open_source
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine import backfill
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import DeadLetter
from boiler_beam.inspection.diff import differences
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary, UserMeetings
from pipelines.command import execute
from pipelines.show import show_differences, show_rows

SAMPLE = "sample:"
TICKET = (
    '{"path": "tickets/t2", "version": 1767312000000000, "fields": '
    '{"user": {"referenceValue": "users/u2"}, "role": "Participant", "attendance": false}}'
)


@click.command("demo")
@click.option("--runner", help="Show the rows that this Beam runner computes, and compare them.")
def _demo(runner: str | None) -> int:
    """Show the rows of the meeting room's views, and how they follow a change."""
    plan = compile_plan([MeetingSession, UserMeetings, OrganizationSummary])
    console = Console(highlight=False)
    rows = MemorySink()
    report = backfill(plan, [open_source(SAMPLE)], rows, _refused)
    if runner is not None:
        return _compare(console, plan, rows, runner)
    show_rows(console, plan, rows, {view.view: view.rows for view in report.views})
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(TICKET)
        file.flush()
        changed = MemorySink(rows)
        report = backfill(plan, [open_source(SAMPLE), open_source(f"file:{file.name}")], changed, _refused)
    written = sum(view.inserted + view.updated + view.deleted for view in report.views)
    console.print(f"The attendance of tickets/t2 becomes false: {written} of {report.rows} rows are written.")
    show_differences(console, differences(plan, rows, changed))
    return 0


def _compare(console: Console, plan: Plan, rows: MemorySink, runner: str) -> int:
    from boiler_beam.beam import Destination
    from pipelines.beam import run_backfill

    with tempfile.TemporaryDirectory() as folder:
        sink = f"sqlite:{folder}/rows.db"
        destination = Destination(sink, f"jsonl:{folder}/dead.jsonl")
        report = run_backfill(plan, [SAMPLE], destination, runner=runner)
        assert report is not None  # only a job on Dataflow is handed over
        computed = open_sink(sink)
        show_rows(console, plan, computed, {one.view: one.rows for one in report.views})
        number = show_differences(console, differences(plan, rows, computed))
    verdict = f"{number} rows differ from" if number else f"all {report.rows} rows equal"
    print(f"{runner}: {verdict} those of the embedded engine")
    return 1 if number else 0


def _refused(letter: DeadLetter) -> None:
    raise BoilerBeamError(f"{letter.path}: {letter.code}: {letter.message}")


if __name__ == "__main__":
    sys.exit(execute(_demo))
