"""`boiler-beam forms` and `documents load` as programs: killed in the middle, started again, ended by a signal."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref
from tests.helpers.form_classes import KILLED_AT, AttendanceForm, Ticket
from tests.helpers.programs import Program
from tests.helpers.servers import wait_until

ROOT = Path(__file__).resolve().parents[2]
MODULE = "tests.helpers.form_classes"


@pytest.fixture
def store(tmp_path: Path) -> str:
    uri = f"documents:{tmp_path}/app.db"
    with bb.transaction(uri) as tx:
        tx.create(Ticket(user="ann"), "t1")
        for number in range(3):
            tx.create(AttendanceForm(user="ann", ticket=Ref("tickets/t1"), attends=True), f"f{number}")
        tx.create(AttendanceForm(user="bob", ticket=Ref("tickets/t1"), attends=True), "f9")
    return uri


def start(folder: Path, *arguments: str, **environment: str) -> Program:
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    return Program(command, folder, {**os.environ, "PYTHONPATH": str(ROOT), **environment})


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    process = start(folder, *arguments, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def ticket(uri: str) -> Ticket:
    with bb.transaction(uri) as tx:
        found = tx.get(Ticket, "t1")
    assert found is not None
    return found


def states(uri: str) -> dict[str, str | None]:
    with bb.transaction(uri) as tx:
        found = tx.get_all(AttendanceForm, ["f0", "f1", "f2", "f9"])
    return {name: one.outcome and one.outcome.state for name, one in found.items()}


def test_the_forms_that_are_there_are_applied(store: str, tmp_path: Path) -> None:
    given = ("forms", "--forms", MODULE, "--store", store, "--once")
    code, out, err = run(tmp_path, *given)
    assert (code, out) == (0, "3 forms done, 1 rejected, 0 failed\n"), err
    assert states(store) == {"f0": "done", "f1": "done", "f2": "done", "f9": "rejected"}
    assert run(tmp_path, *given)[1] == "0 forms done, 0 rejected, 0 failed\n"
    assert ticket(store).changes == 3


def test_a_program_that_is_killed_half_way_goes_on(store: str, tmp_path: Path) -> None:
    given = ("forms", "--forms", MODULE, "--store", store, "--once")
    code, _, err = run(tmp_path, *given, **{KILLED_AT: str(tmp_path / "killed")})
    assert code == -signal.SIGKILL, err
    assert ticket(store).changes == 0  # it was killed when the first form had written, before its commit
    code, out, err = run(tmp_path, *given, **{KILLED_AT: str(tmp_path / "killed")})
    assert (code, out) == (0, "3 forms done, 1 rejected, 0 failed\n"), err
    assert ticket(store).changes == 3


def test_forms_are_followed_until_a_signal(store: str, tmp_path: Path) -> None:
    process = start(tmp_path, "forms", "--forms", f"{MODULE}:AttendanceForm", BOILER_BEAM_STORE=store)
    wait_until(lambda: None not in states(store).values() or process.poll() is not None, "the first forms")
    with bb.transaction(store) as tx:
        tx.create(AttendanceForm(user="ann", ticket=Ref("tickets/t1"), attends=False), "later")
    wait_until(lambda: not ticket(store).attendance or process.poll() is not None, "the later form")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "4 forms done, 1 rejected, 0 failed\n"), err


def test_a_form_that_fails_is_a_dead_letter(store: str, tmp_path: Path) -> None:
    with bb.transaction(store) as tx:
        tx.create(Ticket(user="broken"), "t2")
        tx.create(AttendanceForm(user="broken", ticket=Ref("tickets/t2"), attends=True), "bad")
    code, out, err = run(tmp_path, "forms", "--forms", MODULE, "--store", store, "--once")
    assert (code, out) == (1, "3 forms done, 1 rejected, 1 failed\n")
    assert "attendance_forms/bad: AttendanceForm.apply raised KeyError" in err
    (letter,) = [json.loads(line) for line in (tmp_path / "dead_letters.jsonl").read_text().splitlines()]
    assert (letter["code"], letter["path"]) == ("form_failed", "attendance_forms/bad")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--forms", "tests.helpers.shop", "--store", "documents:x.db"], "expected forms defined in it, got none"),
        (["--forms", f"{MODULE}:Ticket", "--store", "documents:x.db"], "the module defines AttendanceForm, JoinForm"),
        (["--forms", MODULE], "expected a store of documents, got none"),
        (["--forms", MODULE, "--store", "sqlite:rows.db"], "expected"),
    ],
)
def test_wrong_use(given: list[str], said: str, tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "forms", *given)
    assert (code, out) == (2, "")
    assert said in err


def test_a_store_is_filled_and_gives_the_same_rows(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "documents", "load", "--source", "sample:", "documents:app.db")
    assert code == 0, err
    assert out.endswith(" documents\n")
    rows: list[Any] = []
    for source in ("sample:", "documents:app.db"):
        sink = f"jsonl:{source.partition(':')[0]}.jsonl"
        code, _, err = run(
            tmp_path, "run", "--views", "boiler_beam.samples.meeting", "--source", source, "--sink", sink
        )
        assert code == 0, err
        lines = (tmp_path / sink.partition(":")[2]).read_text().splitlines()
        rows.append({row["path"]: row["fields"] for row in map(json.loads, lines)})
    assert rows[0] == rows[1] != {}
    code, _, err = run(tmp_path, "documents", "load", "--source", "sample:", "documents:app.db")
    assert (code, "expected a new file, got one with documents" in err) == (2, True)
