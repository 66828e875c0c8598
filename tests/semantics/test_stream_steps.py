"""The steps of a stream on many workers: in whatever order messages come, rows are those of the oracle (S1-S12)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import reference, root, view_property
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from boiler_beam.plan.explain import explain
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary
from boiler_beam.values import decode_fields
from tests.helpers import shop, town
from tests.helpers.executors import told
from tests.helpers.histories import changes
from tests.helpers.network import Network, streamed
from tests.helpers.proofs import prove
from tests.helpers.random_views import view_of, views
from tests.helpers.strategies import histories

PLANS = {"shop": compile_plan(shop.VIEWS), "town": compile_plan(town.VIEWS)}


@pytest.mark.parametrize("world", PLANS)
@given(st.data(), st.one_of(st.none(), st.integers(0, 99).map(random.Random)))
def test_any_order_between_steps_ends_at_the_oracle(
    world: str, data: st.DataObject, order: random.Random | None
) -> None:
    plan = PLANS[world]
    table = data.draw(histories(is_town=world == "town"))
    note(f"table = {table!r}")
    truth, outcome = compute(plan, changes(table)), streamed(plan, changes(table), order)
    assert told(plan, truth.unknown, outcome.rows) == told(plan, truth.unknown, truth.rows)


@given(st.data(), st.one_of(st.none(), st.integers(0, 99).map(random.Random)))
def test_whatever_the_view(data: st.DataObject, order: random.Random | None) -> None:
    plan = compile_plan([data.draw(views())])
    table = data.draw(histories(is_town=True))
    note(explain(plan))
    note(f"table = {table!r}")
    truth, outcome = compute(plan, changes(table)), streamed(plan, changes(table), order)
    assert told(plan, truth.unknown, outcome.rows) == told(plan, truth.unknown, truth.rows)


HOSTS = """
class View(bb.ViewModel, path='out/{id}'):
    class Store(bb.Store):
        e0 = root(Guest)
        e1 = referrers(Room, by='members', of='e0')
        e2 = reference('e1.host', optional=False)
    p_e2 = getter('e2', ('name',))
"""


def test_a_row_follows_what_says_what_it_reads() -> None:
    """A host may arrive before the room that refers to it; it is part of the row only after the room arrived."""
    table = [("guests/1", 1, {"name": "Ann"}), ("rooms/1", 1, {"members": ["guests/1"], "host": "guests/1"})]
    for seed in range(300):
        prove("machines", HOSTS, table, seed)


TWO_WAYS = """
class View(bb.ViewModel, path='out/{id}'):
    class Store(bb.Store):
        e0 = root(Message)
        e1 = document(Board, 'config/board', optional=False)
        e2 = reference('e1.featured', optional=False)
        e3 = referrers(Room, by='members', of='e2', limit=1, only=('topic', 'host'))
    p_e3 = getter('e3', ('topic', 'host'))
"""


def test_a_document_that_two_ways_lead_to_is_whole_until_both_are_gone() -> None:
    """A message that removes one of two paths to a document has no fields; the row keeps them by the other path."""
    table = [
        ("guests/1", 1, {"name": "Ann"}),
        ("guests/2", 1, {"name": "Bo"}),
        ("rooms/1", 1, {"members": ["guests/1", "guests/2"], "host": "guests/2"}),
        ("rooms/1/messages/1", 1, {"author": "guests/1"}),
        ("config/board", 1, {"featured": ["guests/1", "guests/2"]}),
        ("rooms/1", 2, {}),
    ]
    plan = compile_plan([view_of(TWO_WAYS)])
    for order in [None, *map(random.Random, range(30))]:
        assert streamed(plan, changes(table), order).rows == compute(plan, changes(table)).rows


class Moody(bb.ViewModel, collection="moody"):
    class Store(bb.Store):
        room: town.Room = root(town.Room)
        host: town.Guest | None = reference("room.host", optional=True)

    store: Store
    is_angry = False

    @view_property
    def host(self) -> str:
        if self.is_angry:
            raise ValueError("angry")
        return self.store.host.name if self.store.host else ""


def test_s6_a_row_whose_getter_raised_is_tried_again_at_any_change(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(compile_plan([Moody]))
    (view,) = network.views
    given = []
    for is_angry, event in (
        (True, ("rooms/1", 1, {"host": "guests/1"})),
        (True, ("guests/1", 2, {"name": "Ann"})),
        (False, ("guests/1", 3, {"name": "Amy"})),
    ):
        monkeypatch.setattr(Moody, "is_angry", is_angry)
        network.observe(changes([event])[0])
        network.settle()
        view.render()
        given.append([row.fields for row in view.emitted])
    assert given == [[], [], [b'{"host":"Amy"}']]


MEETING = [
    ("locations/l1", 1, {"latitude": 0.0, "longitude": 0.0, "address": "one"}),
    ("locations/l2", 2, {"latitude": 0.0, "longitude": 0.0, "address": "two"}),
    ("meetings/m1", 3, {"location": "locations/l1", "users": [], "tickets": {}, "status": "closed"}),
]


def addresses(network: Network) -> list[str | None]:
    """Returns the emitted versions of the only row, in order."""
    (view,) = network.views
    return [None if row.fields is None else decode_fields(row.fields)["address"] for row in view.emitted]


def test_s8_a_row_waits_until_what_it_wants_is_answered() -> None:
    """For any order of messages the row is never emitted without its location, or with its former location."""
    plan = compile_plan([MeetingSession])
    moved = {**MEETING[2][2], "location": "locations/l2"}  # type: ignore[dict-item]
    for seed in range(50):
        network = Network(plan, random.Random(seed))
        (view,) = network.views
        for change in changes(MEETING):
            network.observe(change)
        while view.bag:
            network.settle(1)
            view.render()
        assert addresses(network) == ["one"]
        network.observe(changes([("meetings/m1", 4, moved)])[0])
        while view.bag:
            network.settle(1)
            view.render()
        assert addresses(network) == ["one", "two"]


def meeting_events() -> st.SearchStrategy[tuple[str, Any]]:
    """Changes of one document of a small meeting room."""
    ids = st.sampled_from(["1", "2"])
    some = st.lists(ids, max_size=2, unique=True)

    def meeting(parts: tuple[str, list[str], list[str], str]) -> Any:
        location, users, tickets, status = parts
        return {
            "location": f"locations/{location}",
            "users": [f"users/{one}" for one in users],
            "tickets": {one: f"tickets/{one}" for one in tickets},
            "status": status,
        }

    status = st.sampled_from(["not-started", "closed"])
    user = st.sampled_from(["Ann", "Bo"]).map(
        lambda name: {"firstName": name, "lastName": "x", "organization": "o", "hearingAidRequested": False}
    )
    ticket = st.tuples(ids, st.booleans()).map(
        lambda parts: {"user": f"users/{parts[0]}", "role": "r", "attendance": parts[1]}
    )
    location = ids.map(lambda one: {"latitude": 0.0, "longitude": 0.0, "address": one})
    gone = st.none()
    return st.one_of(
        st.tuples(st.just("meetings/m"), st.one_of(st.tuples(ids, some, some, status).map(meeting), gone)),
        st.tuples(ids.map(lambda one: f"users/{one}"), st.one_of(user, gone)),
        st.tuples(ids.map(lambda one: f"tickets/{one}"), st.one_of(ticket, gone)),
        st.tuples(ids.map(lambda one: f"locations/{one}"), st.one_of(location, location, gone)),
    )


@given(st.lists(meeting_events(), min_size=8, max_size=20), st.integers(0, 99).map(random.Random))
def test_s8_what_is_given_meanwhile_is_the_row_before_or_after_a_change(
    events: list[tuple[str, Any]], order: random.Random
) -> None:
    """A row with references is rendered at any time, and never emitted while an expected document is in transit."""
    plan = compile_plan([MeetingSession])
    table = [(path, version, fields) for version, (path, fields) in enumerate(events, start=1)]
    note(f"table = {table!r}")
    network = Network(plan, order)
    (view,) = network.views
    before: dict[str, bytes] = {}
    for place, change in enumerate(changes(table), start=1):
        after = compute(plan, changes(table[:place])).rows
        network.observe(change)
        while view.bag:
            network.settle(1)
            view.render()
        for row in view.emitted:
            assert row.fields in (before.get(row.path), after.get(row.path))
        view.emitted.clear()
        before = after


def test_s8_a_missing_document_is_an_answer() -> None:
    network = Network(compile_plan([MeetingSession]), random.Random(1))
    network.observe(changes(MEETING[2:])[0])
    assert network.outcome().rows == {}
    network.observe(changes(MEETING)[0])
    network.outcome()
    assert addresses(network) == ["one"]


def test_s7_a_row_is_as_new_as_what_left_it() -> None:
    network = Network(compile_plan([OrganizationSummary]))
    user = {"firstName": "A", "lastName": "B", "organization": "x", "hearingAidRequested": False}
    for event in (("users/u1", 1, user), ("users/u2", 2, user), ("users/u2", 9, {**user, "organization": "y"})):
        network.observe(changes([event])[0])
        network.settle()
    network.outcome()
    assert {row.path[-1]: row.stamp.version for row in network.views[0].emitted} == {"x": 9, "y": 9}
