"""Security rules that are generated, on the Firestore emulator: who reads, lists, creates and writes what."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref, root, view_property
from boiler_beam.connectors import open_store
from boiler_beam.connectors.stores import Write
from boiler_beam.plan import compile_plan
from boiler_beam.writing.rules import security_rules
from tests.helpers.form_classes import AttendanceForm, JoinForm
from tests.helpers.rules import RestClient, put_rules

ROOT = Path(__file__).resolve().parents[3]


class Person(bb.DomainModel, collection="people"):
    name: str


class Comment(bb.DomainModel, collection="**/comments"):
    text: str


class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        person: Person = root(Person)

    store: Store

    def viewers(self) -> Iterator[str]:
        yield self.store.person.doc_id

    @view_property
    def name(self) -> str:
        return self.store.person.name


class Inbox(Card, path="users/{user}/inbox/{id}"):
    def paths(self) -> Iterator[dict[str, str]]:
        yield {"user": self.store.person.doc_id}


class Closed(bb.ViewModel, collection="closed"):
    class Store(bb.Store):
        person: Person = root(Person)

    store: Store

    @view_property
    def name(self) -> str:
        return self.store.person.name


class CommentCard(bb.ViewModel, path="comment_cards/{id}"):
    class Store(bb.Store):
        comment: Comment = root(Comment)

    store: Store

    def viewers(self) -> Iterator[str]:
        yield "anyone"

    @view_property
    def text(self) -> str:
        return self.store.comment.text


class Room(Card, collection="rooms"):
    @view_property
    @bb.seen_by(bb.role("host"))
    def code(self) -> str:
        return self.store.person.name

    @view_property
    @bb.seen_by(bb.role("host"), bb.role("staff"))
    def phone(self) -> str:
        return self.store.person.name


class OfRef(bb.Form, collection="ref_forms", author="person"):
    person: Ref[Person]
    note: str = ""


class Unowned(bb.Form, collection="unowned_forms"):
    text: str


def rules() -> str:
    return security_rules(
        compile_plan([Card, Inbox, Closed, CommentCard, Room]), [AttendanceForm, JoinForm, OfRef, Unowned]
    )


class World:
    """A project with rules, rows and documents."""

    def __init__(self, host: str, project: str) -> None:
        self.host, self.project = host, project
        put_rules(host, project, rules())
        rows = {
            "cards/ann": ["ann"], "cards/all": ["anyone"], "cards/in": ["signed in"], "cards/t": ["role:teacher@schools/s1"],
            "users/ann/inbox/c1": ["ann"], "closed/ann": ["ann", "anyone"], "comment_cards/c1": ["anyone"],
            "rooms/r1": ["signed in"],
        }  # fmt: skip
        writes = [
            Write(path, {"name": "x", "_viewers": viewers, "_boiler": {"version": 1}}) for path, viewers in rows.items()
        ]
        writes += [Write(path, {"name": "x"}) for path in ("people/ann", "posts/p1/comments/c1", "other/x")]
        with closing(open_store(f"firestore:{project}")) as store, closing(store.begin()) as attempt:
            attempt.commit(writes)
        self.rows = rows

    def client(self, user: str | None, roles: list[str] | None = None) -> RestClient:
        return RestClient(self.host, self.project, user, roles)


@pytest.fixture
def world(firestore_emulator: str, project: str) -> World:
    return World(firestore_emulator, project)


TEXT: dict[str, Any] = {"stringValue": "x"}


def form(user: str, **more: Any) -> dict[str, Any]:
    return {"user": {"stringValue": user}, "ticket": {"stringValue": "t1"}, "attends": {"booleanValue": True}, **more}


def test_clients_read_the_rows_that_name_them(world: World) -> None:
    def read(client: RestClient) -> set[str]:
        statuses = {path: client.get(path) for path in world.rows}
        assert set(statuses.values()) <= {200, 403}
        return {path for path, status in statuses.items() if status == 200}

    open_rows = {"cards/all", "comment_cards/c1"}
    assert read(world.client(None)) == open_rows
    assert read(world.client("bob")) == open_rows | {"cards/in"}
    assert read(world.client("bob", ["role:teacher@schools/s1"])) == open_rows | {"cards/in", "cards/t"}
    assert read(world.client("bob", ["role:teacher@schools/s2"])) == open_rows | {"cards/in"}
    assert read(world.client("bob", ["role:staff"])) == open_rows | {"cards/in"}, "a part of the row is not for them"
    assert read(world.client("bob", ["role:host"])) == open_rows | {"cards/in", "rooms/r1"}
    assert read(world.client(None, ["role:host"])) == open_rows
    assert read(world.client("ann")) == open_rows | {"cards/in", "cards/ann", "users/ann/inbox/c1"}


def test_clients_list_their_rows_by_a_query_for_them(world: World) -> None:
    mine = {"field": {"fieldPath": "_viewers"}, "op": "ARRAY_CONTAINS", "value": {"stringValue": "ann"}}
    assert world.client("ann").query("cards", mine) == (200, ["ann"])
    assert world.client("bob").query("cards", mine)[0] == 403
    assert world.client("ann").query("cards", None)[0] == 403


def test_clients_never_write_rows_or_documents(world: World) -> None:
    for client in (world.client(None), world.client("ann"), world.client("ann", ["role:teacher@schools/s1"])):
        for path in (*world.rows, "people/ann", "posts/p1/comments/c1", "other/x"):
            assert [client.patch(path, {"name": TEXT}), client.delete(path)] == [403, 403], path
        for path in (
            "cards/new",
            "users/ann/inbox/new",
            "people/new",
            "comment_cards/new",
            "posts/p1/comments/new",
            "other/new",
        ):
            assert client.create(path, {"name": TEXT}) == 403, path
        for path in ("people/ann", "posts/p1/comments/c1", "other/x"):
            assert client.get(path) == 403


def test_clients_create_and_read_their_own_forms_and_never_set_the_outcome(world: World) -> None:
    ann, bob, nobody = world.client("ann"), world.client("bob"), world.client(None)
    assert ann.create("attendance_forms/f1", form("ann")) == 200
    assert [one.get("attendance_forms/f1") for one in (ann, bob, nobody)] == [200, 403, 403]
    assert [one.create("attendance_forms/f2", form("ann")) for one in (bob, nobody)] == [403, 403]
    outcome = {"mapValue": {"fields": {"state": {"stringValue": "done"}}}}
    assert ann.create("attendance_forms/f2", form("ann", _outcome=outcome)) == 403
    assert ann.create("attendance_forms/f2", form("ann", more=TEXT)) == 403
    assert ann.create("attendance_forms/f2", {"user": {"stringValue": "ann"}}) == 403  # a field is missing
    assert ann.patch("attendance_forms/f1", form("ann", _outcome=outcome)) == 403
    assert [ann.patch("attendance_forms/f1", form("ann")), ann.delete("attendance_forms/f1")] == [403, 403]


def test_the_author_of_a_form_is_in_its_path_or_a_reference(world: World) -> None:
    ann, bob = world.client("ann"), world.client("bob")
    assert [one.create("users/ann/join_forms/j1", {"name": TEXT}) for one in (bob, ann)] == [403, 200]
    assert [one.get("users/ann/join_forms/j1") for one in (bob, ann)] == [403, 200]
    name = f"projects/{world.project}/databases/(default)/documents/people/ann"
    fields = {"person": {"referenceValue": name}}
    assert [one.create("ref_forms/r1", fields) for one in (bob, ann)] == [403, 200]
    assert ann.create("unowned_forms/u1", {"text": TEXT}) == 403


def test_an_author_that_is_no_field_is_a_mistake() -> None:
    class Wrong(bb.Form, collection="wrong_forms", author="nobody"):
        user: str

    with pytest.raises(
        bb.UsageError, match=r"Wrong: expected author= to be a field, got 'nobody'; fix: name one of user"
    ):
        security_rules(compile_plan([Card]), [Wrong])


def test_the_command_writes_the_rules(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "rules",
        "--views",
        "boiler_beam.samples.meeting",
        "--forms",
        "tests.helpers.form_classes",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "match /attendance_forms/{id}" in done.stdout
    assert "match /meeting_sessions/{id}" in done.stdout
    subprocess.run([*command, "--out", "firestore.rules"], env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "firestore.rules").read_text() == done.stdout
