"""Setters and `new` of views, on both stores: what they write, who may, and what is refused with a clear error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, referrers, root, view_property
from boiler_beam.connectors import DocumentStore
from boiler_beam.events import EncodedRow, Stamp, View
from boiler_beam.plan import compile_plan
from boiler_beam.values import encode_fields
from boiler_beam.writing import Writer, Written, apply_update


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Seat(bb.Struct):
    row_number: int
    label: str = ""


class Person(bb.DomainModel, collection="people"):
    first_name: str
    team: str = "t1"
    born_at: datetime | None = None
    boss: Ref[Person] | None = None
    seat: Seat | None = None
    color: Color = Color.RED


class Visit(bb.DomainModel, collection="visits"):
    person: Ref[Person]
    attends: bool = False


class Profile(bb.ViewModel, collection="profiles"):
    class Store(bb.Store):
        person: Person = root(Person)
        boss: Person | None = reference("person.boss", optional=True, only=("first_name",))
        visits: dict[str, Visit] = referrers(Visit, by="person")

    store: Store

    num_visits = aggregate.count("visits")

    def editors(self) -> Iterator[str]:
        yield self.store.person.doc_id
        yield bb.role("admin", of=Ref("teams/t1"))

    @view_property
    def name(self) -> str:
        return self.store.person.first_name

    @name.setter
    def name(self, value: str) -> None:
        if not value:
            raise bb.Rejected("a name has letters")
        self.store.person.first_name = value

    @view_property
    def shout(self) -> str:
        return self.name.upper()

    @view_property
    def attends_all(self) -> bool:
        return all(visit.attends for visit in self.store.visits.values())

    @attends_all.setter
    def attends_all(self, value: bool) -> None:
        for visit in self.store.visits.values():
            visit.attends = value

    @view_property
    def boss_name(self) -> str | None:
        return self.store.boss.first_name if self.store.boss is not None else None

    @boss_name.setter
    def boss_name(self, value: str) -> None:
        assert self.store.boss is not None
        self.store.boss.first_name = value
        self.name = f"{self.name} of {value}"  # another property's setter
        self.name = f"{self.name}, {self.num_visits} visits"

    @view_property
    def boss_ref(self) -> Ref[Person] | None:
        return self.store.person.boss

    @boss_ref.setter
    def boss_ref(self, value: Ref[Person] | None) -> None:
        self.store.person.boss = value

    @view_property
    def born_at(self) -> datetime | None:
        return self.store.person.born_at

    @born_at.setter
    def born_at(self, value: datetime) -> None:
        self.store.person.born_at = value

    @view_property
    def seat(self) -> Seat | None:
        return self.store.person.seat

    @seat.setter
    def seat(self, value: Seat) -> None:
        if value.row_number > 9:
            raise ValueError("there are nine rows")
        self.store.person.seat = value

    @view_property
    def color(self) -> Color:
        return self.store.person.color

    @color.setter
    def color(self, value: Color) -> None:
        self.store.person.color = value

    @view_property
    def broken(self) -> int:
        return 1

    @broken.setter
    def broken(self, value: int) -> None:
        self.store.person.first_name = {}["missing"]

    @classmethod
    def new(cls, tx: bb.Transaction, *, name: str, boss_ref: Ref[Person] | None = None) -> Person:
        person = tx.create(Person(first_name=name, boss=boss_ref), name.lower() or None)
        tx.create(Visit(person=Ref(person.path)))
        return person


class Team(bb.ViewModel, collection="teams"):
    class Store(bb.Store):
        members: dict[str, Person] = group(Person, by="team")

    store: Store

    @view_property
    def names(self) -> list[str]:
        return sorted(one.first_name for one in self.store.members.values())

    @names.setter
    def names(self, value: list[str]) -> None:
        for one, name in zip(self.store.members.values(), value, strict=True):
            one.first_name = f"{name} of {self.key}"


class Somebody(NamedTuple):
    principals: frozenset[str]


@pytest.fixture
def writer(store: DocumentStore) -> Writer:
    with bb.transaction(store) as tx:
        tx.create(Person(first_name="Ann", boss=Ref("people/bob")), "ann")
        tx.create(Person(first_name="Bob", team="t2"), "bob")
        for name in ("v1", "v2"):
            tx.create(Visit(person=Ref("people/ann")), name)
    return Writer([Profile, Team], store)


def get(writer: Writer, model: Any, name: str) -> Any:
    with bb.transaction(writer.store) as tx:
        return tx.get(model, name)


def refused(call: Any, *given: Any, **options: Any) -> bb.WriteRefused:
    with pytest.raises(bb.WriteRefused) as found:
        call(*given, **options)
    return found.value


def test_setters_write_the_documents_that_they_change(writer: Writer) -> None:
    written = writer.update("Profile", "ann", {"attendsAll": True, "name": "Anna"})
    assert isinstance(written, Written)
    assert (written.id, sorted(written.versions)) == ("ann", ["people/ann", "visits/v1", "visits/v2"])
    assert get(writer, Visit, "v1").attends
    assert get(writer, Person, "ann").version == written.versions["people/ann"]
    written = writer.update("Profile", "ann", {"boss_name": "Rob"})  # by attribute; over an edge with only=
    assert sorted(written.versions) == ["people/ann", "people/bob"]
    assert get(writer, Person, "ann").first_name == "Anna of Rob, 2 visits"
    assert writer.update("Profile", "ann", {"name": "Anna of Rob, 2 visits"}).versions == {}


def test_values_have_the_declared_types(writer: Writer) -> None:
    moment = datetime(2026, 1, 2, tzinfo=timezone.utc)
    writer.update(
        "Profile",
        "ann",
        {"bornAt": "2026-01-02T00:00:00Z", "seat": {"rowNumber": 3}, "color": "blue", "bossRef": "bob"},
    )
    ann = get(writer, Person, "ann")
    assert (ann.born_at, ann.seat.row_number, ann.color, ann.boss) == (moment, 3, Color.BLUE, Ref("people/bob"))
    writer.update("Profile", "ann", {
        "bornAt": {"timestampValue": "2026-01-03T00:00:00Z"}, "bossRef": {"referenceValue": "people/ann"}, "seat": Seat(4),
    })  # fmt: skip
    ann = get(writer, Person, "ann")
    assert (ann.born_at, ann.boss, ann.seat.row_number) == (moment.replace(day=3), Ref("people/ann"), 4)
    writer.update("Profile", "ann", {"seat": {"rowNumber": 5.0}})  # an integral double is an int, as in documents
    assert get(writer, Person, "ann").seat.row_number == 5
    writer.update("Profile", "ann", {"bossRef": None})
    assert get(writer, Person, "ann").boss is None


@pytest.mark.parametrize(
    ("fields", "code", "field", "text"),
    [
        ({"shout": "X"}, "not_writable", "shout", r"Profile.shout: expected a property with a setter.*set one of: name, attendsAll"),
        ({"numVisits": 1}, "not_writable", "numVisits", "expected a property with a setter"),
        ({"nonsense": 1}, "unknown_field", "nonsense", "expected a property of the view"),
        ({"name": 7}, "invalid_value", "name", r"Profile.name: Expected `str`, got `int`"),
        ({"seat": {"rowNumber": "x"}}, "invalid_value", "seat", r"Expected `int`, got `str` - at `\$.rowNumber`"),
        ({"color": "green"}, "invalid_value", "color", "Profile.color: Invalid enum value"),
        ({"bossRef": "teams/t1"}, "invalid_value", "bossRef", "expected a reference into 'people'"),
        ({"bornAt": "yesterday"}, "invalid_value", "bornAt", "RFC3339"),
        ({"name": "X", "seat": {"rowNumber": 10}}, "rejected", "seat", "there are nine rows"),
        ({"name": ""}, "rejected", "name", "a name has letters"),
    ],
)  # fmt: skip
def test_a_value_that_is_refused_writes_nothing(writer: Writer, fields: Any, code: str, field: str, text: str) -> None:
    error = refused(writer.update, "Profile", "ann", fields)
    assert (error.code, error.field) == (code, field)
    with pytest.raises(bb.WriteRefused, match=text):
        raise error
    assert get(writer, Person, "ann").first_name == "Ann"


def test_a_setter_that_is_broken_is_said_with_its_place(writer: Writer) -> None:
    with pytest.raises(bb.BoilerBeamError, match=r"Profile.broken raised KeyError.*test_writer.py:\d+"):
        writer.update("Profile", "ann", {"broken": 1})
    assert refused(writer.update, "Profile", "nobody", {"name": "X"}).code == "not_found"
    assert refused(writer.update, "Nonsense", "ann", {"name": "X"}).code == "not_found"


def test_editors_decide_who_may_write(writer: Writer) -> None:
    for user in ("ann", Somebody(frozenset({"carl", "anyone", "role:admin@teams/t1"}))):
        writer.update("Profile", "ann", {"name": "Anna"}, user=user)
    for somebody in (
        "bob",
        Somebody(frozenset({"anyone"})),
        Somebody(frozenset({"x", "signed in", "anyone", "role:admin@teams/t2"})),
    ):
        error = refused(writer.update, "Profile", "ann", {"name": "Evil"}, user=somebody)
        missing = refused(writer.update, "Profile", "nobody", {"name": "Evil"}, user=somebody)
        assert (error.code, error.status, str(error)) == ("forbidden", 403, str(missing))  # no hint that the row exists
    assert refused(writer.update, "Team", "t1", {"names": ["X"]}, user="ann").code == "forbidden"  # no editors()
    assert get(writer, Person, "ann").first_name == "Anna"


def test_only_the_row_that_was_seen_is_changed(writer: Writer) -> None:
    version = get(writer, Person, "ann").version
    newest = max(version, get(writer, Visit, "v1").version)
    writer.update("Profile", "ann", {"name": "Anna"}, Stamp(1, newest, 0))
    error = refused(writer.update, "Profile", "ann", {"name": "Later"}, if_match=Stamp(1, newest, 0))
    assert (error.code, error.status) == ("stale", 412)
    fields = msgspec.json.encode({"x": 1})
    seen: dict[str, EncodedRow] = {"profiles/ann": EncodedRow("profiles/ann", Stamp(1, 5, 0), fields)}

    def rows(view: View, path: str) -> EncodedRow | None:
        return seen.get(path)

    exact = Writer([Profile], writer.store, rows)
    for stamp in (Stamp(1, 4, 0), Stamp(1, 5, 0)):  # another stamp; the row is not yet what the documents make
        assert refused(exact.update, "Profile", "ann", {"name": "Later"}, stamp).code == "stale"
    source = writer.store.uri
    now = Profile.get("ann", source=source)
    seen["profiles/ann"] = EncodedRow("profiles/ann", Stamp(1, 5, 0), encode_fields(now or {}))
    exact.update("Profile", "ann", {"name": "Later"}, Stamp(1, 5, 0))
    assert get(writer, Person, "ann").first_name == "Later"


def test_new_creates_the_documents_of_a_row(writer: Writer) -> None:
    written = writer.create("Profile", {"name": "Carl", "bossRef": "bob"})
    assert written.id == "carl"
    assert get(writer, Person, "carl").boss == Ref("people/bob")
    assert "people/carl" in written.versions
    assert len(written.versions) == 2
    assert writer.create("Profile", {"name": "Dora"}, user="dora").id == "dora"
    for fields, code, field in (
        ({}, "invalid_value", "name"),
        ({"name": 1}, "invalid_value", "name"),
        ({"name": "E", "x": 1}, "unknown_field", "x"),
        ({"name": "Ann"}, "exists", None),
    ):
        error = refused(writer.create, "Profile", fields)
        assert (error.code, error.field) == (code, field)
    assert refused(writer.create, "Profile", {"name": "Eve"}, user="ann").code == "forbidden"
    assert get(writer, Person, "eve") is None
    error = refused(writer.create, "Team", {})
    assert (error.code, error.status) == ("not_creatable", 405)


def test_the_row_of_a_group_is_set(writer: Writer) -> None:
    writer.update("Team", "t1", {"names": ["Anna"]})
    assert get(writer, Person, "ann").first_name == "Anna of t1"
    assert refused(writer.update, "Team", "t9", {"names": []}).code == "not_found"


def test_a_row_can_be_named_by_its_path(writer: Writer) -> None:
    assert writer.update("Profile", "profiles/ann", {"name": "Anna"}).id == "ann"
    assert apply_update(Profile, "ann", {"name": "Annabel"}, writer.store).versions.keys() == {"people/ann"}


def test_concurrent_updates_of_one_row_are_all_made(writer: Writer) -> None:
    errors: list[BaseException] = []

    def work(name: str, value: Any) -> None:
        try:
            writer.update("Profile", "ann", {name: value})
        except BaseException as error:
            errors.append(error)

    values = {"attendsAll": True, "name": "Anna", "color": "blue", "bornAt": "2026-01-02T00:00:00Z"}
    threads = [threading.Thread(target=work, args=one) for one in values.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    ann = get(writer, Person, "ann")
    assert (ann.first_name, ann.color, ann.born_at is not None, get(writer, Visit, "v2").attends) == (
        "Anna",
        Color.BLUE,
        True,
        True,
    )


def test_rows_are_no_store(tmp_path: Any) -> None:
    with pytest.raises(
        bb.UsageError, match="expected a store of documents, got rows, which are computed and read-only"
    ):
        Writer([Profile], f"sqlite:{tmp_path}/rows.db")


def test_new_does_not_change_the_fingerprint() -> None:
    class Base(bb.ViewModel, collection="profiles"):
        class Store(bb.Store):
            person: Person = root(Person)

        store: Store

        @view_property
        def name(self) -> str:
            return self.store.person.first_name

    before = compile_plan([Base]).views[0].fingerprint
    Base.new = classmethod(lambda cls, tx: tx.create(Person(first_name="New")))  # type: ignore[attr-defined]
    assert compile_plan([Base]).views[0].fingerprint == before
