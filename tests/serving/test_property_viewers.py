"""Properties that only some viewers of a row may see: hidden from the others by every protocol, against a running server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from boiler_beam.plan import compile_plan
from boiler_beam.views import seen_by, view_property
from boiler_beam.writing.clients import client_module
from tests.helpers.serving import Room, Rows, client, events, socket_io
from tests.serving.test_streams import stream_of
from tests.serving.test_websocket import opened

WHOLE = {"title": "r1", "code": "1234", "phone": "555"}
SEEN = {"eve": {"title": "r1"}, "sam+role:staff": {"title": "r1", "phone": "555"}, "hal+role:host": WHOLE}


def by_rest(http: httpx.Client, address: str, token: str) -> Any:
    return http.get("/views/Room/r1").json()["fields"]


def by_rest_typed(http: httpx.Client, address: str, token: str) -> Any:
    return http.get("/views/Room/r1?typed=1").json()["fields"]


def by_list(http: httpx.Client, address: str, token: str) -> Any:
    return http.get("/views/Room").json()["rows"][0]["fields"]


def by_rpc(http: httpx.Client, address: str, token: str) -> Any:
    calls = [
        {"jsonrpc": "2.0", "id": 1, "method": "get", "params": {"view": "Room", "id": "r1"}},
        {"jsonrpc": "2.0", "id": 2, "method": "list", "params": {"view": "Room"}},
    ]
    one, many = (answer["result"] for answer in http.post("/rpc", json=calls).json())
    assert one == many["rows"][0]
    return one["fields"]


def by_graphql(http: httpx.Client, address: str, token: str) -> Any:
    fields = "fields { title code phone }"
    query = f'{{ Room(id: "r1") {{ {fields} }} Room_list {{ rows {{ {fields} }} }} }}'
    data = http.post("/graphql", json={"query": query}).json()["data"]
    assert data["Room"] == data["Room_list"]["rows"][0]
    return {name: value for name, value in data["Room"]["fields"].items() if value is not None}


def by_stream(http: httpx.Client, address: str, token: str) -> Any:
    (row,) = (one["value"] for one in http.get(f"{stream_of(http, 'Room')}?offset=-1").json() if "value" in one)
    return row["fields"]


def by_server_sent_events(http: httpx.Client, address: str, token: str) -> Any:
    with http.stream("GET", stream_of(http, "Room"), params={"offset": "-1", "live": "sse"}) as answer:
        received = ""
        for text in answer.iter_text():
            received += text
            if "event: control" in received:
                break
    (row,) = (one["value"] for kind, told in events(received) if kind == "data" for one in told if "value" in one)
    return row["fields"]


def by_websocket(http: httpx.Client, address: str, token: str) -> Any:
    with opened(address, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        number = socket.subscribe("Room")
        while "r1" not in socket.followers[number].rows:
            socket.receive()
        assert socket.call("get", view="Room", id="r1")["result"]["fields"] == socket.followers[number].rows["r1"]
        return socket.followers[number].rows["r1"]


def by_socketio(http: httpx.Client, address: str, token: str) -> Any:
    with socket_io(address, token) as io:
        fields = io.call("get", view="Room", id="r1")["result"]["fields"]
        io.call("subscribe", view="Room")
        (row,) = (one["value"] for one in io.receive()["params"]["messages"] if "value" in one)
        assert row["fields"] == fields
        return fields


PROTOCOLS: list[Callable[[httpx.Client, str, str], Any]] = [
    by_rest, by_rest_typed, by_list, by_rpc, by_graphql, by_stream, by_server_sent_events, by_websocket, by_socketio,
]  # fmt: skip


@pytest.mark.parametrize("ask", PROTOCOLS, ids=lambda ask: ask.__name__)
def test_each_user_gets_the_properties_that_are_for_them(rows: Rows, guarded: str, ask: Any) -> None:
    rows.room("r1")
    for token, fields in SEEN.items():
        with client(guarded, token) as http:
            assert ask(http, guarded, token) == fields, token


def test_where_everything_is_open_all_properties_are(rows: Rows, http: httpx.Client) -> None:
    rows.room("r1")
    assert http.get("/views/Room/r1").json()["fields"] == WHOLE


def test_a_changed_row_is_sent_to_each_without_what_is_hidden(rows: Rows, guarded: str) -> None:
    rows.room("r1")
    for token in SEEN:
        with opened(guarded, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
            number = socket.subscribe("Room")
            while "r1" not in socket.followers[number].rows:
                socket.receive()
            rows.room("r1", title=f"for {token}", code="5678")
            changed = {**SEEN[token], "title": f"for {token}"}
            if "code" in changed:
                changed["code"] = "5678"
            socket.until(number, {"r1": changed})


def test_no_cache_gives_one_user_the_row_of_another(rows: Rows, guarded: str) -> None:
    rows.room("r1", _viewers=["anyone"])
    with client(guarded, "hal+role:host") as host, client(guarded, "hal") as once_host, client(guarded) as nobody:
        whole = host.get("/views/Room/r1")
        tag = {"If-None-Match": whole.headers["etag"]}
        assert host.get("/views/Room/r1", headers=tag).status_code == 304
        for other in (once_host, nobody):
            answer = other.get("/views/Room/r1", headers=tag)
            assert (answer.status_code, answer.json()["fields"]) == (200, {"title": "r1"})
            assert answer.headers["cache-control"] == "private, no-cache"
        url = stream_of(host, "Room")
        tag = {"If-None-Match": host.get(url, params={"offset": "-1"}).headers["etag"]}
        assert host.get(url, params={"offset": "-1"}, headers=tag).status_code == 304
        assert once_host.get(url, headers=tag).status_code == 410, "the same user, who lost the role: another stream"
        assert "1234" not in once_host.get(f"{stream_of(once_host, 'Room')}?offset=-1", headers=tag).text


def test_nobody_finds_rows_by_a_property_that_is_hidden(rows: Rows, guarded: str) -> None:
    rows.room("r1", code="1")
    rows.room("r2", code="2")
    with client(guarded, "hal+role:host") as host, client(guarded, "eve") as eve:
        assert [row["id"] for row in host.get("/views/Room?code=2").json()["rows"]] == ["r2"]
        for query in ("code=2", "order=code", "order=-code"):
            refused = eve.get(f"/views/Room?{query}")
            assert (refused.status_code, refused.json()["detail"].partition("expected ")[2]) == (400, "one of title")
        asked = {"jsonrpc": "2.0", "id": 1, "method": "list", "params": {"view": "Room", "filters": {"code": "2"}}}
        assert eve.post("/rpc", json=asked).json()["error"]["code"] == 400
        query = '{ Room_list(order: "code") { rows { id } } }'
        assert eve.post("/graphql", json={"query": query}).json()["errors"][0]["extensions"]["status"] == 400


def test_descriptions_and_generated_clients_say_that_it_may_be_missing(http: httpx.Client) -> None:
    room = http.get("/openapi.json").json()["components"]["schemas"]["Room"]["properties"]["fields"]
    assert room["properties"]["code"]["description"] == "The door's code.\n\nOnly some viewers get it."
    assert "required" not in room
    assert "code?: string" in client_module(compile_plan([Room]), "typescript")
    assert json.dumps(room["properties"]["title"]) == '{"type": "string"}'


def test_viewers_of_a_property_are_texts() -> None:
    for wrong, message in (((), "at least one viewer"), ((7,), "a user id"), (("",), "an empty text")):
        with pytest.raises((TypeError, ValueError), match=message):
            seen_by(*wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="write @view_property"):
        view_property()(len)  # type: ignore[operator]
