"""What people expect of a command: help, names that are almost right, tables, progress."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import boiler_beam
from boiler_beam.connectors import open_sink
from boiler_beam.program import Progress
from pipelines.progress import backfill_progress
from tests.pipelines.test_command_line import CLI, MAIN, MEETING, run

BARE = [sys.executable, "-m", "boiler_beam"]


def test_the_package_is_a_program(tmp_path: Path) -> None:
    assert run(tmp_path, *BARE, "--version").stdout == f"boiler-beam, version {boiler_beam.__version__}\n"
    explained = run(tmp_path, *BARE, "explain", "--views", "boiler_beam.samples.meeting")
    assert explained.stdout == run(tmp_path, *CLI, "explain", "--views", "boiler_beam.samples.meeting").stdout


@pytest.mark.parametrize(
    ("group", "command"), [((), "dead-letters "), (("state",), "compact "), (("dead-letters",), "replay ")]
)
def test_without_a_command_there_is_help(tmp_path: Path, group: tuple[str, ...], command: str) -> None:
    done = run(tmp_path, *BARE, *group)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")
    assert f"\n  {command}" in done.stdout


def test_options_and_commands_with_hyphens_or_underscores(tmp_path: Path) -> None:
    given = [
        "--mode",
        "stream",
        "--sink",
        "jsonl:rows.jsonl",
        "--coalesce-seconds=0",
        "--dead-letter",
        "jsonl:dead.jsonl",
    ]
    done = run(tmp_path, *MEETING, *given, "--from-empty", "--no-touches")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rows.jsonl").exists()
    assert (
        run(tmp_path, *CLI, "dead_letters", "list", "jsonl:none").stderr
        == run(tmp_path, *CLI, "dead-letters", "list", "jsonl:none").stderr
    )
    assert run(tmp_path, *CLI, "state", "compact", "--keep-days", "x", "sqlite:s.db").stderr.startswith(
        "error: Invalid value for '--keep_days'"
    )


def test_configuration_reaches_a_command_that_is_written_otherwise(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.boiler_beam]\nviews = "nowhere"\n')
    assert (
        "--views nowhere: expected"
        in run(tmp_path, *CLI, "dead_letters", "replay", "jsonl:none").stderr + run(tmp_path, *CLI, "explain").stderr
    )


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("explian",), "Did you mean explain?"),
        (("rnu",), "Did you mean run?"),
        (("state", "shw"), "Did you mean show?"),
        (("run", "--views", "x", "--sorce", "y"), "Did you mean --source?"),
        (("run", "--views", "x", "--coalesce-second=3"), "Did you mean --coalesce_seconds?"),
        (("check", "--veiws", "x"), "Did you mean '--views'?"),
    ],
)
def test_a_name_that_is_almost_right(tmp_path: Path, arguments: tuple[str, ...], meant: str) -> None:
    done = run(tmp_path, *CLI, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.endswith(f" {meant}\n")


@pytest.mark.beam
def test_a_name_that_is_almost_right_with_beams_own(tmp_path: Path) -> None:
    for given, meant in (("--coalesce-second=3", "--coalesce_seconds"), ("--max_num_worker=3", "--max_num_workers")):
        done = run(tmp_path, *MEETING, "--runner", "DirectRunner", given)
        assert done.returncode == 2
        assert f"expected an option of boiler_beam or Beam, got neither. Did you mean {meant}?; fix: " in done.stderr


VIEWS = """
from datetime import datetime
import boiler_beam as bb
from boiler_beam import Ref, root, view_property

class Note(bb.DomainModel, collection="notes"):
    at: datetime
    boss: Ref["Note"]

class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        note: Note = root(Note)
    store: Store

    @view_property
    def what(self) -> dict[str, object]:
        note = self.store.note
        return {"at": note.at, "boss": note.boss, "spot": bb.GeoPoint(1.5, 2.0), "data": b"abc", "lost": float("nan")}
"""


def notes(folder: Path, number: int) -> None:
    (folder / "cards.py").write_text(VIEWS)
    fields = {"at": {"timestampValue": "2026-01-01T12:00:00.000001Z"}, "boss": {"referenceValue": "notes/n0"}}
    lines = [json.dumps({"path": f"notes/n{n}", "version": 1, "fields": fields}) + "\n" for n in range(number)]
    (folder / "notes.jsonl").write_text("".join(lines))


@pytest.mark.parametrize("mode", ["backfill", "stream"])
@pytest.mark.parametrize(("number", "said"), [(1, "1 row"), (3, "3 rows"), (1097, "3 of 1,097 rows")])
def test_a_table_says_how_many_rows_there_are(tmp_path: Path, mode: str, number: int, said: str) -> None:
    notes(tmp_path, number)
    done = run(tmp_path, *MAIN, "--views", "cards", "--source", "file:notes.jsonl", "--mode", mode)
    assert done.stdout.splitlines()[0] == f"Card (cards/{{id}}): {said}", done.stderr


def test_a_table_shows_values_as_people_write_them(tmp_path: Path) -> None:
    notes(tmp_path, 1)
    done = run(tmp_path, *MAIN, "--views", "cards", "--source", "file:notes.jsonl", COLUMNS="200")
    said = "at: 2026-01-01T12:00:00.000001Z, boss: notes/n0, data: 3 bytes, lost: nan, spot: 1.5, 2.0"
    assert said in done.stdout
    assert "Value" not in done.stdout


def shown(told: list[Progress]) -> str:
    """What a terminal shows at the end, without colors."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with backfill_progress(console) as progress:
        for one in told:
            progress(one)
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", console.file.getvalue()).rpartition("changes read")[2]


def test_progress_is_a_bar_where_the_number_is_known_and_else_a_count() -> None:
    read, half = Progress("read", "", 4096, None), Progress("rows", "Card", 2048, 4096)
    assert "rows of" not in shown([read])
    assert " 4,096 " in shown([read])
    last = shown([read, half]).splitlines()[1]
    assert re.match(r"rows of Card ━+╸?\s*━* 2,048/4,096 ", last.replace("╺", "━")), last


def test_progress_of_a_run_on_no_terminal_is_nothing() -> None:
    console = Console(file=io.StringIO())
    with backfill_progress(console) as progress:
        progress(Progress("read", "", 1, None))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


def test_the_sink_of_a_table_is_read_no_further_than_it_shows(tmp_path: Path) -> None:
    """The number comes from the report: a sink may bill for each row that is read."""
    from boiler_beam.plan import compile_plan
    from boiler_beam.samples.meeting import MeetingSession
    from pipelines.show import show_rows

    run(tmp_path, *MEETING, "--sink", f"sqlite:{tmp_path}/rows.db")
    sink, read = open_sink(f"sqlite:{tmp_path}/rows.db"), []

    class Counting:
        def current_rows(self, view: Any) -> Any:
            for row in sink.current_rows(view):
                read.append(row)
                yield row

    show_rows(Console(file=io.StringIO()), compile_plan([MeetingSession]), Counting(), {"MeetingSession": 4})  # type: ignore[arg-type]
    assert len(read) == 3
