"""`boiler_beam.explain`, `diff`, `why` and `check` from Python."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

import boiler_beam as bb
from boiler_beam.connectors import open_source
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.errors import UsageError
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary, UserMeetings
from tests.boiler_beam.program.doubtful import Clock
from tests.helpers.histories import lines


def test_explain_counts_writes_over_documents() -> None:
    bare = bb.explain(MeetingSession)
    assert bare.writes == ()
    assert str(bare) == bare.plan
    assert bare.plan.startswith("MeetingSession: rows at meeting_sessions/{id}\n")
    counted = bb.explain(MeetingSession, sources=["sample:"])
    assert counted.plan == bare.plan
    assert {one.collection: one.documents for one in counted.writes}["meetings"] == 4
    assert "rows written for one change, counted over these documents" in str(counted)


def test_diff_of_two_sinks_and_of_documents(tmp_path: Path) -> None:
    one, two = MemorySink(), f"sqlite:{tmp_path}/rows.db"
    bb.backfill(MeetingSession, sources="sample:", sink=one, read_time=2**61)  # newer than any document: it counts not
    bb.backfill(MeetingSession, sources="sample:", sink=two)
    same = bb.diff(MeetingSession, one, two)
    assert (bool(same), len(same), str(same)) == (False, 0, "no row differs")
    assert not bb.diff(MeetingSession, one, sources=open_source("sample:"))
    (tmp_path / "l1.jsonl").write_text(
        lines([("locations/l1", 2**60, {"latitude": 1.5, "longitude": 2, "address": "elsewhere"})])
    )
    found = bb.diff(MeetingSession, one, sources=["sample:", f"file:{tmp_path}/l1.jsonl"])
    assert [row.path for row in found] == ["meeting_sessions/m1", "meeting_sessions/m4"]
    assert found.rows[0].fields["address"] == ("1 Ferry Building, San Francisco", "elsewhere")
    assert str(found).splitlines()[-1] == "2 rows differ"


def test_diff_names_the_rows_that_are_not_known(tmp_path: Path) -> None:
    sink = MemorySink()
    bb.backfill(MeetingSession, sources="sample:", sink=sink)
    (tmp_path / "l1.jsonl").write_text(lines([("locations/l1", 2**60, {"latitude": "north"})]))
    found = bb.diff(MeetingSession, sink, sources=["sample:", f"file:{tmp_path}/l1.jsonl"])
    assert not found
    assert {letter.path for letter in found.unknown} == {"meeting_sessions/m1", "meeting_sessions/m4"}


@pytest.mark.parametrize("given", [{}, {"new": MemorySink(), "sources": "sample:"}])
def test_diff_takes_one_of_two(given: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected OLD and NEW sinks, or --source and one sink"):
        bb.diff(MeetingSession, MemorySink(), **given)  # type: ignore[arg-type]


def test_diff_of_a_sink_without_rows() -> None:
    with pytest.raises(UsageError, match="expected rows, got none; fix: check the address"):
        bb.diff(MeetingSession, MemorySink(), sources="sample:")


def test_why_takes_a_path_or_an_id() -> None:
    by_path = bb.why([MeetingSession, UserMeetings], "meeting_sessions/m1", sources="sample:")
    by_id = bb.why(MeetingSession, "m1", sources="sample:")
    assert by_path == by_id
    assert by_id.is_there
    assert "  locations/l1 at version 2026-01-01T00:00:01.000003Z" in str(by_id).splitlines()
    assert not bb.why(MeetingSession, "m9", sources="sample:").is_there
    with pytest.raises(UsageError, match="m1: expected the path of a row"):
        bb.why([MeetingSession, UserMeetings], "m1", sources="sample:")


def test_check(tmp_path: Path) -> None:
    fine = bb.check([MeetingSession, OrganizationSummary], sources="sample:")
    assert (fine.number_of_problems, fine.empty, fine.differing) == (0, (), ())
    assert str(fine).splitlines()[-1] == "no problems"
    (tmp_path / "d.jsonl").write_text(lines([("users/u1", 1, {"firstName": 7}), ("rooms/r1", 1, {})]))
    found = bb.check(OrganizationSummary, sources=f"file:{tmp_path}/d.jsonl")
    assert (found.number_of_problems, found.empty, found.unread) == (1, ("tickets",), (("rooms", 1),))
    assert str(found).splitlines()[-1] == "1 problems"
    assert len(bb.check(Clock, sources="sample:").warnings) == 1


def test_the_top_level_names_are_loaded_when_they_are_asked_for() -> None:
    assert bb.__version__ == version("boiler_beam")
    assert {"backfill", "follow", "explain", "diff", "why", "check", "__version__"} <= set(dir(bb))
    with pytest.raises(AttributeError, match="module 'boiler_beam' has no attribute 'backfil'"):
        _ = bb.backfil  # type: ignore[attr-defined]
