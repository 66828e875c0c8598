"""What comes out of a stream, and where that goes on workers that are other machines."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

import apache_beam as beam  # noqa: E402
import msgspec  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402

from boiler_beam.connectors import read_dead_letters  # noqa: E402
from boiler_beam.events import DeadLetter  # noqa: E402
from boiler_beam.plan import PlanName  # noqa: E402
from tests.transforms.test_backfill import splits  # noqa: E402
from transforms import AppendRows, ComputeRows, Destination, Outlet, ReadChanges, WriteRows  # noqa: E402

VIEWS = PlanName(("boiler_beam.samples.meeting:MeetingSession",))
LETTER = DeadLetter(stage="decode", code="malformed_message", message="expected JSON", path="users/u1", input="x")


def append(outlet: Outlet, *letters: DeadLetter) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        dead = pipeline | "Dead" >> beam.Create(letters).with_output_types(DeadLetter)
        notes = pipeline | "Notes" >> beam.Create([b"meeting_sessions/m1"])
        {"dead_letters": dead, "notes": notes} | AppendRows(VIEWS, outlet)


def logged(caplog: pytest.LogCaptureFixture) -> list[DeadLetter]:
    texts = [record.getMessage() for record in caplog.records if record.name == "boiler_beam"]
    prefix = "dead letter: "
    return [msgspec.json.decode(text[len(prefix) :], type=DeadLetter) for text in texts if text.startswith(prefix)]


def test_rows_that_cannot_be_told_are_kept_for_who_prunes(tmp_path: Path) -> None:
    append(Outlet(f"jsonl:{tmp_path}/rows", f"jsonl:{tmp_path}/dead", f"{tmp_path}/left"))
    assert (tmp_path / "left").read_text() == '"meeting_sessions/m1"\n'


def test_a_live_stream_keeps_no_list_of_rows_that_cannot_be_told(tmp_path: Path) -> None:
    """The list lay in a folder of the machine that submitted, which no worker has: all of its bundles failed."""
    append(Outlet(f"jsonl:{tmp_path}/rows", f"jsonl:{tmp_path}/dead"), LETTER)
    assert [letter.path for letter in read_dead_letters(f"jsonl:{tmp_path}/dead")] == ["users/u1"]


def test_rule_4_a_worker_elsewhere_logs_dead_letters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    append(Outlet(f"jsonl:{tmp_path}/rows", f"jsonl:{tmp_path}/dead", is_remote=True), LETTER)
    assert logged(caplog) == [LETTER]
    assert [letter.path for letter in read_dead_letters(f"jsonl:{tmp_path}/dead")] == ["users/u1"], "the path is shared"


def test_rule_4_a_path_that_a_worker_has_not_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    append(Outlet(f"jsonl:{tmp_path}/rows", f"jsonl:{tmp_path}/file/dead", is_remote=True), LETTER)
    assert logged(caplog) == [LETTER]
    assert "the dead letter is only in this log" in caplog.text


def test_a_long_dead_letter_is_cut_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = msgspec.structs.replace(LETTER, input="x" * 200_000)
    append(Outlet(f"jsonl:{tmp_path}/rows", f"jsonl:{tmp_path}/dead", is_remote=True), long)
    (record,) = [one for one in caplog.records if one.name == "boiler_beam"]
    assert record.levelno == logging.WARNING
    assert 100_000 < len(record.getMessage()) < 110_000
    assert "cut: 200," in record.getMessage()


def test_rule_4_a_backfill_elsewhere_logs_dead_letters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.jsonl").write_text("broken\n")
    destination = Destination(f"jsonl:{tmp_path}/rows", f"jsonl:{tmp_path}/x.jsonl/dead", is_remote=True)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        changes = pipeline | ReadChanges(splits(f"file:{tmp_path}/x.jsonl"))
        changes | ComputeRows(*VIEWS.views) | WriteRows(VIEWS, destination)
    assert [letter.code for letter in logged(caplog)] == ["malformed_line"]
