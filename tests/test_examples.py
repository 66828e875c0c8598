"""The applications in `examples/`: every executor computes the rows that their pages show."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boiler_beam import ViewModel
from boiler_beam.events import Change
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from tests.helpers import programs

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["chat_inbox", "shop_orders", "ride_sharing", "school_timetable", "social_feed", "tenant_directory"]

FACTS: dict[str, dict[str, dict[str, Any]]] = {
    "chat_inbox": {
        "users/ada/inbox/c1": {"title": "Hiking", "unread": "2", "lastMessage": "Ben Larsen: Ten minutes."},
        "users/chi/inbox/c1": {"unread": "0"},
        "users/ben/inbox/c1": {"isMuted": True, "unread": "2", "_viewers": ["ben"]},
        "users/ada/inbox/c2": {"title": "Ben Larsen", "unread": "20+"},
        "users/ben/inbox/c2": {"title": "Ada Okafor", "unread": "0"},
    },
    "shop_orders": {
        "order_pages/o1": {"customer": "Ann Gray", "totalCents": (4 * 4900 + 3500) * 5 // 4, "isComplete": False},
        "order_pages/o2": {"isComplete": True},
        "order_pages/o3": {"lines": [{"title": "Atlas", "seller": "Elm Books", "number": 2, "cents": 7000}]},
        "sellers/oak/days/2026-03-02": {"numOrders": 2, "toSend": ["4 to Ann Gray, Oslo"]},
        "sellers/elm/days/2026-03-02": {"numOrders": 1, "toSend": ["1 to Ann Gray, Oslo"]},
        "sellers/elm/days/2026-03-03": {"toSend": ["3 to Bo Lind, Lund"]},
    },
    "ride_sharing": {
        "ride_pages/x1": {"headline": "Lea drives Ida in AB 123", "_viewers": ["d1", "r1", "role:dispatcher@cities/Oslo"]},
        "ride_pages/x4": {"headline": "Ida waits", "status": "requested"},
        "driver_boards/d1": {"numRides": 2, "earnedCents": 20050, "stars": 4.3, "driving": "Kim"},
        "driver_boards/d2": {"numRides": 0, "earnedCents": 0, "stars": None, "driving": None},
        "waiting/Lund": {"riders": ["Jon", "Ida"], "longestSince": {"timestampValue": "2026-03-01T10:01:00Z"}},
    },
    "school_timetable": {
        "pupil_timetables/p1": {"title": "Noa, 5a", "_viewers": ["g1", "g2", "p1", "role:teacher@classes/5a"]},
        "teacher_days/teachers%2Ft1,1": {"periods": ["1: Mathematics with 5a", "3: Mathematics with 6b"], "rooms": 1},
    },
    "social_feed": {
        "users/bo/feed/p1": {"comments": ["Ann: The north one.", "Cy: Which one?"], "numLikes": 2, "doILikeIt": True},
        "users/cy/feed/p1": {"doILikeIt": False, "_viewers": ["cy"], "_editors": ["ann"]},
        "users/cy/feed/p2": {"_viewers": ["signed in"], "doILikeIt": True},
        "handles/bo/profile/main": {"name": "Bo", "numFollowers": 1, "latest": ["Rain."]},
    },
    "tenant_directory": {
        "tenants/acme/directory/p1": {"reports": ["Kai Abel", "Lou Moss", "Juno Park"], "manager": None},
        "tenants/acme/directory/p3": {"mail": "kai.abel@acme.example", "manager": "Ines Vale"},
        "tenants/acme/department_pages/dev": {"numPeople": 3, "longest": ["Ines Vale", "Juno Park"]},
        "tenants/blue/department_pages/dev": {"name": "Engineering", "numPeople": 1},
    },
}  # fmt: skip


MODULES = [f"examples.{name}" for name in [*NAMES, "flights"]] + [
    f"boiler_beam.samples.{n}" for n in ("cities", "meeting")
]


@pytest.mark.parametrize("name", MODULES)
def test_fields_that_may_be_null_may_be_missing(name: str) -> None:
    """Examples write `= None` on optional fields, because users copy them."""
    module = importlib.import_module(name)
    views = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, ViewModel)]
    plan = compile_plan([one for one in views if one.__module__ == name])
    assert [note for document_type in plan.document_types for note in document_type.notes()] == []


def rows_of(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Returns the rows that the program writes for an example."""
    sink = folder / f"{name}{len(arguments)}.jsonl"
    command = [
        sys.executable, "-m", "pipelines.main", "--views", f"examples.{name}", "--source", f"file:examples/{name}.jsonl",
        "--sink", f"jsonl:{sink}", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = programs.run(command, ROOT, environment)
    assert done.returncode == 0, done.stderr
    return {line["path"]: line["fields"] for line in map(json.loads, sink.read_text().splitlines())}


@pytest.mark.parametrize("name", NAMES)
def test_rows_hold_what_the_screens_need(name: str, tmp_path: Path) -> None:
    rows = rows_of(name, tmp_path)
    for path, fields in FACTS[name].items():
        assert fields.items() <= rows[path].items(), path
    _, *shown = json_blocks(name)
    assert shown
    for path, fields in (item for block in shown for item in block.items()):
        assert rows[path] == fields


def json_blocks(name: str) -> list[dict[str, Any]]:
    """The documents of one row, this row, and other rows, as the page of an example shows them."""
    page = (ROOT / f"docs/examples/{name}.md").read_text()
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)]


@pytest.mark.parametrize("name", NAMES)
def test_the_documents_on_the_page_give_the_row_beside_them(name: str) -> None:
    """They are documents of the sample, all that the row is made of, and no more."""
    documents, row, *_ = json_blocks(name)
    (view,) = re.findall(r"^:pyobject: (\w+)", (ROOT / f"docs/examples/{name}.md").read_text(), re.MULTILINE)
    plan = compile_plan([getattr(importlib.import_module(f"examples.{name}"), view)])
    sample = [json.loads(line) for line in (ROOT / f"examples/{name}.jsonl").read_text().splitlines()]
    assert documents.items() <= {line["path"]: line["fields"] for line in sample}.items()

    def computed(shown: dict[str, Any]) -> dict[str, Any]:
        changes = [
            Change(path, version, msgspec.Raw(msgspec.json.encode(fields)))
            for version, (path, fields) in enumerate(shown.items(), start=1)
        ]
        return {path: json.loads(fields) for path, fields in compute(plan, changes).rows.items()}

    assert row.items() <= computed(documents).items()
    for path in documents:
        fewer = computed({one: fields for one, fields in documents.items() if one != path})
        assert not row.items() <= fewer.items(), f"the row is the same without {path}"


@pytest.mark.beam
@pytest.mark.parametrize("name", NAMES)
def test_beam_writes_equal_rows(name: str, tmp_path: Path) -> None:
    assert rows_of(name, tmp_path, "--runner", "DirectRunner") == rows_of(name, tmp_path)


def test_a_timetable_shows_what_is_changed_today(tmp_path: Path) -> None:
    slots = rows_of("school_timetable", tmp_path)["pupil_timetables/p1"]["slots"]
    assert [(slot["subject"], slot["teacher"], slot["isChanged"]) for slot in slots] == [
        ("Mathematics", "Ms Abe", True), ("History", "cancelled", True), ("Physics", "Ms Wu", False),
    ]  # fmt: skip


def test_of_two_users_with_one_handle_the_other_is_a_dead_letter(tmp_path: Path) -> None:
    rows_of("social_feed", tmp_path)
    (letter,) = map(json.loads, (tmp_path / "social_feed0.jsonl.dead_letters.jsonl").read_text().splitlines())
    assert (letter["code"], letter["path"]) == ("contested_path", "handles/bo/profile/main")
