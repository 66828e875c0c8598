"""The programs by command line: their output, their files and their exit codes."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
import termios
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import programs
from tests.helpers.servers import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "boiler_beam" / "samples" / "meeting.jsonl"
MEETING = [sys.executable, "-m", "pipelines.meeting"]
MAIN = [sys.executable, "-m", "pipelines.main"]
CLI = [sys.executable, "-m", "pipelines.cli"]
PYTEST = [sys.executable, "-m", "pytest", "-q"]
WITHOUT_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""For tests that users run: Hypothesis takes seconds to be imported."""


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    if command[1] == "-m" and command[2].startswith("pipelines."):
        return programs.run(command, folder, variables)
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=120)


def rows(path: Path) -> dict[str, Any]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return {one["path"]: one for one in found}


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


def test_the_meeting_room(tmp_path: Path) -> None:
    done = run(tmp_path, *MEETING, "--sink", "jsonl:rows.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert last_line(done).startswith("24 documents, 24 changes, 13 rows, 0 dead letters, ")
    assert rows(tmp_path / "rows.jsonl")["meeting_sessions/m1"] == {
        "path": "meeting_sessions/m1",
        "generation": 1,
        "version": 1767225624000072,
        "seq": 0,
        "fields": {
            "address": "1 Ferry Building, San Francisco",
            "attending": [
                {"hearing_aid_requested": True, "name": "Ada Okafor", "organization": "Harbor Library"},
                {"hearing_aid_requested": False, "name": "Ben Larsen", "organization": "Harbor Library"},
                {"hearing_aid_requested": True, "name": "Dalia Haddad", "organization": "City Archive"},
            ],
            "inSession": True,
            "latitude": 37.7955,
            "longitude": -122.3937,
            "numHearingAidRequested": 2,
        },
    }
    assert rows(tmp_path / "rows.jsonl")["meeting_sessions/m2"]["fields"]["attending"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "rows.jsonl.control.jsonl"]


def test_output_in_a_pipe_is_plain(tmp_path: Path) -> None:
    done = run(tmp_path, *MEETING)
    assert "\x1b" not in done.stdout
    assert "MeetingSession (meeting_sessions/{id})" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert (tmp_path / "boiler_beam.db").exists()


def test_the_second_run_writes_nothing(tmp_path: Path) -> None:
    run(tmp_path, *MEETING, "--sink", "jsonl:rows.jsonl")
    before = (tmp_path / "rows.jsonl").read_text()
    done = run(tmp_path, *MEETING, "--sink", "jsonl:rows.jsonl", "--read_time", "2027-01-01T00:00:00Z")
    assert [line.split() for line in done.stdout.splitlines() if line.startswith(" MeetingSession ")] == [
        ["MeetingSession", "0", "0", "4", "0"]
    ]
    assert sorted((tmp_path / "rows.jsonl").read_text().splitlines()) == sorted(before.splitlines())


@pytest.mark.beam
def test_beam_writes_equal_rows(tmp_path: Path) -> None:
    run(tmp_path, *MEETING, "--sink", "jsonl:one.jsonl")
    done = run(tmp_path, *MEETING, "--sink", "jsonl:two.jsonl", "--runner", "DirectRunner", "--direct_num_workers=1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("bounded input: runs on FnApiRunner")
    assert last_line(done).startswith("24 documents, 24 changes, 13 rows, 0 dead letters, ")
    assert rows(tmp_path / "one.jsonl") == rows(tmp_path / "two.jsonl")


VIEWS = """
import boiler_beam as bb
from boiler_beam import aggregate, group, root, view_property

class Note(bb.DomainModel, collection="notes"):
    text: str
    topic: str = "none"

class Shout(bb.ViewModel, collection="shouts"):
    class Store(bb.Store):
        note: Note = root(Note)
    store: Store

    @view_property
    def text(self) -> str:
        return self.store.note.text.upper()

class Topic(bb.ViewModel, collection="topics"):
    class Store(bb.Store):
        notes: dict[str, Note] = group(Note, by="topic")
    store: Store

    num_notes = aggregate.count("notes")
"""


def note(number: int, text: object = "x") -> str:
    return json.dumps({"path": f"notes/n{number}", "version": number + 1, "fields": {"text": text}}) + "\n"


@pytest.fixture(name="notes")
def _notes(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(VIEWS)
    (tmp_path / "notes.jsonl").write_text("".join(map(note, range(40))))
    return tmp_path


NOTES = ["--views", "mine", "--source", "file:notes.jsonl", "--sink", "jsonl:rows.jsonl"]


def test_views_and_documents_outside_the_project(notes: Path) -> None:
    done = run(notes, *MAIN, *NOTES)
    assert done.returncode == 0, done.stderr
    assert last_line(done).startswith("40 documents, 40 changes, 41 rows, 0 dead letters, ")
    assert rows(notes / "rows.jsonl")["shouts/n7"]["fields"] == {"text": "X"}
    assert rows(notes / "rows.jsonl")["topics/none"]["fields"] == {"numNotes": 40}


def test_cities_of_several_classes(tmp_path: Path) -> None:
    views = ["--views", "boiler_beam.samples.cities", "--source", "sample:cities", "--sink", "jsonl:rows.jsonl"]
    done = run(tmp_path, *MAIN, *views)
    assert last_line(done).startswith("7 documents, 7 changes, 10 rows, 0 dead letters, ")
    found = {path: row["fields"] for path, row in rows(tmp_path / "rows.jsonl").items()}
    assert found["city_cards/SAC"] == {
        "center": {"geoPointValue": {"latitude": 38.5816, "longitude": -121.4944}},
        "isCapital": True,
        "kind": "StateCapital",
        "title": "Sacramento, CA",
    }
    assert found["country_summaries/USA"] == {
        "largest": ["Los Angeles", "San Francisco"],
        "numCities": 4,
        "population": 5835258,
    }
    assert found["country_summaries/Utopia"] == {"largest": [], "numCities": 1, "population": 0}


def test_one_class_of_a_module(notes: Path) -> None:
    done = run(notes, *MAIN, "--views", "mine:Topic", *NOTES[2:])
    assert ", 1 rows, " in last_line(done)


@pytest.mark.parametrize("runner", [(), pytest.param(("--runner", "DirectRunner"), marks=pytest.mark.beam)])
@pytest.mark.parametrize("mode", ["backfill", "stream"])
def test_views_whose_names_differ_by_case_do_not_share_a_table(notes: Path, mode: str, runner: tuple[str, ...]) -> None:
    (notes / "mine.py").write_text(
        VIEWS + VIEWS.partition("\n\n")[2].replace("shouts", "more").replace("Shout", "SHOUT")
    )
    given = ["--source", "file:notes.jsonl", "--sink", "sqlite:rows.db", "--mode", mode, *runner]
    done = run(notes, *MAIN, "--views", "mine", *given)
    assert done.returncode == 2
    assert "mine:SHOUT: expected a unique class name, which names its table, got 'SHOUT', which diff" in done.stderr
    assert run(notes, *MAIN, "--views", "mine:Shout", *given).returncode == 0
    done = run(notes, *MAIN, "--views", "mine:SHOUT", *given)
    assert done.returncode == 2
    said = "sqlite:rows.db: expected the table SHOUT to differ from existing names not only by case, got Shout, which holds"
    assert said in done.stderr
    with closing(sqlite3.connect(notes / "rows.db")) as database:
        assert database.execute("SELECT count(*) FROM Shout").fetchone() == (40,)


@pytest.mark.beam
def test_a_bad_gzip_on_beam_is_one_line(notes: Path) -> None:
    (notes / "bad.jsonl.gz").write_bytes(b"\x1f\x8b not a gzip file")
    arguments = ["--views", "mine", "--source", "file:bad.jsonl.gz", "--sink", "jsonl:rows.jsonl"]
    done = run(notes, *MAIN, *arguments, "--runner", "DirectRunner")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: file:bad.jsonl.gz:1: expected to read on, got: ")
    assert not (notes / "rows.jsonl").exists()


WRONG = {
    "unknown option": (["--colour"], "No such option or argument: --colour (Beam's own need --runner)"),
    "unknown scheme": (["--source", "ftp:x"], "ftp:x: expected the scheme of a source, got 'ftp'"),
    "no file": (["--source", "file:nothing"], "file:nothing: expected a file, a folder or a glob"),
    "a sink that is a source": (["--sink", "file:x"], "file:x: expected the scheme of a sink, got 'file'"),
    "dead letters elsewhere": (["--dead_letter", "parquet:x"], "parquet:x: expected dead letters at jsonl:PATH"),
    "mode": (["--mode", "reverse"], "'reverse' is not one of 'auto', 'backfill', 'stream'"),
    "read time": (["--read_time", "yesterday"], "--read_time yesterday: expected RFC 3339"),
    "read time in quotes": (["--read_time", '"'], "expected RFC 3339"),
    "read time beyond int64": (["--read_time", "9" * 19], "expected RFC 3339"),
    "prune": (["--prune", "some"], "'some' is not one of 'safe', 'all', 'none'"),
    "no module": (["--views", "nowhere"], "--views nowhere: expected a module in"),
    "no class": (
        ["--views", "mine:Nobody"],
        "--views mine:Nobody: expected view models, got 'Nobody'; fix: the module defines Shout, Topic",
    ),
    "no views": (["--views", "json"], "--views json: expected view models defined in it, got none"),
    "a file's name": (["--views", "mine.py"], "--views mine.py: expected package.module[:Class,...]"),
    "broken module": (["--views", "broken"], "got ZeroDivisionError: division by zero; fix: "),
    "broken class": (
        ["--views", "misspelt"],
        "write collection, path, case, revision, max_paths or indexed; fix: correct {folder}/misspelt.py:3",
    ),
    "a file": (["--views", "mine.py"], "--views mine.py: expected package.module[:Class,...], got mine.py; fix: "),
    "broken syntax": (["--views", "unreadable"], "got SyntaxError"),
    "missing inside": (["--views", "incomplete"], "got ModuleNotFoundError: No module named 'nothing_of_that_name'"),
    "unknown runner": (["--runner", "SlowRunner"], "SlowRunner"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_use_is_one_line_and_writes_nothing(notes: Path, arguments: list[str], said: str) -> None:
    (notes / "broken.py").write_text("x = 1 / 0\n")
    (notes / "unreadable.py").write_text("def\n")
    (notes / "misspelt.py").write_text('import boiler_beam as bb\n\nclass Notes(bb.ViewModel, colection="n"): ...\n')
    (notes / "incomplete.py").write_text("import nothing_of_that_name\n")
    before = sorted(path.name for path in notes.iterdir())
    given = {NOTES[place]: NOTES[place + 1] for place in range(0, len(NOTES), 2)}
    given |= {arguments[place]: "".join(arguments[place + 1 : place + 2]) for place in range(0, len(arguments), 2)}
    command = [part for pair in given.items() for part in pair if part]
    done = run(notes, *MAIN, *command, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert said.replace("{folder}", str(notes)) in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert sorted(path.name for path in notes.iterdir()) == before


def test_no_views_and_no_source_are_wrong_use(notes: Path) -> None:
    assert "Missing option '--views'" in run(notes, *MAIN).stderr
    done = run(notes, *MAIN, "--views", "mine")
    assert (done.returncode, done.stderr.startswith("error: --source: expected")) == (2, True)


def test_mistakes_in_views_are_told_all_at_once(notes: Path) -> None:
    (notes / "mine.py").write_text(
        VIEWS.replace('by="topic"', 'by="topik"')
        .replace("text.upper", "text.upper")
        .replace('count("notes")', 'count("nodes")')
    )
    done = run(notes, *MAIN, *NOTES)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: 2 mistakes in the declared classes:",
        "  Topic.Store.notes: expected a field of Note, got 'topik'; fix: name one of: text, topic",
        "  Topic.num_notes: expected an edge of the store, got 'nodes'; fix: name one of: notes",
    ]


def test_dead_letters_are_counted_and_kept(notes: Path) -> None:
    (notes / "notes.jsonl").write_text(note(1) + "torn\n" + note(2, text=7))
    done = run(notes, *MAIN, *NOTES)
    assert done.returncode == 0
    assert "4 dead letters in jsonl:rows.jsonl.dead_letters.jsonl" in done.stdout
    assert (
        ": Topic: notes/n2 is an invalid document that may belong to this row; the sink had no such row" in done.stdout
    )
    letters = [json.loads(line) for line in (notes / "rows.jsonl.dead_letters.jsonl").read_text().splitlines()]
    assert [(letter["stage"], letter["code"]) for letter in letters] == [
        ("read", "malformed_line"),
        ("decode", "invalid_document"),
        ("write", "row_tainted"),
        ("write", "row_tainted"),
    ]
    assert letters[0]["source"] == "file:notes.jsonl:2"
    assert (letters[1]["path"], letters[1]["version"], letters[1]["input"]) == ("notes/n2", 3, '{"text": 7}')
    listed = run(
        notes, *CLI, "dead-letters", "list", "jsonl:rows.jsonl.dead_letters.jsonl", "--code", "invalid_document"
    )
    assert "decode invalid_document notes/n2 at file:notes.jsonl:3: Note: Expected `str`, got `int`" in listed.stdout
    assert last_line(listed) == "1 invalid_document"
    assert run(notes, *MAIN, *NOTES, "--strict").returncode == 4
    assert set(rows(notes / "rows.jsonl")) == {"shouts/n1", "topics/none"}


def test_a_snapshot_that_lost_half_is_not_pruned(notes: Path) -> None:
    run(notes, *MAIN, *NOTES)
    (notes / "notes.jsonl").write_text("".join(map(note, range(20))))
    done = run(notes, *MAIN, *NOTES)
    assert done.returncode == 3
    assert "not pruned: Shout: 20 of 40 rows would go, more than 10; fix: run with --prune all" in done.stdout
    assert len(rows(notes / "rows.jsonl")) == 41
    assert run(notes, *MAIN, *NOTES, "--prune", "none").returncode == 0
    assert len(rows(notes / "rows.jsonl")) == 41
    older = run(notes, *MAIN, *NOTES, "--prune", "all")
    assert "41 rows in the sink are newer than this backfill" in older.stdout
    assert len(rows(notes / "rows.jsonl")) == 41
    assert run(notes, *MAIN, *NOTES, "--prune", "all", "--read_time", "41").returncode == 0
    assert len(rows(notes / "rows.jsonl")) == 21


def test_a_dry_run_writes_nothing(notes: Path) -> None:
    before = sorted(path.name for path in notes.iterdir())
    done = run(notes, *MAIN, *NOTES, "--dry_run", PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stderr
    assert last_line(done).endswith("seconds (dry run: nothing was written)")
    assert sorted(path.name for path in notes.iterdir()) == before


def test_explain_runs_nothing(notes: Path) -> None:
    done = run(notes, *MAIN, *NOTES, "--explain")
    assert done.stdout == run(notes, *CLI, "explain", "--views", "mine", "--source", NOTES[3]).stdout
    assert done.stdout.startswith(run(notes, *CLI, "explain", "--views", "mine").stdout)
    assert (
        "Topic.notes: the row of its topic; also that of the old one, if it changes;\n    adds to num_notes"
        in done.stdout
    )
    assert not (notes / "rows.jsonl").exists()


def test_reconcile_writes_what_differs(notes: Path) -> None:
    arguments = [*CLI, "reconcile", "--views", "mine", "--source", "file:notes.jsonl", "--sink", "sqlite:rows.db"]
    assert run(notes, *arguments).returncode == 0
    with closing(sqlite3.connect(notes / "rows.db")) as database, database:
        database.execute("UPDATE Shout SET fields = '{}' WHERE path = 'shouts/n0'")
        database.execute("INSERT INTO Shout VALUES ('shouts/old', 1, 1, 0, '{}')")
    told = run(notes, *arguments, "--dry_run").stdout
    assert run(notes, *CLI, "diff", "--views", "mine", "--source", "file:notes.jsonl", "sqlite:rows.db").returncode == 1
    done = run(notes, *arguments).stdout
    for text in (told, done):
        (counts,) = [one.split()[1:] for one in text.splitlines() if one.split()[:1] == ["Shout"] and "(" not in one]
        assert (counts[0], counts[1], counts[3]) == ("0", "1", "1"), "one updated, one deleted"
    same = run(notes, *CLI, "diff", "--views", "mine", "--source", "file:notes.jsonl", "sqlite:rows.db")
    assert same.stdout == "no row differs\n"


def test_diff(notes: Path) -> None:
    run(notes, *MAIN, *NOTES)
    same = run(notes, *CLI, "diff", "--views", "mine", "--source", "file:notes.jsonl", "jsonl:rows.jsonl")
    assert (same.returncode, same.stdout) == (0, "no row differs\n")
    (notes / "other.jsonl").write_text("".join(map(note, range(1, 40))) + note(0, "y"))
    run(notes, *MAIN, *NOTES[:2], "--source", "file:other.jsonl", "--sink", "sqlite:other.db")
    other = run(notes, *CLI, "diff", "--views", "mine", "jsonl:rows.jsonl", "sqlite:other.db")
    assert other.stdout.splitlines() == ["shouts/n0: updated", '  text: "X" -> "Y"', "1 row differs"]
    assert other.returncode == 1
    (notes / "invalid.jsonl").write_text("".join(map(note, range(1, 40))) + note(0, text=7))
    untold = run(notes, *CLI, "diff", "--views", "mine", "--source", "file:invalid.jsonl", "jsonl:rows.jsonl")
    assert untold.returncode == 0
    why = "notes/n0 is an invalid document that may belong to this row; the current row was left as it is"
    assert sorted(untold.stdout.splitlines()) == [
        "no row differs", f"shouts/n0: row_tainted: Shout: {why}", f"topics/none: row_tainted: Topic: {why}",
    ]  # fmt: skip
    (notes / "fewer.jsonl").write_text("".join(map(note, range(39))))
    fewer = run(notes, *CLI, "diff", "--views", "mine", "--source", "file:fewer.jsonl", "jsonl:rows.jsonl")
    assert (fewer.returncode, fewer.stdout.splitlines()[0]) == (1, "shouts/n39: deleted")
    wrong = run(notes, *CLI, "diff", "--views", "mine", "jsonl:rows.jsonl", "sqlite:nothing.db")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "error: sqlite:nothing.db: expected rows, got none; fix: check the address\n",
    )


def test_check(notes: Path) -> None:
    fine = run(notes, *CLI, "check", "--views", "mine", "--source", "file:notes.jsonl")
    assert (fine.returncode, fine.stdout) == (0, "notes: 40 documents\nno problems\n")
    (notes / "bad.jsonl").write_text(note(1, text=7) + note(2, text=8) + "torn\n")
    bad = run(notes, *CLI, "check", "--views", "mine", "--source", "file:*.jsonl")
    assert bad.returncode == 1
    message = "Note: Expected `str`, got `int` - at `$.text`"
    assert f"  2 x invalid_document: {message} (e.g. notes/n1 at file:bad.jsonl:1)" in bad.stdout
    assert last_line(bad) == "3 problems"


def test_check_and_explain_tell_optional_fields_that_may_not_be_missing(notes: Path) -> None:
    (notes / "mine.py").write_text(VIEWS.replace("text: str\n", "text: str | None\n", 1))
    done = run(notes, *CLI, "check", "--views", "mine", "--source", "file:notes.jsonl")
    said = (
        "note: Note.text may be null, but a document without it is invalid, and its rows are no longer updated; "
        "fix: = None, or bb.field(default=None)\n"
    )
    assert (done.returncode, done.stdout) == (0, f"notes: 40 documents\n{said}no problems\n")
    assert f"  {said}" in run(notes, *CLI, "explain", "--views", "mine").stdout
    (notes / "mine.py").write_text(VIEWS.replace("text: str\n", "text: str | None = None\n", 1))
    assert "may be null" not in run(notes, *CLI, "explain", "--views", "mine").stdout


def test_check_tells_a_collection_without_documents(notes: Path) -> None:
    (notes / "notes.jsonl").write_text((note(1) + note(2)).replace("notes/", "memos/"))
    done = run(notes, *CLI, "check", "--views", "mine", "--source", "file:notes.jsonl")
    said = "notes: no documents; the source has memos (2), which no model reads\nno problems\n"
    assert (done.returncode, done.stdout) == (0, said)


def test_init_proposes_a_view_that_runs_and_its_test(tmp_path: Path) -> None:
    done = run(tmp_path, *CLI, "init", "my_views.py", "--source", "sample:", "--sample", "100")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "my_views.py: models of 4 collections, from 24 documents",
        "test_my_views.py: a row of MeetingView, which has one for each of meetings",
        "next: pip install pytest; python -m pytest test_my_views.py; boiler-beam check --views my_views --source sample:",
    ]
    test = run(tmp_path, *PYTEST, "test_my_views.py", PYTHONPATH=f"{ROOT}:{tmp_path}", **WITHOUT_PLUGINS)
    assert "1 passed" in test.stdout
    assert run(tmp_path, *CLI, "check", "--views", "my_views", "--source", "sample:").stdout.endswith("no problems\n")
    made = run(tmp_path, *MAIN, "--views", "my_views", "--source", "sample:", "--sink", "jsonl:rows.jsonl")
    assert last_line(made).startswith("24 documents, 24 changes, 4 rows, 0 dead letters, ")
    again = run(tmp_path, *CLI, "init", "my_views.py", "--source", "sample:")
    assert again.returncode == 2
    assert again.stderr == "error: my_views.py: expected no file, got one; fix: name another, or remove it\n"


def test_init_proposes_the_type_of_most_and_says_what_does_not_fit(notes: Path) -> None:
    with (notes / "notes.jsonl").open("a") as file:
        file.write(note(40, text=7) + note(41, text=8))
    run(notes, *CLI, "init", "new.py", "--source", "file:notes.jsonl")
    assert "    text: str  # but int in 2 of 42 documents, e.g. 'notes/n40'\n" in (notes / "new.py").read_text()
    test = run(notes, *PYTEST, "test_new.py", PYTHONPATH=f"{ROOT}:{notes}", **WITHOUT_PLUGINS)
    assert "1 passed" in test.stdout
    found = run(notes, *CLI, "check", "--views", "new", "--source", "file:notes.jsonl")
    assert "  2 x invalid_document: Note: Expected `str`, got `int` - at `$.text` (e.g. notes/n40 at " in found.stdout


def test_init_takes_no_notice_of_rows(notes: Path) -> None:
    ours = [("shouts/n1", {"text": "X", "_boiler": {"generation": 1}}), ("_boiler/Shout", {"generation": 1})]
    lines = [json.dumps({"path": path, "version": 1, "fields": fields}) + "\n" for path, fields in ours]
    (notes / "notes.jsonl").write_text(note(1) + "".join(lines))
    done = run(notes, *CLI, "init", "new.py", "--source", "file:notes.jsonl")
    assert done.stdout.startswith("new.py: models of 1 collections, from 1 documents\n"), done.stdout + done.stderr


def test_init_of_nothing(notes: Path) -> None:
    (notes / "empty.jsonl").write_text("")
    for arguments, said in (
        (["init", "my-views.py", "--source", "sample:"], "error: my-views.py: expected the file of a Python module, got 'my-views.py'; fix: write my_views.py\n"),
        (["init", "new.py", "--source", "file:empty.jsonl"], "error: file:empty.jsonl: expected documents, got none; fix: check the address\n"),
    ):  # fmt: skip
        done = run(notes, *CLI, *arguments)
        assert (done.returncode, done.stderr) == (2, said)
    assert not (notes / "new.py").exists()


def test_explain_counts_writes_over_documents(tmp_path: Path) -> None:
    done = run(tmp_path, *MEETING, "--explain")
    assert "a change affects" in done.stdout
    assert "rows written for one change" in done.stdout
    assert (
        "  locations: 4.7 rows, at most 7 (locations/l1); in Firestore 4.20 to 8.40 USD for a million changes\n"
        in done.stdout
    )


def test_why(tmp_path: Path) -> None:
    sample = ["--views", "boiler_beam.samples.meeting", "--source", "sample:"]
    found = run(tmp_path, *CLI, "why", *sample, "organization_summaries/Harbor%20Library").stdout.splitlines()
    assert found[:6] == [
        "organization_summaries/Harbor%20Library of OrganizationSummary",
        "users: 2 documents",
        "  users/u1 at version 2026-01-01T00:00:04.000012Z",
        "    counts in num_users",
        "    counts in num_hearing_aid",
        "  users/u2 at version 2026-01-01T00:00:05.000015Z",
    ]
    assert found[-1] == 'row: {"numAttending":3,"numHearingAid":1,"numUsers":2}'
    nobody = run(tmp_path, *CLI, "why", *sample, "meeting_sessions/m9")
    assert nobody.stdout.splitlines()[1:] == ["no row: its root meetings/m9 is in none of the sources"]
    assert nobody.returncode == 1
    wrong = run(tmp_path, *CLI, "why", *sample, "elsewhere/m9")
    assert wrong.returncode == 2
    assert "expected the path of a row, got none of a view; fix: rows are at meeting_sessions/{id}" in wrong.stderr


def test_why_a_row_is_missing_or_cannot_be_told(notes: Path) -> None:
    (notes / "library.py").write_text((ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0])
    lines = [
        {"path": "books/b1", "version": 1, "fields": {"title": "T", "author": "a1"}},
        {"path": "loans/l1", "version": 2, "fields": {"book": "b1", "days": 3}},
    ]
    (notes / "books.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run(notes, *CLI, "why", "--views", "library", "--source", "file:books.jsonl", "book_cards/b1")
    assert found.stdout.splitlines() == [
        "book_cards/b1 of BookCard",
        "book: 1 document",
        "  books/b1 at version 1",
        "author: 0 documents: required, so there is no row",
        "loans: 1 document",
        "  loans/l1 at version 2",
        "    counts in num_loans",
        "    adds 3 to mean_days",
        "no row: authors/a1, which books/b1 names as author, is required, and is in none of the sources, which have no "
        "document of authors",
    ]
    (notes / "notes.jsonl").write_text(note(1, text=7) + note(2, text=8))
    untold = run(notes, *CLI, "why", "--views", "mine", "--source", "file:notes.jsonl", "shouts/n1")
    said, *letters = untold.stdout.splitlines()[-2:]
    assert said.startswith("row: unknown, because a document or getter that it needs failed")
    about = "notes/n1 at file:notes.jsonl:1"
    assert letters == [f"dead letter invalid_document of {about}: Note: Expected `str`, got `int` - at `$.text`"], (
        "and not that of another row"
    )
    lines += [{"path": "authors/a1", "version": 3, "fields": {"name": 7}}]
    lines += [{"path": "loans/l2", "version": 4, "fields": {"book": "b1", "days": "many"}}]
    lines += [{"path": "loans/l3", "version": 5, "fields": {"book": "b2", "days": "many"}}]
    (notes / "books.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run(notes, *CLI, "why", "--views", "library", "--source", "file:books.jsonl", "book_cards/b1")
    assert [line.partition(":")[0] for line in found.stdout.splitlines() if line.startswith("dead")] == [
        "dead letter invalid_document of authors/a1 at file",
        "dead letter invalid_document of loans/l2 at file",
    ]


def test_configuration(notes: Path) -> None:
    (notes / "pyproject.toml").write_text('[tool.boiler_beam]\nviews = "mine:Topic"\nsink = "jsonl:file.jsonl"\n')
    run(notes, *MAIN, "--source", "file:notes.jsonl")
    assert len(rows(notes / "file.jsonl")) == 1
    run(notes, *MAIN, "--source", "file:notes.jsonl", BOILER_BEAM_SINK="jsonl:variable.jsonl")
    assert (notes / "variable.jsonl").exists()
    run(
        notes,
        *CLI,
        "run",
        "--source",
        "file:notes.jsonl",
        "--sink",
        "jsonl:given.jsonl",
        BOILER_BEAM_SINK="jsonl:x.jsonl",
    )
    assert (notes / "given.jsonl").exists()
    (notes / "pyproject.toml").write_text("[tool.boiler_beam]\nsing = 1\n")
    done = run(notes, *MAIN, *NOTES)
    assert done.returncode == 2
    assert "got sing = 1; fix: remove or correct it" in done.stderr


def test_doctor(notes: Path) -> None:
    bare = run(notes, *CLI, "doctor")
    assert bare.returncode == 0
    assert "ok   views: not set\n" in bare.stdout
    assert "ok   firestore: installed\n" in bare.stdout
    assert "ok   metrics: " in bare.stdout
    assert "project" not in bare.stdout, "no key that nothing uses"
    (notes / "pyproject.toml").write_text('[tool.boiler_beam]\nviews = "mine"\nsink = "jsonl:rows.jsonl"\n')
    run(notes, *MAIN, "--source", "file:notes.jsonl")
    well = run(notes, *CLI, "doctor")
    assert "ok   views: mine (pyproject.toml): Shout, Topic compile\n" in well.stdout
    assert "ok   sink: jsonl:rows.jsonl (pyproject.toml): holds Shout, Topic\n" in well.stdout
    ill = run(notes, *CLI, "doctor", BOILER_BEAM_SINK="ftp:x", BOILER_BEAM_VIEWS="nowhere")
    assert ill.returncode == 1
    assert "FAIL views: nowhere (BOILER_BEAM_VIEWS): --views nowhere: expected a module in " in ill.stdout
    assert "FAIL sink: ftp:x (BOILER_BEAM_SINK): ftp:x: expected the scheme of a sink, got 'ftp'; fix: " in ill.stdout


def test_doctor_asks_the_emulators(notes: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there, nowhere = f"127.0.0.1:{server.getsockname()[1]}", f"127.0.0.1:{free_port()}"
        done = run(notes, *CLI, "doctor", FIRESTORE_EMULATOR_HOST=there, PUBSUB_EMULATOR_HOST=nowhere)
    assert done.returncode == 1
    assert f"ok   FIRESTORE_EMULATOR_HOST={there}: answers\n" in done.stdout
    said = f"FAIL PUBSUB_EMULATOR_HOST={nowhere}: does not answer; fix: start the emulator, or unset it\n"
    assert said in done.stdout
    assert "EMULATOR" not in run(notes, *CLI, "doctor", FIRESTORE_EMULATOR_HOST="", PUBSUB_EMULATOR_HOST="").stdout


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("memory:", "ok   state: memory: (BOILER_BEAM_STATE): nothing is kept"),
        ("s.db", "expected memory: or sqlite:PATH"),
    ],
)
def test_doctor_looks_at_the_state(notes: Path, state: str, said: str) -> None:
    assert said in run(notes, *CLI, "doctor", BOILER_BEAM_STATE=state).stdout


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("documents:app.db", "ok   store: documents:app.db (BOILER_BEAM_STORE): is a store of documents"),
        ("sqlite:rows.db", "expected a store of documents, got rows, which are computed and read-only"),
    ],
)
def test_doctor_looks_at_the_store(notes: Path, store: str, said: str) -> None:
    assert said in run(notes, *CLI, "doctor", BOILER_BEAM_STORE=store).stdout


def test_a_backfill_takes_no_notice_of_what_streams_are_told_and_says_so(notes: Path) -> None:
    done = run(notes, *MAIN, *NOTES, "--state", "sqlite:state.db", BOILER_BEAM_STATE="sqlite:other.db")
    said = "--state: has no effect on a backfill; fix: add --mode stream, or leave it out"
    assert (done.returncode, said in done.stderr, (notes / "state.db").exists()) == (0, True, False)
    assert "--state" not in run(notes, *MAIN, *NOTES, BOILER_BEAM_STATE="sqlite:other.db").stderr


def test_interrupted_the_sink_is_as_before(notes: Path) -> None:
    """The source is a named pipe: the program waits in the middle of reading until it is interrupted."""
    run(notes, *MAIN, *NOTES)
    before = (notes / "rows.jsonl").read_text()
    os.mkfifo(notes / "pipe.jsonl")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background hands its ignorance down
    command = [*MAIN, *NOTES[:2], "--source", "file:pipe.jsonl", *NOTES[4:]]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=notes, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pipe = os.open(notes / "pipe.jsonl", os.O_RDWR)  # held open, so that it never ends
    os.write(pipe, note(1, "changed").encode())
    left = array.array("i", [1])

    def has_read_the_line() -> bool:
        fcntl.ioctl(pipe, termios.FIONREAD, left)
        return not left[0] or process.poll() is not None

    wait_until(has_read_the_line, "the line is read")
    said = ""
    while process.returncode is None:  # a signal that comes just before the next read is seen after it: press again
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, said = process.communicate(timeout=5)
    os.close(pipe)
    assert (process.returncode, said.lstrip()) == (130, "error: interrupted; the sink is unchanged\n")
    assert (notes / "rows.jsonl").read_text() == before
    assert run(notes, *MAIN, *NOTES).returncode == 0


def test_a_reader_that_has_enough(notes: Path) -> None:
    done = run(notes, "sh", "-c", f"{' '.join(MAIN)} {' '.join(NOTES)} | true")
    assert (done.stdout, done.stderr) == ("", "")
    assert (notes / "rows.jsonl").exists()


def test_progress_is_shown_on_a_terminal_alone(notes: Path) -> None:
    leader, follower = pty.openpty()
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen([*MAIN, *NOTES], cwd=notes, env=variables, stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # the end: nobody has the other side open
        while more := os.read(leader, 10_000):
            shown += more
    os.close(leader)
    assert process.wait() == 0
    assert "rows of Topic" in shown.decode()
    assert "1/1" in shown.decode()
    assert b"\x1b" in shown
    assert run(notes, *MAIN, *NOTES).stderr == ""


def test_help_names_every_option(tmp_path: Path) -> None:
    shown = run(tmp_path, *MAIN, "--help").stdout
    for option in (
        "views",
        "runner",
        "source",
        "sink",
        "dead_letter",
        "mode",
        "prune",
        "read_time",
        "strict",
        "explain",
        "dry_run",
    ):
        assert f"--{option} " in shown
    assert run(tmp_path, *CLI, "--version").stdout == "boiler-beam, version 0.1.0\n"


@pytest.mark.beam
def test_the_demonstration(tmp_path: Path) -> None:
    shown = run(tmp_path, sys.executable, "-m", "pipelines.demo").stdout
    assert "The attendance of tickets/t2 becomes false: 3 of 13 rows are written." in shown
    assert '  attending: - {"hearing_aid_requested":false,"name":"Ben Larsen","organization":"Harbor Library"}' in shown
    beam = run(tmp_path, sys.executable, "-m", "pipelines.demo", "--runner", "DirectRunner")
    tables = "OrganizationSummary"  # before its table, whose columns may be in another order
    assert beam.stdout.partition(tables)[:2] == shown.partition(tables)[:2]
    assert beam.stdout.endswith("\nDirectRunner: all 13 rows equal those of the embedded engine\n")


def test_the_first_dead_letter_of_each_code_is_shown(notes: Path) -> None:
    (notes / "notes.jsonl").write_text(note(1, text=7) + note(2, text=8) + "torn\n" + note(3))
    for more in ((), ("--mode", "stream")):
        out = run(notes, *MAIN, *NOTES, *more, "--sink", f"jsonl:{len(more)}.jsonl").stdout
        about = "notes/n1 at file:notes.jsonl:1"
        assert f"  invalid_document: {about}: Note: Expected `str`, got `int` - at `$.text`" in out
        assert "  malformed_line: file:notes.jsonl:3: " in out
        assert "invalid_document: notes/n2" not in out
