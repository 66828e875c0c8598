"""One row by key: what it reads, and that it equals the oracle's, over random views and documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, root, view_property
from boiler_beam.connectors.base import KeyedSource
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.testing import render
from boiler_beam.values import Ref as Reference
from boiler_beam.values import decode_fields, encode_fields
from tests.helpers.histories import ListSource, changes


class Known(KeyedSource):
    """Finds documents that are here by key, and counts what it gives."""

    scheme: ClassVar[str] = "known"

    def __init__(self, documents: dict[str, dict[str, Any]]) -> None:
        super().__init__("")
        raws = {path: msgspec.Raw(encode_fields(fields)) for path, fields in documents.items()}
        self.changes = {path: Change(path, 1, raw) for path, raw in raws.items()}
        self.calls: list[str] = []
        self.given = 0

    def splits(self) -> Sequence[str]:
        raise AssertionError("it is never read whole")

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        raise AssertionError("it is never read whole")

    def get(self, paths: Sequence[str]) -> Iterator[Change]:
        self.calls.append(f"get {', '.join(paths)}")
        missing = changes([(path, 1, None) for path in paths if path not in self.changes])
        found = [*(self.changes[path] for path in paths if path in self.changes), *missing]
        self.given += len(found)
        return iter(found)

    def query(self, collection: str, filters: Sequence[tuple[str, str, Any]]) -> Iterator[Change]:
        self.calls.append(f"query {collection} {filters}")
        pattern = CollectionPattern(collection)
        for change in self.changes.values():
            fields = decode_fields(change.fields)
            if pattern.match(change.path) is not None and all(
                fits(fields.get(name), how, value) for name, how, value in filters
            ):
                self.given += 1
                yield change


def fits(value: Any, how: str, wanted: Any) -> bool:
    match how:
        case "==":
            return bool(value == wanted)
        case "in":
            return value in wanted
        case "array-contains":
            return isinstance(value, list) and wanted in value
        case _:
            return isinstance(value, list) and any(one in value for one in wanted)


class Team(bb.DomainModel, collection="teams"):
    name: str


class Person(bb.DomainModel, collection="people"):
    name: str
    team: Ref[Team]
    city: str
    level: int
    skills: list[str]


class Task(bb.DomainModel, collection="tasks"):
    title: str
    by: Ref[Person] = bb.field(was=("owner",))
    with_: list[Ref[Person]] = bb.field(name="with")


class Note(bb.DomainModel, collection="people/{person}/notes"):
    person: Ref[Person]
    text: str


class Rates(bb.DomainModel, collection="config"):
    factor: int


class PersonCard(bb.ViewModel, collection="person_cards"):
    class Store(bb.Store):
        person: Person = root(Person)
        team: Team | None = reference("person.team", optional=True)
        tasks: dict[str, Task] = referrers(Task, by="by")
        helped: dict[str, Task] = referrers(Task, by="with_")
        notes: dict[str, Note] = referrers(Note, by="person")
        rates: Rates = document(Rates, "config/rates")

    store: Store
    num_tasks = aggregate.count("tasks")

    @view_property
    def summary(self) -> str:
        texts = " ".join(note.text for note in self.store.notes.values())
        team = self.store.team.name if self.store.team else "-"
        return f"{self.store.person.name} {team} {texts} {len(self.store.helped)} {self.num_tasks * self.store.rates.factor}"


class Level(bb.ViewModel, collection="levels"):
    class Store(bb.Store):
        people: dict[str, Person] = group(Person, by=("city", "level"))
        tasks: dict[str, Task] = referrers(Task, by="by", of="people")

    store: Store
    num_people = aggregate.count("people")
    num_tasks = aggregate.count("tasks")


class Skill(bb.ViewModel, collection="skills"):
    class Store(bb.Store):
        people: dict[str, Person] = group(Person, by="skills")

    store: Store
    num_people = aggregate.count("people")


def person(
    name: str, team: str, city: str = "Rome, IT", level: int = 3, skills: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {"name": name, "team": Reference(f"teams/{team}"), "city": city, "level": level, "skills": list(skills)}


DOCUMENTS: dict[str, dict[str, Any]] = {
    "config/rates": {"factor": 10},
    "teams/t1": {"name": "Blue"},
    "people/p1": person("Ann", "t1", skills=("go", "sql")),
    "people/p2": person("Bob", "t9", level=4, skills=("sql",)),
    "people/p3": person("Cid", "t1"),
    "tasks/a": {"title": "a", "by": Reference("people/p1"), "with": [Reference("people/p2")]},
    "tasks/b": {"title": "b", "owner": "people/p1", "with": ["p2", "p3"]},
    "tasks/c": {"title": "c", "by": "p3", "with": []},
    "people/p1/notes/n1": {"text": "hi"},
    "people/p2/notes/n1": {"text": "no"},
}


def expected(view: type[bb.ViewModel], path: str) -> dict[str, Any] | None:
    known = Known(DOCUMENTS).changes.values()
    return render(view, [{"path": one.path, "fields": msgspec.json.decode(one.fields)} for one in known]).get(path)


@pytest.mark.parametrize("row_id", ["p1", "p2", "p3", "p4"])
def test_a_rooted_row(row_id: str) -> None:
    source = Known(DOCUMENTS)
    row = PersonCard.get(row_id, source=source)
    assert row == expected(PersonCard, f"person_cards/{row_id}")
    assert (row is None) == (row_id == "p4")


def test_a_row_reads_what_it_is_made_of_and_nothing_else() -> None:
    source = Known(DOCUMENTS)
    assert PersonCard.get("p1", source=source) == {"numTasks": 2, "summary": "Ann Blue hi 0 20"}
    assert source.given == 6
    refs = "[Ref('people/p1'), 'people/p1', 'p1']"
    assert source.calls == [
        "get people/p1",
        "get teams/t1",
        f"query tasks [('by', 'in', {refs})]",
        f"query tasks [('owner', 'in', {refs})]",
        f"query tasks [('with', 'array-contains-any', {refs})]",
        "query people/p1/notes []",
        "get config/rates",
    ]


def test_a_row_of_a_group_with_its_members() -> None:
    assert Level.get("Rome%2C%20IT,3", source=Known(DOCUMENTS)) == {"numPeople": 2, "numTasks": 3}
    assert Level.get("Rome%2C%20IT,5", source=Known(DOCUMENTS)) is None
    assert Skill.get("sql", source=Known(DOCUMENTS)) == {"numPeople": 2}
    with pytest.raises(UsageError, match=r"Level: expected the id of a row, got 'Rome'; fix: join its parts by ','"):
        Level.get("Rome", source=Known(DOCUMENTS))


def test_a_source_that_finds_nothing_by_key_is_read_whole() -> None:
    source = ListSource(list(Known(DOCUMENTS).changes.values()))
    assert PersonCard.get("p1", source=source) == {"numTasks": 2, "summary": "Ann Blue hi 0 20"}


def test_an_invalid_document_is_told() -> None:
    broken = {**DOCUMENTS, "people/p1": {"name": 7}}
    with pytest.raises(BoilerBeamError, match=r"PersonCard p1: expected documents that make a row, got: people/p1: "):
        PersonCard.get("p1", source=Known(broken))


def test_of_a_file_only_what_concerns_the_row_is_told(tmp_path: Path) -> None:
    broken = {**DOCUMENTS, "people/p1": {"name": 7}, "people/p9": {"name": 8}, "teams/t77": {"name": 9}}
    lines = [json.dumps({"path": path, "version": 1, "fields": one}) + "\n" for path, one in plain(broken).items()]
    (tmp_path / "x.jsonl").write_text("torn\n" + "".join(lines))
    place = f"file:{tmp_path}/x.jsonl:{2 + list(broken).index('people/p1')}"
    with pytest.raises(BoilerBeamError) as raised:
        PersonCard.get("p1", source=f"file:{tmp_path}/x.jsonl")
    assert str(raised.value) == (
        f"PersonCard p1: expected documents that make a row, got: people/p1 at {place}: "
        "Person: Expected `str`, got `int` - at `$.name`; fix: correct it"
    )
    assert PersonCard.get("p2", source=f"file:{tmp_path}/x.jsonl") == PersonCard.get("p2", source=Known(DOCUMENTS))


def plain(documents: dict[str, Any]) -> dict[str, Any]:
    return {path: msgspec.json.decode(encode_fields(fields)) for path, fields in documents.items()}


def test_a_field_that_can_not_be_looked_up() -> None:
    class Member(bb.DomainModel, collection="members"):
        name: str

        @property
        def initial(self) -> str:
            return self.name[:1]

    class Initials(bb.ViewModel, collection="initials"):
        class Store(bb.Store):
            members = group(Member, by="initial")

        store: Store
        num = aggregate.count("members")

    with pytest.raises(
        UsageError, match=r"Initials\.Store\.members: expected by= to name a stored field .*, got 'initial'"
    ):
        Initials.get("A", source=Known({}))


@pytest.mark.parametrize("by", ["person", "doc_id", "path"])
def test_what_is_part_of_a_path_can_not_be_looked_up(by: str) -> None:
    class Notes(bb.ViewModel, collection="notes"):
        class Store(bb.Store):
            notes = group(Note, by=by)

        store: Store
        num = aggregate.count("notes")

    with pytest.raises(UsageError, match=rf"Notes\.Store\.notes: expected by= to name a stored field .*, got '{by}'"):
        Notes.get("n1", source=Known(DOCUMENTS))


class Inbox(bb.ViewModel, path="people/{member}/inbox/{id}"):
    class Store(bb.Store):
        task: Task = root(Task)

    store: Store

    def paths(self) -> Iterator[dict[str, str]]:
        for one in self.store.task.with_:
            yield {"member": one.doc_id}

    @view_property
    def title(self) -> str:
        return self.store.task.title


def test_one_of_several_copies() -> None:
    assert Inbox.get("b", source=Known(DOCUMENTS), at={"member": "p3"}) == {"title": "b"}
    assert Inbox.get("b", source=Known(DOCUMENTS), at={"member": "p1"}) is None
    with pytest.raises(
        UsageError, match=r"Inbox b: expected one row, got 2 copies; fix: say which: at={'member': \.\.\.}"
    ):
        Inbox.get("b", source=Known(DOCUMENTS))


@given(
    st.dictionaries(
        st.sampled_from(["p1", "p2", "p3"]), st.tuples(st.sampled_from("abß/,."), st.integers(-2, 2)), min_size=1
    )
)
def test_every_key_finds_its_row(people: dict[str, tuple[str, int]]) -> None:
    from urllib.parse import quote

    documents = {f"people/{name}": person(name, "t1", city, level) for name, (city, level) in people.items()}
    for city, level in people.values():
        row = Level.get(f"{quote(city, safe='')},{level}", source=Known(documents))
        assert row == {"numPeople": list(people.values()).count((city, level)), "numTasks": 0}
