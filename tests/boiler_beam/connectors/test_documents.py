"""The source `documents:PATH`: what a transaction commits, a backfill reads and a stream follows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

import boiler_beam as bb
from boiler_beam import Ref
from boiler_beam.connectors import KeyedSource, open_sink, open_source
from boiler_beam.connectors.documents.store import DocumentsStore
from boiler_beam.engine import backfill
from boiler_beam.engine.follow import Settings, follow
from boiler_beam.engine.state import open_state
from boiler_beam.events import Change, Complete, Event
from boiler_beam.plan import compile_plan
from boiler_beam.samples import meeting


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """The documents of the meeting example."""
    found = f"documents:{tmp_path}/app.db"
    changes = [one for one in open_source("sample:").read_all() if isinstance(one, Change)]
    newest = {one.path: one for one in sorted(changes, key=lambda one: one.version)}
    DocumentsStore(found.partition(":")[2]).load(list(newest.values()))
    return found


def until(batches: Iterator[tuple[Sequence[Event], str]], path: str) -> tuple[list[Event], str]:
    """The events up to and with one of a path, and the position after them."""
    found: list[Event] = []
    for events, position in batches:
        found += events
        if any(isinstance(one, Change) and one.path == path for one in events):
            return found, position
    raise AssertionError("a follower does not end")


def until_complete(batches: Iterator[tuple[Sequence[Event], str]]) -> tuple[list[Event], str]:
    found: list[Event] = []
    for events, position in batches:
        found += events
        if any(isinstance(one, Complete) for one in events):
            return found, position
    raise AssertionError("a follower does not end")


def paths(events: Sequence[Event]) -> list[str]:
    return [one.path for one in events if isinstance(one, Change)]


def test_a_backfill_reads_the_documents(uri: str, tmp_path: Path) -> None:
    sinks = [open_sink(f"sqlite:{tmp_path}/{name}.db") for name in ("one", "two")]
    plan = compile_plan([meeting.MeetingSession, meeting.OrganizationSummary])
    for sink, source in zip(sinks, (uri, "sample:"), strict=True):
        assert backfill(plan, [open_source(source)], sink, pytest.fail).rows > 0
    for view in plan.views:
        rows = [{row.path: row.fields for row in sink.current_rows(view.target)} for sink in sinks]
        assert rows[0] == rows[1]


def test_a_row_is_read_from_its_documents(uri: str) -> None:
    source = open_source(uri)
    assert isinstance(source, KeyedSource)
    assert meeting.MeetingSession.get("m1", source=uri) == meeting.MeetingSession.get("m1", source="sample:")
    (org,) = {one.fields and msgspec.json.decode(one.fields)["organization"] for one in source.get(["users/u1"])}
    assert meeting.OrganizationSummary.get(org, source=uri) == meeting.OrganizationSummary.get(org, source="sample:")


def test_a_follower_yields_documents_then_changes_and_resumes(uri: str) -> None:
    follower = open_source(uri).following()
    follower.prepare(["users"])
    batches = follower.follow(None)
    first, position = until_complete(batches)
    assert all(path.startswith("users/") for path in paths(first))
    (complete,) = [one for one in first if isinstance(one, Complete)]
    assert set(paths(first)) == complete.paths
    with bb.transaction(uri) as tx:
        user = tx.get(meeting.User, "u1")
        assert user is not None
        user.first_name = "Other"
        tx.delete(Ref("users/u2"))
        ticket = next(tx.query("tickets", []))
        tx.delete(Ref(ticket.path))  # of a collection that nobody reads here
    found, later = until(batches, "users/u2")
    assert paths(found) == ["users/u1", "users/u2"]
    (changed, deleted) = [one for one in found if isinstance(one, Change)]
    assert (changed.version, deleted.version, deleted.is_deleted) == (
        tx.versions["users/u1"],
        tx.versions["users/u2"],
        True,
    )
    again, _ = until(follower.follow(position), "users/u2")
    assert paths(again) == ["users/u1", "users/u2"]
    assert next(follower.follow(later))[0] == []
    more = open_source(uri).following()
    more.prepare(["users", "locations"])
    found, _ = until_complete(more.follow(later))
    assert {path.partition("/")[0] for path in paths(found)} == {"locations"}


def test_another_file_in_its_place_is_refused(uri: str, tmp_path: Path) -> None:
    follower = open_source(uri).following()
    follower.prepare(["users"])
    _, position = until_complete(follower.follow(None))
    os.unlink(tmp_path / "app.db")
    with pytest.raises(bb.UsageError, match=r"got another one in its place; fix: restore it"):
        next(follower.follow(position))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 1000)
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("CREATE TABLE x (y)")
    database.close()
    for name in ("text", "other.db"):
        with (
            pytest.raises(bb.UsageError, match="expected a file of documents"),
            bb.transaction(f"documents:{tmp_path}/{name}"),
        ):
            pass
    with pytest.raises(bb.UsageError, match="expected a file of documents, got none"):
        open_source(f"documents:{tmp_path}/missing.db").splits()
    with pytest.raises(bb.UsageError, match="write documents:PATH"):
        open_source("documents:")


def test_a_stream_writes_the_rows_that_a_transaction_changes_and_resumes(uri: str, tmp_path: Path) -> None:
    """The stream runs twice with one state; between and during the runs transactions change documents."""
    plan = compile_plan([meeting.MeetingSession])
    sink = open_sink(f"sqlite:{tmp_path}/rows.db")
    attending = [0]

    def rows() -> dict[str, Any]:
        return {row.path: msgspec.json.decode(row.fields or b"null") for row in sink.current_rows(plan.views[0].target)}

    def run(status: str, *, is_first: bool) -> None:
        attending[0] = 0
        state = open_state(f"sqlite:{tmp_path}/state.db")

        def told(report: Any) -> None:
            if attending[0] == 0 and (rows() or not is_first):
                attending[0] = 1
                with bb.transaction(uri) as tx:
                    one = tx.get(meeting.Meeting, "m1")
                    assert one is not None
                    one.status = status  # type: ignore[assignment]

        def is_there() -> bool:
            return attending[0] == 1 and rows()["meeting_sessions/m1"]["inSession"] is (status == "in-session")

        source = open_source(uri).following()
        follow(
            plan, [source], sink, None, state, Settings(0.0, None, "safe", False), should_stop=is_there, on_report=told
        )
        state.close()

    run("closed", is_first=True)
    with bb.transaction(uri) as tx:
        tx.delete(Ref("meetings/m2"))
    run("in-session", is_first=False)
    assert "meeting_sessions/m2" not in rows()
    expected = tmp_path / "expected.db"
    backfill(plan, [open_source(uri)], open_sink(f"sqlite:{expected}"), pytest.fail)
    found = {row.path: row.fields for row in open_sink(f"sqlite:{expected}").current_rows(plan.views[0].target)}
    assert {row.path: row.fields for row in sink.current_rows(plan.views[0].target)} == found
