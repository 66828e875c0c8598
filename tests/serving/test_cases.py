"""One table of cases against every protocol that answers calls: the same status, and nothing written where refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.exceptions import ConnectionClosed

from boiler_beam.serving import running
from tests.helpers.desk import OwnTask, TaskCard
from tests.helpers.serving import client, names_are_tokens, serve, socket_io
from tests.serving.test_serve import documents
from tests.serving.test_streams import stream_of
from tests.serving.test_websocket import opened

MINE, NONE = "p1/own_tasks/t1", "p1/own_tasks/none"
OLD = {"generation": 1, "version": 1, "seq": 1}


class Case(NamedTuple):
    """A call and its status.

    Attributes:
        name: What it is about.
        method: Of JSON-RPC.
        params: Of JSON-RPC.
        status: Where everything is open, or of `user`.
        user: Who calls, where users sign in; None: everything is open.
    """

    name: str
    method: str
    params: dict[str, Any]
    status: int
    user: str | None = None


def card(**more: Any) -> dict[str, Any]:
    return {"view": "TaskCard", "id": "t1", **more}


def own(row_id: str = MINE, **more: Any) -> dict[str, Any]:
    return {"view": "OwnTask", "id": row_id, **more}


CASES = [
    Case("found", "get", card(), 200),
    Case("missing", "get", card(id="none"), 404),
    Case("old stamp", "update", card(fields={"title": "new"}, if_match=OLD), 412),
    Case("refused by the setter", "update", card(fields={"title": ""}), 422),
    Case("invalid value", "update", card(fields={"isDone": "perhaps"}), 422),
    Case("unknown field", "update", card(fields={"colour": "red"}), 422),
    Case("update of a missing row", "update", card(id="none", fields={"title": "new"}), 404),
    Case("invalid limit", "list", {"view": "TaskCard", "limit": 0}, 400),
    Case("own row", "get", own(), 200, "p1"),
    Case("missing for its owner", "get", own(NONE), 403, "p1"),
    Case("forbidden", "get", own(), 403, "eve"),
    Case("forbidden or missing", "get", own(NONE), 403, "eve"),
    Case("forbidden change", "update", own(fields={"title": "eve's"}), 403, "eve"),
    Case("no token", "get", own(), 401, ""),
    Case("no token for a change", "update", own(fields={"title": "mine"}), 401, ""),
]


class World(NamedTuple):
    """Two servers over one store: everything is open, and users sign in."""

    open: str
    guarded: str


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("cases")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        views, uri = [TaskCard, OwnTask], documents(folder / "docs.db")
        async with (
            running(views, sources=[uri], rows=f"sqlite:{folder}/open.db") as everyone,
            running(views, sources=[uri], rows=f"sqlite:{folder}/guarded.db", auth=names_are_tokens) as users,
        ):
            app.router.routes += [Mount("/open", everyone.app), Mount("/guarded", users.app)]
            yield

    with serve(Starlette(lifespan=lifespan)) as address:
        world = World(f"{address}/open", f"{address}/guarded")
        with client(world.open) as http, client(world.guarded, "p1") as owner:
            until(lambda: http.get("/views/TaskCard/t1").status_code == 200)
            until(lambda: owner.get("/views/OwnTask/p1%2Fown_tasks%2Ft1").status_code == 200)
        yield world


def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        pass


@contextmanager
def asking(address: str, user: str | None) -> Iterator[httpx.Client]:
    with client(address, user or None) as http:
        yield http


def by_rest(address: str, case: Case) -> tuple[int, Any]:
    params = dict(case.params)
    view, row_id = params.pop("view"), params.pop("id", None)
    path = f"/views/{view}" + ("" if row_id is None else f"/{row_id.replace('/', '%2F')}")
    with asking(address, case.user) as http:
        if case.method == "update":
            stamp = params.get("if_match")
            headers = {} if stamp is None else {"If-Match": '"{generation}-{version}-{seq}"'.format(**stamp)}
            answer = http.patch(path, json=params["fields"], headers=headers)
        else:
            answer = http.get(path, params=params)
        return answer.status_code, answer.json()


def by_rpc(address: str, case: Case) -> tuple[int, Any]:
    with asking(address, case.user) as http:
        call = {"jsonrpc": "2.0", "id": 1, "method": case.method, "params": case.params}
        return told(http.post("/rpc", json=call).json())


def by_websocket(address: str, case: Case) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {case.user}"} if case.user else {}
    with opened(address, additional_headers=headers) as socket:
        return told(socket.call(case.method, **case.params))


def by_socketio(address: str, case: Case) -> tuple[int, Any]:
    with socket_io(address, case.user or None) as io:
        return told(io.call(case.method, **case.params))


def by_graphql(address: str, case: Case) -> tuple[int, Any]:
    params = dict(case.params)
    view = params["view"]
    given = [f"{name}: {json.dumps(params[name])}" for name in ("id", "limit") if name in params]
    if "if_match" in params:
        given.append('if_match: "{generation}-{version}-{seq}"'.format(**params["if_match"]))
    if "fields" in params:
        fields = ", ".join(f"{name}: {json.dumps(value)}" for name, value in params["fields"].items())
        given.append(f"fields: {{{fields}}}")
    name = {"get": view, "list": f"{view}_list", "update": f"{view}_update"}[case.method]
    shown = "cursor" if case.method == "list" else "id"
    kind = "mutation" if case.method == "update" else "query"
    with asking(address, case.user) as http:
        answer = http.post("/graphql", json={"query": f"{kind} {{ {name}({', '.join(given)}) {{ {shown} }} }}"}).json()
    if "errors" not in answer:
        return 200, answer["data"][name]
    (error,) = answer["errors"]
    assert not (answer.get("data") or {}).get(name)
    if "extensions" not in error:  # the types of the schema refuse it before anything is called
        assert "locations" in error
        return 422, error
    return error["extensions"]["status"], error


def told(answer: Any) -> tuple[int, Any]:
    return (200, answer["result"]) if "result" in answer else (answer["error"]["code"], answer["error"])


PROTOCOLS = [by_rest, by_rpc, by_websocket, by_socketio, by_graphql]


@pytest.mark.parametrize("call", PROTOCOLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_has_the_same_status_over_every_protocol(world: World, case: Case, call: Any) -> None:
    address = world.open if case.user is None else world.guarded
    status, answer = call(address, case)
    assert status == case.status, answer
    if status == 200:
        assert answer["id"] == case.params["id"]
    if case.user in ("eve", ""):
        assert "write" not in json.dumps(answer), "what the row says"
    with client(world.open) as http:
        assert http.get("/views/TaskCard/t1").json()["fields"]["title"] == "write", "nothing was written"


@pytest.mark.parametrize("live", [None, "long-poll", "sse"])
def test_cases_of_streams(world: World, live: str | None) -> None:
    query = {} if live is None else {"live": live}
    with client(world.open) as http, client(world.guarded, "eve") as eve, client(world.guarded) as nobody:
        url = stream_of(http, "TaskCard")
        prefix = "/open"
        assert url.startswith(prefix)
        url = url.removeprefix(prefix)
        with http.stream("GET", url, params={"offset": "-1", **query}) as found:
            assert found.status_code == 200
            received = ""
            for part in found.iter_text():
                received += part
                if '"key":"t1"' in received:
                    break
        assert '"key":"t1"' in received
        assert http.get("/views/Nothing/stream").status_code == 404
        assert http.get(url, params={"offset": "nonsense", **query}).status_code == 400
        gone = url.replace(url.split("/")[3], "0123456789ab")
        assert http.get(gone, params={"offset": "-1", **query}).status_code == 410
        assert nobody.get(url, params={"offset": "-1", **query}).status_code == 401
        assert eve.get(url, params={"offset": "-1", **query}).status_code == 403, "TaskCard has no viewers()"


LARGE = " " * (1 << 20) + "x"


def test_what_is_too_large_or_malformed_is_refused_by_every_protocol(world: World) -> None:
    kind = {"Content-Type": "application/json"}
    with client(world.open) as http:
        for method, path in (("PATCH", "/views/TaskCard/t1"), ("POST", "/rpc"), ("POST", "/graphql")):
            answer = http.request(method, path, content=json.dumps({"title": LARGE}), headers=kind)
            assert answer.status_code == 413, path
        assert http.patch("/views/TaskCard/t1", content=b"{", headers=kind).status_code == 400
        assert http.post("/graphql", content=b"{", headers=kind).status_code == 400
        assert http.post("/rpc", content=b"{", headers=kind).json()["error"]["code"] == -32700
    with opened(world.open) as socket:
        socket.send("{")
        assert socket.receive()["error"]["code"] == -32700
        assert socket.call("get", **card())["result"]["id"] == "t1", "the next frame is answered"
    with socket_io(world.open) as io:
        io.send("text")
        assert io.receive()["error"]["code"] == -32600
        assert io.call("get", **card())["result"]["id"] == "t1"
        with pytest.raises(ConnectionClosed):
            io.call("update", **card(fields={"title": LARGE}))
    with client(world.open) as http:
        assert http.get("/views/TaskCard/t1").json()["fields"]["title"] == "write"


def test_a_client_that_leaves_in_the_middle_spoils_nothing(world: World) -> None:
    """Of each protocol that follows rows: its connection is cut while rows are sent, and the reader is released."""
    with client(world.open) as http:
        url = stream_of(http, "TaskCard").removeprefix("/open")
        with http.stream("GET", url, params={"offset": "-1", "live": "sse"}) as stream:
            parts = stream.iter_raw()
            next(parts)
            del parts
        with opened(world.open) as socket:
            socket.subscribe("TaskCard")
            socket.connection.socket.close()
        with contextlib.suppress(ConnectionClosed, OSError), socket_io(world.open) as io:
            io.call("subscribe", view="TaskCard")
            io.connection.socket.close()
        until(lambda: 'clients{view="TaskCard"} 0' in http.get("/metrics").text)
        assert http.get("/views/TaskCard/t1").status_code == 200
