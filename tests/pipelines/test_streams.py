"""Streams by command line: killed at any time, with a full disk, two at once, asked to end."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.connectors import open_sink
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from tests.helpers import programs
from tests.helpers.histories import changes, lines
from tests.helpers.programs import Program
from tests.helpers.servers import NO_PRISM, prism
from tests.pipelines.streaming_views import Card, Table

PLAYER = ("players/p1", 1, {"team": "teams/t1", "points": 3})
ROOT = Path(__file__).resolve().parents[2]
MAIN = [sys.executable, "-m", "pipelines.main", "--views", "tests.pipelines.streaming_views"]
CLI = [sys.executable, "-m", "pipelines.cli"]
PLAN = compile_plan([Card, Table])
Events = list[tuple[str, int, Any]]


def history(number: int, seed: int = 1) -> Events:
    order = random.Random(seed)
    table: Events = [(f"teams/t{one}", 1, {"name": f"team {one}"}) for one in range(10)]
    for version in range(2, number):
        path = f"players/p{order.randrange(number // 10 + 1)}"
        fields = {"team": f"teams/t{order.randrange(10)}", "points": order.randrange(100)}
        table.append((path, version, fields if order.random() < 0.95 else None))
    return table


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start(folder: Path, *arguments: str) -> Program:
    return Program([*MAIN, *arguments], folder, environment())


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.run([*MAIN, *arguments], folder, environment())


LIMITED = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Limits a program before it starts. Not `preexec_fn`, which forks this process, and gRPC may have threads here."""


def run_within(folder: Path, limit_bytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Where no file may be larger."""
    limited = [sys.executable, "-c", LIMITED, str(limit_bytes)]
    return subprocess.run(
        [*limited, *MAIN, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.run([*CLI, *arguments], folder, environment())


def until(is_so: Callable[[], Any], what: str, process: Program) -> None:
    """Waits for what a program brings; one that hangs or ends fails the test."""
    end = time.monotonic() + 60
    while not is_so():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)


def standing(uri: str, folder: Path) -> dict[str, bytes]:
    scheme, _, path = uri.partition(":")
    sink = open_sink(f"{scheme}:{folder / path}")
    return {row.path: row.fields or b"" for view in PLAN.views for row in sink.current_rows(view.target)}


def assert_right(uri: str, folder: Path, table: Events) -> None:
    assert standing(uri, folder) == compute(PLAN, changes(table)).rows


@contextmanager
def following(folder: Path, *arguments: str) -> Iterator[Program]:
    """A program that follows `tail:changes.jsonl`; ended by its id whatever happens."""
    process = start(folder, "--source", "tail:changes.jsonl", "--sink", "jsonl:rows.jsonl", *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def append(folder: Path, table: Events) -> None:
    with (folder / "changes.jsonl").open("a") as file:
        file.write(lines(table))


@pytest.mark.parametrize("uri", ["jsonl:rows.jsonl", "sqlite:rows.db"])
@pytest.mark.parametrize(
    ("number", "deaths"), [(20_000, 5), pytest.param(40_000, 30, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_s20_killed_at_any_time_it_goes_on(tmp_path: Path, uri: str, number: int, deaths: int) -> None:
    table, order = history(number), random.Random(number)
    (tmp_path / "changes.jsonl").write_text(lines(table))
    arguments = ["--mode", "stream", "--source", "file:changes.jsonl", "--sink", uri, "--state", "sqlite:state.db", "--coalesce_seconds", "0"]  # fmt: skip
    killed = 0
    for _ in range(deaths):
        process = start(tmp_path, *arguments)
        try:
            process.wait(timeout=0.1 + order.random() * (0.8 if number < 30_000 else 1.5))
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.communicate()
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert killed, "no program lived long enough to be killed"
    assert_right(uri, tmp_path, table)
    assert cli(tmp_path, "state", "check", "sqlite:state.db").stdout == "no problems\n"
    if uri.startswith("jsonl"):
        stamps: dict[str, Any] = {}
        for text in (tmp_path / "rows.jsonl").read_text().splitlines():
            line = json.loads(text)
            stamp = (line["generation"], line["version"], line["seq"])
            assert stamp >= stamps.get(line["path"], (0, 0, 0)), "an old row came after a new one"
            stamps[line["path"]] = stamp


def test_sigterm_drains_and_a_restart_goes_on(tmp_path: Path) -> None:
    table = history(300)
    for begin, end in ((0, 100), (100, len(table))):
        append(tmp_path, table[begin:end])
        expected = compute(PLAN, changes(table[:end])).rows
        with following(tmp_path, "--from_empty") as process:
            until(lambda e=expected: standing("jsonl:rows.jsonl", tmp_path) == e, "the rows", process)  # type: ignore[misc]
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            assert f"{end - begin} changes" in out.splitlines()[-1]
    assert (tmp_path / "rows.jsonl.state.db").exists(), "an unbounded source keeps its state beside the sink"
    assert_right("jsonl:rows.jsonl", tmp_path, table)


def test_a_stream_without_an_end_says_what_it_follows(tmp_path: Path) -> None:
    (tmp_path / "snapshot.jsonl").write_text(lines(history(20)))
    append(tmp_path, [])
    with following(tmp_path, "--source", "file:snapshot.jsonl") as process:
        assert process.stderr is not None
        said = "follows tail:changes.jsonl, file:snapshot.jsonl; state sqlite:rows.jsonl.state.db\n"
        assert process.stderr.readline() == said


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    table = history(20)
    with following(tmp_path, "--from_empty") as process:
        assert process.stderr is not None
        process.stderr.readline()  # what it follows
        said = process.stderr.readline()
        assert said.endswith("tail:changes.jsonl: there is no such file yet: waits until there is one\n")
        append(tmp_path, table)
        until(lambda: standing("jsonl:rows.jsonl", tmp_path) == compute(PLAN, changes(table)).rows, "the rows", process)


def test_an_unbounded_source_needs_a_snapshot(tmp_path: Path) -> None:
    append(tmp_path, history(20))
    done = run(tmp_path, "--source", "tail:changes.jsonl", "--sink", "jsonl:rows.jsonl")
    assert done.returncode == 2
    assert "tail:changes.jsonl: expected a snapshot to begin with, got an empty state" in done.stderr
    assert not (tmp_path / "rows.jsonl").exists() or not (tmp_path / "rows.jsonl").read_text()


def test_a_snapshot_and_a_stream_by_the_command_line(tmp_path: Path) -> None:
    table = history(200)
    (tmp_path / "snapshot.jsonl").write_text(lines(table[:120]))
    append(tmp_path, table[100:])
    with following(tmp_path, "--source", "file:snapshot.jsonl") as process:
        until(lambda: standing("jsonl:rows.jsonl", tmp_path) == compute(PLAN, changes(table)).rows, "the rows", process)


def fetched(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except urllib.error.URLError:
        return 0, ""


def test_it_is_ready_when_every_view_gives_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    from boiler_beam.program import StreamReport
    from pipelines.metrics import serve_metrics

    report = StreamReport(documents=2, changes=3, dead_letters=0, seconds=0.1)

    with serve_metrics(0) as told:
        port = int(capsys.readouterr().err.rpartition(":")[2].partition("/")[0])
        told(report)
        assert fetched(port, "/readyz") == (503, "not ready\n")
        told(replace(report, changes=9, dirty=4))
        assert fetched(port, "/readyz") == (503, "not ready\n"), "rows are on their way"
        told(replace(report, changes=9, dirty=4, is_ready=True))
        assert fetched(port, "/readyz") == (200, "ready\n")


def test_figures_over_http(tmp_path: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    table = [*history(50), ("players/bad", 60, {"points": "x"})]
    append(tmp_path, table)
    with following(tmp_path, "--from_empty", "--metrics_port", str(port)) as process:
        until(lambda: fetched(port, "/readyz")[0] == 200, "readiness", process)
        until(
            lambda: f"boiler_beam_changes_total {len(table)}.0" in fetched(port, "/metrics")[1], "the changes", process
        )
        metrics = fetched(port, "/metrics")[1]
        assert "boiler_beam_dead_letters_total 1.0" in metrics
        assert 'boiler_beam_rows{view="Table"} 10.0' in metrics
        assert fetched(port, "/healthz") == (200, "ok\n")
        assert fetched(port, "/nothing")[0] == 404


def test_two_programs_on_one_state_or_one_sink(tmp_path: Path) -> None:
    table = history(80)
    append(tmp_path, table[:50])
    with following(tmp_path, "--from_empty", "--state", "sqlite:state.db") as process:
        until(lambda: standing("jsonl:rows.jsonl", tmp_path), "rows", process)
        same = run(
            tmp_path,
            "--source",
            "tail:changes.jsonl",
            "--from_empty",
            "--sink",
            "jsonl:other.jsonl",
            "--state",
            "sqlite:state.db",
        )
        assert same.returncode == 2
        assert same.stderr.splitlines()[-1] == (
            "error: --state sqlite:state.db: expected to be its only writer, got another one; fix: wait until it ends"
        )
        beside = cli(tmp_path, "state", "show", "sqlite:state.db")
        assert (beside.returncode, beside.stderr) == (0, "")
        assert "Card: " in beside.stdout
        checked = cli(tmp_path, "state", "check", "sqlite:state.db")
        assert checked.returncode == 2
        assert checked.stderr.endswith(
            "got another one; fix: stop the stream; while it runs, use /metrics (--metrics_port)\n"
        )
        sink = run(
            tmp_path,
            "--source",
            "tail:changes.jsonl",
            "--from_empty",
            "--sink",
            "jsonl:rows.jsonl",
            "--state",
            "sqlite:other.db",
        )
        assert sink.returncode == 2
        assert "jsonl:rows.jsonl: expected to be its only writer, got another one" in sink.stderr
        filled = run(tmp_path, "--source", "file:changes.jsonl", "--sink", "jsonl:rows.jsonl")
        assert filled.returncode == 2
        assert "expected to be its only writer" in filled.stderr
        append(tmp_path, table[50:])
        expected = compute(PLAN, changes(table)).rows
        until(
            lambda: standing("jsonl:rows.jsonl", tmp_path) == expected,
            "the rows that the first one goes on with",
            process,
        )


@pytest.mark.parametrize("what", ["state", "sink"])
def test_a_full_disk_loses_nothing(tmp_path: Path, what: str) -> None:
    table = history(6_000)
    (tmp_path / "changes.jsonl").write_text(lines(table))
    sink = "sqlite:rows.db" if what == "state" else "jsonl:rows.jsonl"
    arguments = ["--mode", "stream", "--source", "file:changes.jsonl", "--sink", sink, "--coalesce_seconds", "0"]
    arguments += ["--state", "sqlite:state.db"] if what == "state" else []
    full = run_within(tmp_path, 200_000 if what == "state" else 20_000, *arguments)
    assert full.returncode == 1, full.stderr
    assert "could not be written" in full.stderr.splitlines()[-1]
    assert "fix: free space" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    if what == "sink":
        assert (tmp_path / "rows.jsonl").read_bytes()[-1:] in (b"\n", b""), "no line that is half written"
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert_right(sink, tmp_path, table)


def states(folder: Path) -> list[str]:
    arguments = [
        "--mode",
        "stream",
        "--source",
        "file:changes.jsonl",
        "--sink",
        "jsonl:rows.jsonl",
        "--state",
        "sqlite:state.db",
    ]
    (folder / "changes.jsonl").write_text(lines(history(3_000)))
    assert run(folder, *arguments).returncode == 0
    return arguments


def refused(folder: Path, arguments: list[str]) -> str:
    """A state that can't be used gives one clear line, and is not changed."""
    before = (folder / "state.db").read_bytes()
    done = run(folder, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert (folder / "state.db").read_bytes() == before
    return line


def test_a_refused_program_leaves_no_state(tmp_path: Path) -> None:
    (tmp_path / "live.jsonl").write_text(lines([PLAYER]))
    done = run(tmp_path, "--source", "tail:live.jsonl", "--sink", "jsonl:rows.jsonl", "--state", "sqlite:state.db")
    assert (done.returncode, "expected a snapshot to begin with" in done.stderr) == (2, True)
    assert list(tmp_path.glob("state.db*")) == []


def test_a_state_of_another_version(tmp_path: Path) -> None:
    arguments = states(tmp_path)
    with closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        database.execute("UPDATE facts SET value = 99 WHERE name = 'schema'")
    line = refused(tmp_path, arguments)
    assert (
        "expected a state of schema 6, got 99; nothing was changed; fix: run the version of boiler_beam that made it"
        in line
    )


def test_a_truncated_state(tmp_path: Path) -> None:
    arguments = states(tmp_path)
    data = (tmp_path / "state.db").read_bytes()
    (tmp_path / "state.db").write_bytes(data[: len(data) // 2])
    assert "expected a state, got: a file that lacks its end; nothing was changed" in refused(tmp_path, arguments)


def test_a_state_that_is_something_else(tmp_path: Path) -> None:
    arguments = states(tmp_path)
    (tmp_path / "state.db").write_text("my thesis " * 1000)
    assert "expected a state, got: file is not a database; nothing was changed" in refused(tmp_path, arguments)
    (tmp_path / "state.db").unlink()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        database.execute("CREATE TABLE thesis (text)")
    assert "expected a state, got: a database of something else; nothing was changed" in refused(tmp_path, arguments)


@pytest.mark.skipif(os.geteuid() == 0 and os.access("/", os.W_OK), reason="root writes to read-only files, too")
def test_a_read_only_state(tmp_path: Path) -> None:
    arguments = states(tmp_path)
    (tmp_path / "state.db").chmod(0o400)
    assert "expected a file that can be written, got a read-only one" in refused(tmp_path, arguments)


def test_the_state_by_the_command_line(tmp_path: Path) -> None:
    states(tmp_path)
    shown = cli(tmp_path, "state", "show", "sqlite:state.db").stdout
    assert "Card: " in shown
    assert "generation 1" in shown
    assert "0 changes that wait for their commit" in shown
    assert "newest version 2999\n" in shown, "a counter, not a time"
    assert "file:changes.jsonl: " in shown
    compacted = cli(tmp_path, "state", "compact", "sqlite:state.db", "--keep_days", "0").stdout
    assert "tombstones removed" in compacted
    with closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        database.execute("UPDATE log SET batch = x'c1' WHERE id = (SELECT max(id) FROM log)")
    checked = cli(tmp_path, "state", "check", "sqlite:state.db")
    assert checked.returncode == 1
    assert checked.stdout.splitlines()[-1] == "1 problems"
    missing = cli(tmp_path, "state", "show", "sqlite:nothing.db")
    assert (missing.returncode, missing.stderr) == (
        2,
        "error: sqlite:nothing.db: expected the state of a stream at sqlite:PATH, got none; fix: check the path\n",
    )
    assert cli(tmp_path, "state", "show", "state.db").stderr == (
        "error: state.db: expected the state of a stream at sqlite:PATH, got none; fix: write sqlite:state.db\n"
    )


def test_appended_lines_are_read_and_another_beginning_is_refused(tmp_path: Path) -> None:
    table, arguments = history(3_000), states(tmp_path)
    assert " 0 changes, " in run(tmp_path, *arguments).stdout.splitlines()[-1]
    more = [("teams/t1", 9_000, {"name": "new"})]
    append(tmp_path, more)
    assert " 1 changes, " in run(tmp_path, *arguments).stdout.splitlines()[-1]
    assert_right("jsonl:rows.jsonl", tmp_path, [*table, *more])
    (tmp_path / "changes.jsonl").write_text(lines(history(4_000, seed=2)))
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert "to begin as when it was read up to byte" in done.stderr
    assert "fix: append to the file, or start with another --state" in done.stderr


def test_s23_a_torn_last_line_of_the_sink_is_cut(tmp_path: Path) -> None:
    table, arguments = history(3_000), states(tmp_path)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"path":"cards/torn","gener')
    append(tmp_path, [("teams/t1", 9_000, {"name": "new"})])
    assert run(tmp_path, *arguments).returncode == 0
    assert_right("jsonl:rows.jsonl", tmp_path, [*table, ("teams/t1", 9_000, {"name": "new"})])
    assert "torn" not in (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "poem.jsonl").write_text("roses are red")
    done = run(tmp_path, "--mode", "stream", "--source", "file:changes.jsonl", "--sink", "jsonl:poem.jsonl")
    assert (done.returncode, (tmp_path / "poem.jsonl").read_text()) == (2, "roses are red")


def test_dead_letters_are_replayed_after_the_fix(tmp_path: Path) -> None:
    table = [*history(40), ("players/p1", 90, {"team": "teams/t1", "points": -1})]
    (tmp_path / "changes.jsonl").write_text(lines(table) + '{"path": "players/p2", "version": 91}\n')
    arguments = [
        "--mode",
        "stream",
        "--source",
        "file:changes.jsonl",
        "--sink",
        "jsonl:rows.jsonl",
        "--state",
        "sqlite:state.db",
    ]
    done = run(tmp_path, *arguments)
    assert "2 dead letters in jsonl:rows.jsonl.dead_letters.jsonl" in done.stdout
    letters = [json.loads(text) for text in (tmp_path / "rows.jsonl.dead_letters.jsonl").read_text().splitlines()]
    assert [letter["code"] for letter in letters] == ["malformed_line", "getter_raised"]
    fixed = (
        (tmp_path / "rows.jsonl.dead_letters.jsonl")
        .read_text()
        .replace('\\"version\\": 91', '\\"version\\": 91, \\"fields\\": null')
    )
    (tmp_path / "fixed.jsonl").write_text(fixed)
    replayed = cli(
        tmp_path, "dead-letters", "replay", "jsonl:fixed.jsonl", "--views", "tests.pipelines.streaming_views",
        "--sink", "jsonl:rows.jsonl", "--state", "sqlite:state.db",
    )  # fmt: skip
    assert replayed.returncode == 0, replayed.stderr
    assert "1 changes" in replayed.stdout.splitlines()[-1]
    assert "cards/p2" not in standing("jsonl:rows.jsonl", tmp_path)


def test_a_replay_needs_the_state_of_the_stream(tmp_path: Path) -> None:
    """Without the state the sink would get another holder, and the stream would be refused from then on."""
    (tmp_path / "changes.jsonl").write_text(lines(history(40)) + "torn\n")
    run(
        tmp_path,
        "--mode",
        "stream",
        "--source",
        "file:changes.jsonl",
        "--sink",
        "jsonl:rows.jsonl",
        "--state",
        "sqlite:s.db",
    )
    before = (tmp_path / "rows.jsonl.control.jsonl").read_bytes()
    given = ["dead-letters", "replay", "jsonl:rows.jsonl.dead_letters.jsonl", "--views", "tests.pipelines.streaming_views", "--sink", "jsonl:rows.jsonl"]  # fmt: skip
    refused = {
        "sqlite:rows.jsonl.state.db: expected the state of a stream at sqlite:PATH, got none; fix: check the path": [],
        "memory:: expected the state of a stream at sqlite:PATH, got none; fix: check the path": [
            "--state",
            "memory:",
        ],
        "--runner: expected only the inputs of dead letters; fix: leave it out": ["--runner", "DirectRunner"],
        "--source: expected only the inputs of dead letters; fix: leave it out": ["--source", "sample:"],
    }
    for said, more in refused.items():
        done = cli(tmp_path, *given, *more)
        assert (done.returncode, done.stderr) == (2, f"error: {said}\n")
    less = [one.replace("views", "views:Table") if one.startswith("tests") else one for one in given]
    done = cli(tmp_path, *less, "--state", "sqlite:s.db")
    said = "--views: expected those of the stream whose state this is, Card, Table, got Table; fix: --state, --views"
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    ours = ["--mode", "stream", "--source", "file:changes.jsonl", "--sink", "jsonl:ours.jsonl"]
    run(tmp_path, *ours, "--state", "sqlite:ours.db")
    done = cli(tmp_path, *given, "--state", "sqlite:ours.db")  # another stream feeds the sink
    said = "jsonl:rows.jsonl: expected the rows of Card that this state feeds, got those of another; fix: --state"
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert (tmp_path / "rows.jsonl.control.jsonl").read_bytes() == before
    shown = cli(tmp_path, "dead-letters", "replay", "--help").stdout
    assert "--state" in shown
    assert "--runner" not in shown
    assert "BEAM" not in shown


def test_log_lines_where_nobody_watches(tmp_path: Path) -> None:
    (tmp_path / "changes.jsonl").write_text(lines(history(200)))
    done = run(tmp_path, "--mode", "stream", "--source", "file:changes.jsonl", "--sink", "jsonl:rows.jsonl")
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    {
        "a state of no kind": (["--state", "redis:x"], "--state redis:x: expected memory: or sqlite:PATH"),
        "a sink of backfills": (["--sink", "parquet:rows"], "parquet:rows: expected a sink that can follow a stream"),
        "a taken port": (["--metrics_port", "1"], "--metrics_port 1: expected a free port"),
        "a backfill without an end": (["--mode", "backfill", "--source", "tail:x"], "--mode backfill: expected sources that end"),
        "a state on a runner": (["--runner", "DirectRunner", "--state", "memory:"], "--state: expected the embedded engine"),
        "a dry run on a runner": (["--runner", "DirectRunner", "--dry_run"], "--dry_run: expected the embedded engine"),
    }.values(),
)  # fmt: skip
def test_wrong_use(tmp_path: Path, arguments: list[str], said: str) -> None:
    if "--metrics_port" in arguments and os.geteuid() == 0:
        pytest.skip("root may take any port")
    (tmp_path / "changes.jsonl").write_text(lines(history(30)))
    base = ["--source", "file:changes.jsonl", *([] if "--mode" in arguments else ["--mode", "stream"])]
    done = run(tmp_path, *base, "--sink", "jsonl:rows.jsonl", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "changes.jsonl").write_text(lines(history(100)))
    done = run(
        tmp_path, "--mode", "stream", "--source", "file:changes.jsonl", "--sink", "jsonl:rows.jsonl", "--dry_run"
    )
    assert done.stdout.splitlines()[-1].endswith("(dry run: nothing was written)")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changes.jsonl"]


def test_strict_and_prune_by_exit_codes(tmp_path: Path) -> None:
    arguments = ["--mode", "stream", "--source", "file:changes.jsonl", "--sink", "jsonl:rows.jsonl"]
    (tmp_path / "changes.jsonl").write_text(lines(history(600)) + "torn\n")
    assert run(tmp_path, *arguments, "--strict").returncode == 4
    (tmp_path / "changes.jsonl").write_text(lines(history(600)[:10]))
    few = run(tmp_path, *arguments)
    assert (few.returncode, "not pruned: Card: " in few.stdout) == (3, True)
    assert run(tmp_path, *arguments, "--prune", "all").returncode == 0
    assert_right("jsonl:rows.jsonl", tmp_path, history(600)[:10])


@pytest.mark.beam
def test_a_live_stream_on_prism(tmp_path: Path) -> None:
    if prism() is None:
        pytest.skip(NO_PRISM)
    (tmp_path / "snapshot.jsonl").write_text(lines([("teams/t1", 1, {"name": "blue"}), PLAYER]))
    (tmp_path / "live.jsonl").write_text(lines([("teams/t1", 2, {"name": "red"})]))
    sources = ["--source", "file:snapshot.jsonl", "--source", "tail:live.jsonl", "--sink", "jsonl:rows.jsonl"]
    given = [*sources, "--coalesce_seconds", "0", "--allowed_lateness_seconds", "0.1"]
    process = start(tmp_path, *given, "--runner", "PrismRunner", f"--prism_location={prism()}")

    def rows() -> list[str]:
        path = tmp_path / "rows.jsonl"
        return (
            [json.loads(line)["fields"].get("label") for line in path.read_text().splitlines()] if path.exists() else []
        )

    try:
        until(lambda: "red 25" in rows(), "the first row", process)
        assert "blue 25" not in rows(), "no row before the snapshot and what came since are in"
        with (tmp_path / "live.jsonl").open("a") as file:
            file.write(lines([("teams/t1", 3, {"name": "green"})]))
        until(lambda: "green 25" in rows(), "the change", process)
        until(lambda: None in rows(), "the row of the table, which has no label", process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "PrismRunner: state is in the memory of Prism, for development" in err
    # The rows are counted in the sink. Prism counts the rest up to its last progress report, whenever that was.
    summary = re.match(r"(\d) documents?, (\d) changes?, 2 rows, 0 dead letters, ", out.splitlines()[-1])
    assert summary is not None, out
    assert (int(summary[1]) <= 2, int(summary[2]) <= 4) == (True, True), out


@pytest.mark.beam
def test_a_live_stream_on_a_local_runner_needs_prism_and_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BOILER_BEAM_PRISM", raising=False)
    (tmp_path / "live.jsonl").write_text("")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    given = ["--source", "tail:live.jsonl", "--sink", "jsonl:rows.jsonl", "--runner", "DirectRunner"]
    done = run(tmp_path, *given, "--from_empty")
    assert done.returncode == 2
    assert "expected sources that end, got one without an end; fix: leave --runner out" in done.stderr
    done = run(tmp_path, *given)
    assert done.returncode == 2
    assert "expected a snapshot to begin with, got no bounded source; fix: add --source" in done.stderr
