"""Rows that follow a stream: after each batch they are the oracle's, and nothing is written that did not change."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import aggregate, group, reference, root, view_property
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.events import Change, DeadLetter, EncodedRow
from boiler_beam.oracle import compute
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.plan.explain import explain
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary
from tests.helpers import shop, town
from tests.helpers.executors import told
from tests.helpers.histories import changes
from tests.helpers.random_views import views
from tests.helpers.strategies import histories

PLANS = {"shop": compile_plan(shop.VIEWS), "town": compile_plan(town.VIEWS)}


class Held:
    """What a sink holds of a stream: the newest stamp for each path stands, and an older one never comes."""

    def __init__(self) -> None:
        self.rows: dict[str, EncodedRow] = {}
        self.stamps: dict[str, Any] = {}
        self.writes = 0
        self.untold: set[str | None] = set()

    def write(self, row: EncodedRow) -> None:
        assert row.path not in self.stamps or row.stamp > self.stamps[row.path]
        before = self.rows.pop(row.path, None)
        is_changed = (before.fields if before is not None else None) != row.fields
        # What stood of a row that could not be told is not known: where it goes, it is deleted.
        assert is_changed or row.path in self.untold, "nothing changed"
        self.stamps[row.path] = row.stamp
        self.writes += 1
        if row.fields is not None:
            self.rows[row.path] = row


def follow(plan: Plan, table: list[Any], sizes: random.Random) -> None:
    """Takes a history in batches, and compares with the oracle after each."""
    held, taken, rest = Held(), 0, changes(table)
    engine = IncrementalEngine(plan, lambda letter: held.untold.add(letter.path))
    while taken < len(rest):
        size = sizes.randint(1, 4)
        for row in engine.take(rest[taken : taken + size]):
            held.write(row)
        taken += size
        truth = compute(plan, rest[:taken])
        rows = {path: row.fields or b"" for path, row in held.rows.items()}
        assert told(plan, truth.unknown, rows) == told(plan, truth.unknown, truth.rows)


@pytest.mark.parametrize("world", PLANS)
@given(st.data(), st.randoms(use_true_random=False))
def test_after_each_batch_rows_are_those_of_the_oracle(world: str, data: st.DataObject, sizes: random.Random) -> None:
    plan = PLANS[world]
    table = data.draw(histories(is_town=world == "town"))
    note(f"table = {table!r}")
    follow(plan, table, sizes)


@given(st.data(), st.randoms(use_true_random=False))
def test_whatever_the_view(data: st.DataObject, sizes: random.Random) -> None:
    plan = compile_plan([data.draw(views())])
    table = data.draw(histories(is_town=True))
    note(explain(plan))
    note(f"table = {table!r}")
    follow(plan, table, sizes)


location = {"latitude": 0.0, "longitude": 0.0, "address": "one"}
meeting = {"location": "locations/l1", "users": [], "tickets": {}, "status": "closed"}


def test_s14_several_changes_of_a_batch_are_one_write_and_none_where_nothing_changed() -> None:
    engine, held = IncrementalEngine(compile_plan([MeetingSession]), lambda letter: None), Held()

    def take(*events: Any) -> int:
        before = held.writes
        for row in engine.take(changes(list(events))):
            held.write(row)
        return held.writes - before

    assert take(("meetings/m1", 1, meeting)) == 0
    assert take(("locations/l1", 2, location), ("locations/l1", 3, {**location, "address": "two"})) == 1
    assert take(("locations/l1", 4, {**location, "address": "two", "more": 1})) == 0
    assert take(("locations/l1", 3, location)) == 0
    assert take(("meetings/m1", 5, None), ("meetings/m1", 6, meeting)) == 0
    assert take(("meetings/m1", 7, None)) == 1
    assert take(("meetings/m1", 8, meeting)) == 1
    assert [row.stamp for row in held.rows.values()] == [(1, 8, 8)]


def test_s1_the_time_of_a_deletion_raises_stamps_and_orders_nothing() -> None:
    engine, held = IncrementalEngine(compile_plan([MeetingSession]), lambda letter: None), Held()
    for event in (
        *changes([("meetings/m1", 1, meeting), ("locations/l1", 2, location)]),
        Change("locations/l1", 2, msgspec.Raw(b"null"), event_time=50),
        *changes([("locations/l1", 3, location), ("users/u1", 4, {})]),
    ):
        for row in engine.take([event]):
            held.write(row)
    assert [(row.stamp.version, row.fields is None) for row in held.rows.values()] == [(50, False)]


class Versions(bb.ViewModel, collection="versions"):
    class Store(bb.Store):
        room: town.Room = root(town.Room)
        host: town.Guest | None = reference("room.host", optional=True)
        members: dict[str, town.Guest] = reference("room.members", order_by="name", limit=1)

    store: Store

    @view_property
    def versions(self) -> list[int]:
        documents = [self.store.room, self.store.host, *self.store.members.values()]
        return [one.version for one in documents if one is not None]


def test_documents_have_their_own_versions_and_not_those_of_what_brought_them() -> None:
    room = {"host": "guests/1", "members": ["guests/2"]}
    table = [("guests/1", 1, {"name": "a"}), ("guests/2", 2, {"name": "b"}), ("rooms/1", 9, room)]
    (row,) = IncrementalEngine(compile_plan([Versions]), lambda letter: None).take(changes(table))
    assert row.fields == b'{"versions":[9,1,2]}'


def test_a_row_that_nothing_makes_keeps_nothing() -> None:
    engine = IncrementalEngine(compile_plan([OrganizationSummary]), lambda letter: None)
    user = {"firstName": "A", "lastName": "B", "organization": "o"}
    table = [("users/u1", 1, user), ("users/u1", 2, {**user, "organization": "p"})]
    rows = [[row.fields is not None for row in engine.take([change])] for change in changes(table)]
    assert rows == [[True], [False, True]]
    record = engine.views[0].rows.records["o"]
    assert (record.members, record.key, record.accumulators) == (0, None, None)


class Moody(bb.ViewModel, collection="moody"):
    class Store(bb.Store):
        room: town.Room = root(town.Room)
        host: town.Guest | None = reference("room.host", optional=True)
        members: dict[str, town.Guest] = reference("room.members")

    store: Store
    is_angry = False

    @view_property
    def _mood(self) -> str:
        if self.is_angry:
            raise ValueError("angry")
        return self.store.room.topic

    @view_property
    def host(self) -> str:
        return f"{self._mood} {self.store.host and self.store.host.name}"

    @view_property
    def last(self) -> str:
        return self.store.members.popitem()[0] if self.store.members else ""


ROOM = {"host": "guests/1", "members": ["guests/1", "guests/2"], "topic": "t"}
GUESTS = [("guests/1", 1, {"name": "Ann", "nick": "a"}), ("guests/2", 1, {"name": "Bo", "nick": "a"})]


def test_s6_a_row_whose_getter_raised_is_tried_again_at_any_change(monkeypatch: pytest.MonkeyPatch) -> None:
    letters: list[DeadLetter] = []
    engine = IncrementalEngine(compile_plan([Moody]), letters.append)
    monkeypatch.setattr(Moody, "is_angry", True)
    assert not list(engine.take(changes([*GUESTS, ("rooms/1", 2, ROOM)])))
    assert [letter.code for letter in letters] == ["getter_raised"]
    monkeypatch.setattr(Moody, "is_angry", False)
    (row,) = engine.take(changes([("guests/1", 3, {"name": "Amy"})]))
    assert row.fields == b'{"host":"t Amy","last":"2"}'


def test_a_getter_may_do_with_what_it_reads_as_it_likes() -> None:
    engine = IncrementalEngine(compile_plan([Moody]), pytest.fail)
    list(engine.take(changes([*GUESTS, ("rooms/1", 2, ROOM)])))
    (row,) = engine.take(changes([("guests/1", 3, {"name": "Amy"})]))
    assert row.fields == b'{"host":"t Amy","last":"2"}'


def test_s7_a_contested_row_is_as_new_as_what_left_it() -> None:
    engine = IncrementalEngine(compile_plan([town.Profile]), lambda letter: None)
    (first,) = engine.take(changes(GUESTS))
    gone, older = ("guests/1", 9, None), ("rooms/1", 5, {"members": ["guests/2"]})
    (row,) = engine.take(changes([gone, older]))
    assert (first.path, first.stamp.version, row.path, row.stamp.version) == (row.path, 1, first.path, 9)


def test_s16_a_touch_gives_a_contested_row_again() -> None:
    engine = IncrementalEngine(compile_plan([town.Profile]), lambda letter: None)
    (first,) = engine.take(changes(GUESTS))
    rows = engine.views[0].rows
    rows.touch(first.path, 9, is_held_back=False)
    (again,) = rows.take_dirty()
    assert (again.path, again.fields, again.stamp.version) == (first.path, first.fields, 9)
    assert not list(rows.take_dirty())


class Name(bb.DomainModel, collection="guests"):
    name: str


class NameCard(bb.ViewModel, collection="name_cards"):
    class Store(bb.Store):
        guest: Name = root(Name)

    store: Store

    @view_property
    def name(self) -> str:
        return self.store.guest.name


def test_a_document_that_two_models_read_is_counted_once() -> None:
    engine = IncrementalEngine(compile_plan([NameCard, town.Profile]), lambda letter: None)
    for batch, number in ((GUESTS, 2), ([("guests/1", 2, None)], 1)):
        engine.observe(changes(batch))
        known = engine.new_documents()
        assert known == (2 if batch is GUESTS else -1)
        engine.end_batch()
        assert engine.number_of_documents == number


class Hall(bb.ViewModel, path="rooms/{room}/halls/{id}"):
    class Store(bb.Store):
        message: town.Message = root(town.Message)
        room: town.Room | None = reference("message.room", optional=True)
        members: dict[str, town.Guest] = reference("room.members")

    store: Store

    @view_property
    def names(self) -> list[str]:
        return [guest.name for guest in self.store.members.values()]


class QuietHall(Hall, path="rooms/{room}/quiet/{id}"):
    class Store(bb.Store):
        message: town.Message = root(town.Message)
        room: town.Room | None = reference("message.room", optional=True)
        members: dict[str, town.Guest] = reference("room.members", where=lambda guest: guest.name != "boom")

    store: Store


@pytest.mark.parametrize(("view", "boom"), [(Hall, b'"boom",'), (QuietHall, b"")])
def test_what_getters_read_is_brought_up_to_date(view: type[bb.ViewModel], boom: bytes) -> None:
    """Kept from one rendering to the next: in a new order, hidden, shown again, or another document."""
    room = {"members": ["guests/1", "guests/2"]}
    engine = IncrementalEngine(compile_plan([view]), pytest.fail)
    list(engine.take(changes([*GUESTS, ("rooms/1", 1, room), ("rooms/1/messages/1", 1, {"author": "guests/1"})])))
    names = []
    for event in (
        ("guests/1", 2, {"name": "Amy"}),
        ("rooms/1", 3, {"members": ["guests/2", "guests/1"]}),
        ("guests/2", 4, {"name": "boom"}),
        ("guests/2", 5, {"name": "Bob"}),
        ("rooms/1", 6, {"members": ["guests/1"]}),
        ("guests/1", 7, None),
    ):
        (row,) = engine.take(changes([event]))
        names.append(row.fields)
    assert names == [
        b'{"names":["Amy","Bo"]}',
        b'{"names":["Bo","Amy"]}',
        b'{"names":[' + boom + b'"Amy"]}',
        b'{"names":["Bob","Amy"]}',
        b'{"names":["Amy"]}',
        b'{"names":[]}',
    ]


def test_s14_a_row_that_the_sink_refused_stands_only_where_one_stood_before() -> None:
    """Of a view whose rows may want one path; others are seen by command line."""
    engine = IncrementalEngine(compile_plan([town.Profile]), lambda letter: None)
    (first,) = engine.take(changes(GUESTS))
    rows = engine.views[0].rows
    assert (rows.rows_added, rows.refused_by_sink(first.path), rows.refused_by_sink(first.path)) == (1, 1, 0)
    rows.rows_added = 0
    (again,) = engine.take(changes([("rooms/1", 2, ROOM)]))
    assert (again.path, rows.rows_added) == (first.path, 1)
    (third,) = engine.take(changes([("rooms/1", 3, {**ROOM, "topic": "u"})]))
    assert (third.path, rows.rows_added, rows.refused_by_sink(first.path)) == (first.path, 1, 0)


ANSWERS = iter(range(1, 1_000))


class Moods(bb.ViewModel, collection="moods"):
    class Store(bb.Store):
        guests: dict[str, town.Guest] = group(town.Guest, by="nick", where=lambda guest: next(ANSWERS) < 500)

    store: Store
    total = aggregate.sum("guests", of=lambda guest: next(ANSWERS))


def test_s10_what_a_function_answered_is_what_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it gives another answer when it is asked again, or raises."""
    engine = IncrementalEngine(compile_plan([Moods]), pytest.fail)
    (first,) = engine.take(changes([("guests/1", 1, {"name": "Ann", "nick": "a"}), ("guests/2", 1, {"name": "Bo", "nick": "a"})]))  # fmt: skip
    (second,) = engine.take(changes([("guests/1", 2, None)]))
    assert first.fields != second.fields
    monkeypatch.setattr(__name__ + ".ANSWERS", iter(()))  # whoever asks again gets an exception
    (third,) = engine.take(changes([("guests/2", 3, None)]))
    assert third.fields is None
    monkeypatch.setattr(__name__ + ".ANSWERS", iter([0, 7]))
    (fourth,) = engine.take(changes([("guests/3", 4, {"name": "Cy", "nick": "a"})]))
    assert fourth.fields == b'{"total":7}'


def test_s6_a_row_that_was_never_known_is_deleted_when_its_root_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of an earlier generation may be in the sink."""
    engine = IncrementalEngine(compile_plan([Moody]), lambda letter: None)
    monkeypatch.setattr(Moody, "is_angry", True)
    assert not list(engine.take(changes([*GUESTS, ("rooms/1", 2, ROOM)])))
    (row,) = engine.take(changes([("rooms/1", 3, None)]))
    assert (row.path, row.fields) == ("moody/1", None)
