"""`check`: what is wrong in documents, counted by kind, each with an example."""

from __future__ import annotations

from typing import Any

from boiler_beam.events import DeadLetter
from boiler_beam.inspection.check import Checked, check
from boiler_beam.plan import compile_plan
from boiler_beam.samples.cities import CityCard
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary
from tests.helpers.histories import changes

PLAN = compile_plan([MeetingSession, OrganizationSummary, CityCard])
LOCATION = {"latitude": 1, "longitude": 2, "address": "x"}
TABLE: list[Any] = [
    ("locations/l1", 1, LOCATION),
    ("locations/l2", 5, LOCATION),
    ("locations/l2", 3, None),  # older: the document stands
    ("locations/l3", 1, LOCATION),
    ("locations/l3", 2, None),
    ("meetings/m1", 1, {"location": "l1", "users": ["u1", "u2"], "tickets": {}, "status": "closed"}),
    ("meetings/m2", 1, {"location": "l2", "users": [], "tickets": {}, "status": "closed"}),
    ("meetings/m3", 1, {"location": "l3", "users": ["u1"], "tickets": {}, "status": "closed"}),
    ("users/u1", 1, {"firstName": "A", "lastName": "B"}),
    ("users/u3", 1, {"firstName": "A", "lastName": "B"}),
    ("tickets/t1", 1, {"user": "u9", "role": "x", "attendance": True}),
    ("cities/c1", 1, {"obj_type": "Town", "name": "n", "country": "c"}),
    ("others/o1", 1, {}),
]


def told(found: list[Checked]) -> dict[str, list[tuple[str, int, str]]]:
    return {one.collection: [(each.code, each.number, each.example) for each in one.findings.values()] for one in found}


def test_problems_are_counted_with_an_example() -> None:
    torn = DeadLetter(stage="read", code="malformed_line", message="torn", source="file:x:7")
    found = check(PLAN, [*changes(TABLE), torn])
    assert told(found) == {
        "meetings": [
            ("dangling_reference", 1, "meetings/m3 -> locations/l3"),
            ("dangling_reference", 1, "meetings/m1 -> users/u2"),
        ],
        "locations": [],
        "users": [("invalid_document", 2, "users/u1")],
        "tickets": [("dangling_reference", 1, "tickets/t1 -> users/u9")],
        "cities": [("unknown_subclass", 1, "cities/c1")],
        "(unreadable)": [("malformed_line", 1, "file:x:7")],
    }
    assert [(one.documents, one.paths) for one in found] == [(3, 3), (2, 2), (0, 2), (1, 1), (0, 1), (0, 0)]


def test_a_sample_looks_at_the_first_documents_alone() -> None:
    meetings = check(PLAN, changes(TABLE), sample=1)[0]
    assert (meetings.documents, meetings.paths) == (1, 3)
    assert told([meetings]) == {"meetings": [("dangling_reference", 1, "meetings/m1 -> users/u2")]}
