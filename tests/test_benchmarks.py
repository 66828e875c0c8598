"""The programs of the streaming benchmark that need only this environment write the expected rows."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.check import compare, read_rows
from benchmarks.reference import expected_rows, read_documents
from benchmarks.workload import Workload

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("state", ["memory:", "sqlite:state.db"])
def test_rows_follow_the_changes(state: str, tmp_path: Path) -> None:
    workload = Workload(meetings=40, seed=7)
    workload.snapshot(tmp_path / "snapshot")
    changes = tmp_path / "changes.jsonl"
    changes.write_text("".join(islice(workload.changes(), 2_500)))
    arguments = [str(tmp_path / "snapshot"), str(changes), str(tmp_path), "--state"]
    arguments.append(state.replace("state.db", str(tmp_path / "state.db")))
    subprocess.run([sys.executable, "-m", "benchmarks.follow", *arguments], cwd=ROOT, check=True)
    expected = expected_rows(read_documents([*(tmp_path / "snapshot").iterdir(), changes]))
    found = compare(expected, read_rows([tmp_path / "rows.jsonl"]))
    assert found == {"rows": len(expected), "wrong": 0, "first_wrong": None}
    assert '"changes": 2500' in (tmp_path / "figures.json").read_text()


def test_the_memory_of_all_parts_is_measured() -> None:
    arguments = ["-m", "benchmarks.memory", "--meetings", "40"]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    figures = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert {"memory", "durable", "restarted", "other", "fields of a document as JSON"} < set(figures)
    meetings, users, locations, tickets = 40, 80, 5, 320
    assert figures["documents"].startswith(f"{meetings + users + locations + tickets}, ")
    # What meetings refer to (a location, users, tickets); the users of organizations, twice; the users of tickets.
    entries = meetings * (1 + 8 + 8) + 2 * users + tickets
    assert figures["index entries"].startswith(f"{entries:,}, ")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the server is pinned to a core, which needs Linux")
def test_every_figure_of_the_server_is_measured() -> None:
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    sizes = ["--runs", "1", "--subscribers", "20", "--connections", "30", "--changes", "10"]
    command = [sys.executable, "-m", "benchmarks.serving", *sizes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    figures = {cell[0]: cell[1] for cell in cells}
    assert {
        "MB with them",
        "reads a change",
        "p50 s",
        "GET / by hand",
        "304 / GET",
        "p50 ms",
        "p99 ms",
        "cpu ms of both",
    } < set(figures)
    assert figures["reads a change"] == "1.00", "one read of the store for all subscribers"
    assert [cell[1] for cell in cells if cell[0] == "clients"] == ["20", "30"]
    assert {cell[1] for cell in cells if cell[0] == "lost"} == {"0.00"}
