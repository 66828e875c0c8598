"""`boiler_beam.backfill`: URIs and connector objects, options, the report, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import boiler_beam as bb
from boiler_beam.connectors import open_sink, open_source, read_dead_letters
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.errors import UsageError
from boiler_beam.plan import compile_plan
from boiler_beam.program import DeadLettersFound, Progress
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary

NAMED = "boiler_beam.samples.meeting:MeetingSession"
CONFIGURED = f"{NAMED},OrganizationSummary"


def rows(uri: str, *views: type[bb.ViewModel]) -> set[str]:
    sink = open_sink(uri)
    return {row.path for view in compile_plan(views).views for row in sink.current_rows(view.target)}


def test_rows_are_written_once(tmp_path: Path) -> None:
    uri = f"sqlite:{tmp_path}/rows.db"
    views = [MeetingSession, OrganizationSummary]
    report = bb.backfill(views, sources=["sample:"], sink=uri)
    assert (report.documents, report.changes, report.rows, report.written, report.deleted) == (24, 24, 7, 7, 0)
    assert [(view.view, view.inserted) for view in report.views] == [("MeetingSession", 4), ("OrganizationSummary", 3)]
    assert len(rows(uri, *views)) == 7
    assert str(report).startswith("24 documents, 24 changes, 7 rows, 0 dead letters, ")
    again = bb.backfill(views, sources=["sample:"], sink=uri)
    assert (again.rows, again.written, [view.unchanged for view in again.views]) == (7, 0, [4, 3])


@pytest.mark.parametrize(
    "views", [MeetingSession, [MeetingSession], NAMED, [NAMED, MeetingSession], compile_plan([MeetingSession])]
)
@pytest.mark.parametrize("source", ["sample:", ["sample:"], open_source("sample:"), [open_source("sample:")]])
def test_views_and_sources_in_every_form(views: object, source: object) -> None:
    sink = MemorySink()
    report = bb.backfill(views, sources=source, sink=sink)  # type: ignore[arg-type]
    assert set(sink.written) == {f"meeting_sessions/m{number}" for number in (1, 2, 3, 4)}
    assert report.written == 4


def test_a_list_of_names_gives_all_their_classes() -> None:
    assert bb.backfill([CONFIGURED], sources="sample:", sink=MemorySink()).rows == 7


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    report = bb.backfill(MeetingSession, sources="sample:", sink=f"jsonl:{tmp_path}/rows.jsonl", dry_run=True)
    assert (report.written, report.is_dry_run, list(tmp_path.iterdir())) == (4, True, [])
    assert str(report).endswith("(dry run: nothing was written)")


def invalid(folder: Path) -> str:
    (folder / "documents.jsonl").write_text('{"path": "users/u1", "version": 1, "fields": {"firstName": 7}}\n')
    return f"file:{folder}/documents.jsonl"


def test_strict_raises_after_everything_was_written(tmp_path: Path) -> None:
    sources, uri = ["sample:", invalid(tmp_path)], f"sqlite:{tmp_path}/rows.db"
    lax = bb.backfill(OrganizationSummary, sources=sources, sink=MemorySink(), dead_letter=f"jsonl:{tmp_path}/l.jsonl")
    assert lax.dead_letters
    with pytest.raises(
        DeadLettersFound, match=r"strict: expected no dead letters, got \d.*; fix: look at them"
    ) as caught:
        bb.backfill(OrganizationSummary, sources=sources, sink=uri, strict=True)
    assert caught.value.report.dead_letters == lax.dead_letters
    assert caught.value.report.dead_letter == f"jsonl:{tmp_path}/rows.db.dead_letters.jsonl", "beside the sink"
    assert len(list(read_dead_letters(caught.value.report.dead_letter))) == lax.dead_letters
    assert len(rows(uri, OrganizationSummary)) == lax.rows


def test_what_is_not_pruned_is_in_the_report(tmp_path: Path) -> None:
    sink = MemorySink()
    documents = tmp_path / "rides.jsonl"
    lines = [
        json.dumps({"path": f"locations/l{n}", "version": 1, "fields": {"latitude": 1, "longitude": 2, "address": "a"}})
        for n in range(1)
    ]
    lines += [
        json.dumps({"path": f"meetings/m{n}", "version": 1, "fields": {"location": {"referenceValue": "locations/l0"}, "users": [], "tickets": {}, "status": "closed"}})
        for n in range(30)
    ]  # fmt: skip
    documents.write_text("\n".join(lines))
    bb.backfill(MeetingSession, sources=f"file:{documents}", sink=sink)
    documents.write_text("\n".join(lines[:10]))
    kept = bb.backfill(MeetingSession, sources=f"file:{documents}", sink=sink, read_time=2)
    assert kept.not_pruned == ("MeetingSession: 21 of 30 rows would go, more than 10",)
    assert (kept.deleted, len(sink.written)) == (0, 30)
    gone = bb.backfill(
        MeetingSession, sources=f"file:{documents}", sink=sink, read_time="1970-01-01T00:00:00.000003Z", prune="all"
    )
    assert (gone.deleted, len(sink.written), gone.not_pruned) == (21, 9, ())


def test_progress_says_how_many_rows_there_will_be() -> None:
    told: list[Progress] = []
    bb.backfill(MeetingSession, sources="sample:", sink=MemorySink(), progress=told.append)
    assert told == [Progress("read", "", 24, None), Progress("rows", "MeetingSession", 4, 4)]


def test_a_view_without_rows_is_a_failure_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(
        '{"path": "meetings/m1", "version": 1, "fields": {"location": {"referenceValue": "locations/l0"}, "users": [], "tickets": {}, "status": "closed"}}\n'
    )
    report = bb.backfill(MeetingSession, sources=f"file:{tmp_path}/d.jsonl", sink=MemorySink())
    assert len(report.failures) == 1
    assert report.failures[0].startswith("MeetingSession: ")
    assert report.views[0].failure == report.failures[0]


def test_wrong_use() -> None:
    for given, said in (
        ({"sources": "tail:x.jsonl", "sink": MemorySink()}, "tail:x.jsonl: expected sources that end, got an unbounded one"),
        ({"sources": [], "sink": MemorySink()}, "--source: expected a source of documents, got none"),
        ({"sources": "ftp:x", "sink": MemorySink()}, "ftp:x: expected the scheme of a source"),
        ({"sources": "sample:", "sink": "ftp:x"}, "ftp:x: expected the scheme of a sink"),
        ({"sources": "sample:", "sink": MemorySink(), "dead_letter": "ftp:x"}, "expected dead letters at jsonl:PATH"),
        ({"sources": "sample:", "sink": MemorySink(), "read_time": "soon"}, "--read_time soon: expected RFC 3339"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            bb.backfill(MeetingSession, **given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--views nowhere: expected a module in"):
        bb.backfill("nowhere", sources="sample:", sink=MemorySink())


def test_a_doubtful_getter_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    from tests.boiler_beam.program.doubtful import Clock

    bb.backfill(Clock, sources="sample:", sink=MemorySink())
    assert ["Clock.now" in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    bb.backfill(MeetingSession, sources="sample:", sink=MemorySink())
    assert caplog.records == []
