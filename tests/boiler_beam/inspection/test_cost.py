"""What explain says a change writes is what is written."""

from __future__ import annotations

from typing import Any

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, root, view_property
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine import backfill
from boiler_beam.inspection.cost import writes_per_change
from boiler_beam.plan import compile_plan
from boiler_beam.steps.newest import NewestVersions
from tests.helpers.histories import Event, ListSource, changes


class Person(bb.DomainModel, collection="persons"):
    mark: int
    team: str = ""


class Room(bb.DomainModel, collection="rooms"):
    mark: int
    members: list[Ref[Person]]


class Message(bb.DomainModel, collection="rooms/{room}/messages"):
    room: Ref[Room]
    mark: int
    author: Ref[Person]


class Rates(bb.DomainModel, collection="config"):
    mark: int


class Inbox(bb.ViewModel, path="persons/{person}/inbox/{id}"):
    class Store(bb.Store):
        room: Room = root(Room)
        members: dict[str, Person] = reference("room.members")
        last: dict[str, Message] = referrers(Message, by="room", order_by="doc_id", limit=2)
        authors: dict[str, Person] = reference("last.author")
        rates: Rates = document(Rates, "config/rates")

    store: Store

    def paths(self) -> list[dict[str, str]]:
        return [{"person": one} for one in self.store.members]

    @view_property
    def marks(self) -> list[int]:
        store = self.store
        many: list[Any] = [*store.members.values(), *store.last.values(), *store.authors.values()]
        return [store.room.mark, store.rates.mark, *(one.mark for one in many)]


class Team(bb.ViewModel, collection="teams"):
    class Store(bb.Store):
        members: dict[str, Person] = group(Person, by="team")
        rooms: dict[str, Room] = referrers(Room, by="members", of="members")

    store: Store
    persons = aggregate.sum("members", of="mark")
    rooms = aggregate.sum("rooms", of="mark")


TABLE: list[Event] = [
    *((f"persons/{number}", 1, {"mark": 1, "team": f"t{number % 2}"}) for number in range(4)),
    ("rooms/a", 1, {"mark": 1, "members": ["persons/0", "persons/1", "persons/3"]}),
    ("rooms/b", 1, {"mark": 1, "members": ["persons/1"]}),
    *((f"rooms/a/messages/{number}", 1, {"mark": 1, "author": f"persons/{number}"}) for number in range(4)),
    ("config/rates", 1, {"mark": 1}),
]


def test_explain_counts_the_rows_that_a_change_writes() -> None:
    plan = compile_plan([Inbox, Team])
    versions = NewestVersions(plan, lambda letter: None)
    versions.add_all(changes(TABLE))
    told = {path: number for one in writes_per_change(plan, versions) for path, number in one.by_path.items()}
    for path, _, fields in TABLE:
        sink = MemorySink()
        backfill(plan, [ListSource(changes(TABLE))], sink, lambda letter: None)
        later = [*TABLE, (path, 2, {**fields, "mark": 2})]
        report = backfill(plan, [ListSource(changes(later))], sink, lambda letter: None)
        written = sum(view.inserted + view.updated + view.deleted for view in report.views)
        assert written == told.get(path, 0), path
    assert told["persons/1"] == 3 + 1 + 1
    assert "rooms/a/messages/3" not in told
    lines = [str(one) for one in writes_per_change(plan, versions)]
    assert lines == [
        "rooms: 3.5 rows, at most 5 (rooms/a); in Firestore 3.15 to 6.30 USD for a million changes",
        "persons: 3.5 rows, at most 5 (persons/1); in Firestore 3.15 to 6.30 USD for a million changes",
        "rooms/{room}/messages: 1.5 rows, at most 3 (rooms/a/messages/0); in Firestore 1.35 to 2.70 USD for a million changes",
        "config: 4.0 rows, at most 4 (config/rates); in Firestore 3.60 to 7.20 USD for a million changes",
    ]
