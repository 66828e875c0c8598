"""Runs the cookbook's code, and checks what the page says about it."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.plan.impure import warnings_of
from boiler_beam.testing import render
from boiler_beam.values import decode_fields, encode_fields
from tests.helpers.histories import change
from tests.helpers.work import calls_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cookbook.md"
BEGIN = datetime(2026, 5, 4, 18, tzinfo=timezone.utc)
HEAD = """
from collections.abc import Iterator
from datetime import datetime

import boiler_beam as bb
from boiler_beam import Ref, group, referrers, root, view_property
"""
JOB_HEAD = """
from collections.abc import Iterator
from datetime import datetime

from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
"""


def blocks(recipe: str) -> list[str]:
    """Returns the Python code in the answer to a question."""
    (answer,) = re.findall(rf"^\.\.\. {recipe}\?\n(.*?)(?=^\.\.\. |^## )", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [
        re.sub(r"(?m)^  ", "", one)
        for one in re.findall(r"^  ```python\n(.*?)^  ```", answer, re.DOTALL | re.MULTILINE)
    ]


def module_of(name: str, text: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, name, "exec"), vars(module))
    return module


@pytest.fixture(name="upcoming")
def _upcoming() -> Iterator[types.ModuleType]:
    days, card, _ = blocks("show what is upcoming")
    yield module_of("upcoming", HEAD + days + card)
    del sys.modules["upcoming"]


def test_each_member_has_a_copy() -> None:
    (inbox,) = blocks("have a copy for each user")
    entry = module_of("inbox", HEAD + inbox).InboxEntry
    found = render(entry, [{"path": "conversations/c1", "fields": {"title": "Hiking", "members": ["ada", "ben"]}}])
    del sys.modules["inbox"]
    assert found == {f"users/{user}/inbox/c1": {"title": "Hiking"} for user in ("ada", "ben")}


def venue(number: int) -> dict[str, Any]:
    return {"path": f"venues/v{number}", "fields": {"name": f"Venue {number}"}}


def event(number: int, at_venue: int = 1, *, is_over: bool = False) -> dict[str, Any]:
    """Returns an event for each day."""
    starts = BEGIN + timedelta(days=number)
    fields = {
        "venue": f"venues/v{at_venue}",
        "title": f"e{number}",
        "startsAt": starts,
        "endsAt": starts + timedelta(hours=2),
    }
    wire = msgspec.json.decode(encode_fields({**fields, "isOver": is_over}))
    return {"path": f"events/v{at_venue}e{number}", "fields": wire}


def test_a_row_for_each_day(upcoming: types.ModuleType) -> None:
    documents = [event(number, at_venue) for number in range(5) for at_venue in (1, 2)]
    rows = render(upcoming.VenueDay, documents)
    assert len(rows) == 10
    today = (BEGIN + timedelta(days=3)).date().isoformat()
    asked = [row for row in rows.values() if row["venue"] == "venues/v1" and row["day"] >= today]
    assert sorted(asked, key=lambda row: row["day"]) == [
        {"venue": "venues/v1", "day": "2026-05-07", "titles": ["e3"]},
        {"venue": "venues/v1", "day": "2026-05-08", "titles": ["e4"]},
    ]


def test_neither_view_asks_a_clock_or_reads_a_document_that_all_rows_share(upcoming: types.ModuleType) -> None:
    plan = compile_plan([upcoming.VenueDay, upcoming.VenueCard])
    assert warnings_of(plan) == []
    assert {type(edge).__name__ for _, edge in plan.edges()} == {"Group", "Root", "Referrers"}


def test_what_is_over_writes_the_row_that_shows_it(upcoming: types.ModuleType) -> None:
    plan = compile_plan([upcoming.VenueCard])
    given = _taken(plan, 30)
    assert {path: fields["upcoming"] for path, fields in given[0].items()} == {
        "venue_cards/v1": ["e0", "e1", "e2"], "venue_cards/v2": ["e0", "e1", "e2"],
    }  # fmt: skip
    assert given[1:] == [
        {"venue_cards/v1": {"upcoming": ["e1", "e2", "e3"]}},
        {"venue_cards/v1": {"upcoming": ["e2", "e3", "e4"]}},
    ]


def test_the_other_events_are_not_looked_at(upcoming: types.ModuleType) -> None:
    plan = compile_plan([upcoming.VenueCard])
    few, many = (_calls(plan, size) for size in (30, 3000))
    assert many <= few, "work for an event that is over, with 100 times as many events"


def _batches(size: int) -> list[list[Any]]:
    documents = [venue(1), venue(2), *(event(number, at) for number in range(size) for at in (1, 2))]
    nights = [[event(number, is_over=True)] for number in range(2)]
    return [
        [change(one["path"], version, one["fields"]) for one in some]
        for version, some in enumerate([documents, *nights], start=1)
    ]


def _taken(plan: Plan, size: int) -> list[dict[str, Any]]:
    """The rows that are written at the beginning, and after each of two nights."""
    engine = IncrementalEngine(plan, pytest.fail)
    return [{row.path: decode_fields(row.fields or b"{}") for row in engine.take(some)} for some in _batches(size)]


def _calls(plan: Plan, size: int) -> int:
    """How many functions are called in the second of two nights."""
    begin, first, second = _batches(size)
    engine = IncrementalEngine(plan, pytest.fail)
    for batch, rows in ((begin, 2), (first, 1)):
        assert len(list(engine.take(batch))) == rows
    return calls_of(lambda: list(engine.take(second)))


def test_the_job_marks_what_has_ended(firestore_emulator: str, project: str) -> None:
    firestore = pytest.importorskip("google.cloud.firestore")
    *_, job = blocks("show what is upcoming")
    mark_what_is_over = vars(module_of("upcoming_job", JOB_HEAD + job))["mark_what_is_over"]
    db = firestore.Client(project=project)
    for number in range(4):
        starts = BEGIN + timedelta(days=number)
        db.document(f"events/e{number}").set({"isOver": False, "endsAt": starts + timedelta(hours=2)})
    night = BEGIN + timedelta(days=1, hours=6)
    assert mark_what_is_over(db, night) == 2
    assert mark_what_is_over(db, night) == 0, "each once"
    assert [db.document(f"events/e{number}").get().get("isOver") for number in range(4)] == [True, True, False, False]
