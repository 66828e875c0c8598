"""Roles from a collection of memberships: given and taken away while clients read, follow and write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from boiler_beam.connectors import open_source, open_store
from boiler_beam.connectors.stores import Write
from boiler_beam.errors import UsageError
from boiler_beam.models import wire_of
from boiler_beam.serving import Memberships, asgi_app, signed_in
from boiler_beam.serving.access import Access
from boiler_beam.serving.roles import StoredRoles, memberships_of
from boiler_beam.values import Ref
from tests.helpers.serving import VIEWS, Rows, client, names_are_tokens, serve, socket_io
from tests.serving.test_streams import stream_of
from tests.serving.test_websocket import opened

HOST = "role:host@rooms/r1"
AT_ONCE = Memberships("memberships", seconds=0)
ANN = {"Authorization": "Bearer ann"}


class Documents:
    """Memberships in a store."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def put(self, name: str, fields: dict[str, Any] | None) -> None:
        with closing(open_store(self.uri)) as store, closing(store.begin()) as attempt:
            attempt.commit([Write(f"memberships/{name}", None if fields is None else wire_of(fields))])


@pytest.fixture(name="documents")
def _documents(tmp_path: Path) -> Documents:
    documents = Documents(f"documents:{tmp_path}/documents.db")
    documents.put("other", {"user": "bob", "role": "host", "of": Ref("rooms/r2")})
    return documents


@pytest.fixture(name="address")
def _address(rows: Rows, uri: str, documents: Documents) -> Iterator[str]:
    rows.inbox("x", "c1", "for hosts", [HOST])
    rows.inbox("x", "c2", "for ann", ["ann"])
    app = asgi_app(VIEWS, rows=uri, documents=documents.uri, auth=names_are_tokens, roles=AT_ONCE)
    with serve(app) as address:
        yield address


def ids(http: Any) -> list[str]:
    return [row["id"].rpartition("/")[2] for row in http.get("/views/Inbox").json()["rows"]]


def read_roles(documents: Documents, where: Memberships, user: str = "ann") -> frozenset[str]:
    return anyio.run(StoredRoles(where, open_source(documents.uri)), user)


def test_what_memberships_say(documents: Documents) -> None:
    documents.put("1", {"user": "ann", "role": "host", "of": Ref("rooms/r1")})
    documents.put("2", {"user": "ann", "role": "staff"})
    documents.put("3", {"user": "ann", "role": "guest", "of": "rooms/r3"})
    documents.put("4", {"user": "ann", "role": 7})
    documents.put("5", {"user": "ann", "role": "x@rooms/r9"})
    documents.put("6", {"user": "ann", "role": "odd", "of": 3})
    documents.put("7", {"person": Ref("people/ann"), "kind": "owner", "in": None})
    assert read_roles(documents, AT_ONCE) == {HOST, "role:staff", "role:guest@rooms/r3"}
    assert read_roles(documents, memberships_of("memberships?user=person&role=kind&of=in&users=people")) == {
        "role:owner"
    }
    assert read_roles(documents, AT_ONCE, "nobody") == frozenset()
    assert read_roles(documents, memberships_of("memberships?users=people"), "a/b") == frozenset()


def test_roles_are_kept_for_some_seconds(documents: Documents) -> None:
    now = [0.0]
    roles = StoredRoles(Memberships("memberships"), open_source(documents.uri), lambda: now[0])
    assert anyio.run(roles, "ann") == frozenset()
    documents.put("1", {"user": "ann", "role": "staff"})
    now[0] = 29.0
    assert anyio.run(roles, "ann") == frozenset()
    now[0] = 30.0
    assert anyio.run(roles, "ann") == {"role:staff"}


def test_a_role_in_the_token_stays_when_a_membership_with_it_ends(documents: Documents) -> None:
    access = Access(names_are_tokens, StoredRoles(AT_ONCE, open_source(documents.uri)))
    documents.put("1", {"user": "ann", "role": "staff"})
    user = anyio.run(access.current, signed_in("ann", ["role:staff"]))
    documents.put("2", {"user": "ann", "role": "host"})
    user = anyio.run(access.current, user)
    assert user.roles == {"role:staff", "role:host"}
    documents.put("1", None)
    documents.put("2", None)
    assert anyio.run(access.current, user).roles == {"role:staff"}


def test_reads_follow_the_roles_that_a_user_has_now(address: str, documents: Documents) -> None:
    with client(address, "ann") as ann, client(address, "bob") as bob:
        assert (ids(ann), ids(bob)) == (["c2"], [])
        documents.put("1", {"user": "ann", "role": "host", "of": Ref("rooms/r1")})
        assert (ids(ann), ids(bob)) == (["c1", "c2"], [])
        query = {"query": '{ Inbox(id: "x/inbox/c1") { id } }'}
        assert ann.post("/graphql", json=query).json()["data"]["Inbox"] == {"id": "x/inbox/c1"}
        documents.put("1", None)
        assert ids(ann) == ["c2"]
        assert ann.get("/views/Inbox/x%2Finbox%2Fc1").status_code == 403


def test_a_stream_of_a_user_whose_roles_changed_begins_again(rows: Rows, address: str, documents: Documents) -> None:
    documents.put("1", {"user": "ann", "role": "host", "of": Ref("rooms/r1")})
    with client(address, "ann") as ann:
        url = stream_of(ann, "Inbox")
        answer = ann.get(url, params={"offset": "-1"})
        offset = answer.headers["stream-next-offset"]
        assert [one["key"] for one in answer.json() if "key" in one] == ["x/inbox/c1", "x/inbox/c2"]
        documents.put("1", None)
        for live in ({}, {"live": "long-poll"}, {"live": "sse"}):
            assert ann.get(url, params={"offset": offset, **live}).status_code == 410
        assert [one["key"] for one in ann.get(f"{stream_of(ann, 'Inbox')}?offset=-1").json() if "key" in one] == [
            "x/inbox/c2"
        ]


def test_server_sent_events_end_when_roles_change(rows: Rows, address: str, documents: Documents) -> None:
    documents.put("1", {"user": "ann", "role": "host", "of": Ref("rooms/r1")})
    with client(address, "ann") as ann:
        url = stream_of(ann, "Inbox")
        with ann.stream("GET", url, params={"offset": "-1", "live": "sse"}) as answer:
            parts = answer.iter_text()
            received = next(parts)
            while "upToDate" not in received:
                received += next(parts)
            documents.put("1", None)
            rows.inbox("x", "c3", "secret", [HOST])
            assert "secret" not in "".join(parts)


@pytest.mark.parametrize("protocol", ["websocket", "socket.io"])
def test_a_follower_whose_roles_change_gets_all_rows_again(
    rows: Rows, address: str, documents: Documents, protocol: str
) -> None:
    one, both = {"x/inbox/c2"}, {"x/inbox/c1", "x/inbox/c2"}

    def follow(receive: Any, keys: Any) -> None:
        for given, expected in ((True, both), (False, one)):
            documents.put("1", {"user": "ann", "role": "host", "of": Ref("rooms/r1")} if given else None)
            rows.inbox("x", "c2", f"for ann {given}", ["ann"])  # wakes the follower
            while set(keys()) != expected:
                receive()

    if protocol == "websocket":
        with opened(address, additional_headers=ANN) as socket:
            number = socket.subscribe("Inbox")
            while set(socket.followers[number].rows) != one:
                socket.receive()
            follow(socket.receive, lambda: socket.followers[number].rows)
            assert socket.call("get", view="Inbox", id="x/inbox/c1")["error"]["code"] == 403
        return
    with socket_io(address, "ann") as io:
        known: dict[str, Any] = {}

        def receive() -> None:
            for message in io.receive()["params"].get("messages", ()):
                if message["headers"].get("control") in ("reset", "snapshot-start"):
                    known.clear()
                elif message["headers"].get("operation") == "delete":
                    known.pop(message["key"], None)
                elif "key" in message:
                    known[message["key"]] = message["value"]

        assert "result" in io.call("subscribe", view="Inbox")
        while set(known) != one:
            receive()
        follow(receive, lambda: known)


@pytest.mark.parametrize("text", ["", "?user=u", "members?x=y", "members?user="])
def test_texts_that_name_no_memberships(text: str) -> None:
    with pytest.raises(UsageError, match="expected COLLECTION"):
        memberships_of(text)


def test_memberships_need_documents(uri: str) -> None:
    with pytest.raises(UsageError, match="name documents:PATH or firestore:PROJECT"):
        asgi_app(VIEWS, rows=uri, auth=names_are_tokens, roles="memberships")
