"""The steps of a stream: in whatever order messages come between them, the rows are those of the oracle (S1, S2, S4, S8, S10)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from boiler_beam.oracle import compute
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.plan.explain import explain
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary
from boiler_beam.steps.stream import Row, RowCell, StreamPlan
from boiler_beam.steps.stream.messages import Shown
from tests.helpers import shop, town
from tests.helpers.histories import changes
from tests.helpers.network import ShuffledNetwork, streamed
from tests.helpers.random_views import views
from tests.helpers.strategies import histories

PLANS = [(compile_plan(shop.VIEWS), False), (compile_plan(town.VIEWS), True)]


@pytest.mark.parametrize(("plan", "is_town"), PLANS, ids=["shop", "town"])
@given(st.data(), st.one_of(st.none(), st.randoms(use_true_random=False)))
def test_any_order_between_steps_ends_at_the_oracle(
    plan: Plan, is_town: bool, data: st.DataObject, order: random.Random | None
) -> None:
    table = data.draw(histories(is_town=is_town))
    note(f"table = {table!r}")
    truth, outcome = compute(plan, changes(table)), streamed(plan, changes(table), order)
    assert outcome.rows == truth.rows
    assert outcome.tainted == truth.unknown


@given(st.data(), st.one_of(st.none(), st.randoms(use_true_random=False)))
def test_whatever_the_view(data: st.DataObject, order: random.Random | None) -> None:
    plan = compile_plan([data.draw(views())])
    table = data.draw(histories(is_town=True))
    note(explain(plan))
    note(f"table = {table!r}")
    truth, outcome = compute(plan, changes(table)), streamed(plan, changes(table), order)
    assert outcome.rows == truth.rows
    assert outcome.tainted == truth.unknown


MEETING = [
    ("locations/l1", 1, {"latitude": 0.0, "longitude": 0.0, "address": "one"}),
    ("locations/l2", 2, {"latitude": 0.0, "longitude": 0.0, "address": "two"}),
    ("meetings/m1", 3, {"location": "locations/l1", "users": [], "tickets": {}, "status": "closed"}),
]


def test_s8_a_row_waits_until_what_it_wants_is_answered() -> None:
    """Whatever the order, the row is never seen without its location, nor with the one that it left."""
    plan = compile_plan([MeetingSession])
    moved = {**MEETING[2][2], "location": "locations/l2"}  # type: ignore[dict-item]
    for seed in range(50):
        network = ShuffledNetwork(plan, random.Random(seed))
        for change in changes(MEETING):
            network.observe(change)
        network.settle()
        assert network.addresses() == ["one"]
        network.observe(changes([("meetings/m1", 4, moved)])[0])
        seen = ["one"]
        while network.bag:
            network.settle(1)
            (cell,) = network.rows.values()
            if not network.row.is_waiting(cell, 0):
                seen += network.addresses() or ["none"]
        assert seen == ["one"] * seen.count("one") + ["two"] * seen.count("two")
        assert seen[-1] == "two"


def test_s8_a_missing_document_is_an_answer() -> None:
    network = ShuffledNetwork(compile_plan([MeetingSession]), random.Random(1))
    network.observe(changes(MEETING[2:])[0])
    network.settle()
    assert network.outcome().rows == {}
    network.observe(changes(MEETING)[0])
    network.settle()
    assert network.addresses() == ["one"]


def test_what_a_row_no_longer_has_says_nothing_of_what_it_has() -> None:
    """Had, lost and had again, in another order: had, had, lost."""
    plan = StreamPlan(compile_plan([MeetingSession]))
    row, cell = Row(plan, lambda letter: None), RowCell()
    for weight, fields in ((1, b"{}"), (1, b"{}"), (-1, None)):
        row.shown(cell, Shown(1, "m1", "locations/l1", weight, 5, fields is not None, fields or b"", [], 5, 5))
    ((_, entry),) = cell.entries[1].items()
    assert (entry.weight, entry.fields) == (1, b"{}")


def test_s7_a_row_is_as_new_as_what_left_it() -> None:
    plan = compile_plan([OrganizationSummary])
    network = ShuffledNetwork(plan)
    user = {"firstName": "A", "lastName": "B", "organization": "x", "hearingAidRequested": False}
    for event in (("users/u1", 1, user), ("users/u2", 2, user), ("users/u2", 9, {**user, "organization": "y"})):
        network.observe(changes([event])[0])
        network.settle()
    assert {row: cell.version for (_, row), cell in network.rows.items()} == {"x": 9, "y": 9}


def test_cost_follows_the_change() -> None:
    """Messages for a change of one ticket, with 3 and with 300 others in its organization."""
    plan = compile_plan([OrganizationSummary])
    counts = []
    for others in (3, 300):
        network = ShuffledNetwork(plan)
        user = {"firstName": "A", "lastName": "B", "organization": "x", "hearingAidRequested": False}
        table = [(f"users/u{number}", 1, user) for number in range(others)]
        table += [
            (f"tickets/t{number}", 1, {"user": f"users/u{number}", "role": "r", "attendance": True})
            for number in range(others)
        ]
        for change in changes(table):
            network.observe(change)
        network.settle()
        network.number_of_messages = 0
        network.observe(changes([("tickets/t1", 2, {"user": "users/u1", "role": "r", "attendance": False})])[0])
        network.settle()
        counts.append(network.number_of_messages)
    assert counts == [2, 2]  # the ticket lies at its user; the organization's count goes down
