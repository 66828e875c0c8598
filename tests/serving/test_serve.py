"""`boiler-beam serve` as a process: documents in a file, the engine, and writes and rows over every protocol."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from boiler_beam.connectors.documents.store import DocumentsStore
from boiler_beam.events import Change
from boiler_beam.values import Ref, encode_fields
from tests.helpers import programs
from tests.helpers.programs import Program
from tests.helpers.serving import Follower, client, events
from tests.serving.test_websocket import opened

ROOT = Path(__file__).resolve().parents[2]
VIEWS = "tests.helpers.desk:TaskCard"


def documents(path: Path) -> str:
    """A store with a person and a task."""
    fields = {
        "tasks/t1": {"title": "write", "isDone": False, "owner": Ref("persons/p1")},
        "persons/p1": {"name": "Ann"},
    }
    DocumentsStore(str(path)).load(
        [Change(name, 1_700_000_000_000_000, msgspec.Raw(encode_fields(one))) for name, one in fields.items()]
    )
    return f"documents:{path}"


def serve_command(folder: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--views", VIEWS, "--rows", f"sqlite:{folder}/rows.db"]
    return [*command, "--port", "0", *options]


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[str, Program]]:
    """The process, when it answers and has rows; it ends well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = Program(serve_command(folder, *options), folder, environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " at " not in line:
            raise AssertionError(process.communicate()[1])
        address = line.split(" at ")[1].rpartition("/views")[0]
        yield address, process
        if not vars(process).get("was_asked"):
            process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert "Traceback" not in told, told
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def until_ready(http: httpx.Client, path: str = "/views/TaskCard/t1") -> Any:
    while (ready := http.get("/readyz")).status_code != 200 or http.get(path).status_code != 200:
        assert "failed" not in ready.text
    return http.get(path).json()


def test_a_write_over_any_protocol_reaches_every_follower(tmp_path: Path) -> None:
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, _), client(address) as http:
        row = until_ready(http)
        assert row["fields"] == {"title": "write", "isDone": False, "owner": "Ann"}
        with opened(address) as socket:
            number = socket.subscribe("TaskCard")
            socket.until(number, {"t1": row["fields"]})
            written = http.patch("/views/TaskCard/t1", json={"isDone": True})
            assert written.status_code == 200, written.text
            assert list(written.json()["versions"]) == ["tasks/t1"]
            socket.until(number, {"t1": {"title": "write", "isDone": True, "owner": "Ann"}})
            version = written.json()["versions"]["tasks/t1"]
            seen = http.get(f"/views/TaskCard/t1?wait_for={version}").json()
            assert seen["stamp"]["version"] >= version
            told = socket.call("update", view="TaskCard", id="t1", fields={"title": "by socket"})
            assert told["result"]["id"] == "t1"
            socket.until(number, {"t1": {"title": "by socket", "isDone": True, "owner": "Ann"}})
            created = http.post("/views/TaskCard", json={"title": "second", "owner": "p1"})
            assert created.status_code == 201, created.text
            second = {"title": "second", "isDone": False, "owner": "Ann"}
            first = {"title": "by socket", "isDone": True, "owner": "Ann"}
            socket.until(number, {"t1": first, created.json()["id"]: second})
            call = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "update",
                "params": {"view": "TaskCard", "id": "t1", "fields": {"owner": "Anna"}},
            }
            assert "result" in http.post("/rpc", json=call).json()
            socket.until(number, {"t1": {**first, "owner": "Anna"}, created.json()["id"]: {**second, "owner": "Anna"}})
        assert [row["id"] for row in http.get("/views/TaskCard?isDone=true").json()["rows"]] == ["t1"]
        fresh = http.get("/views/TaskCard/t1?fresh=1")
        assert fresh.json()["fields"] == {**first, "owner": "Anna"}
        assert fresh.headers["cache-control"] == "no-store"


def test_writes_that_are_refused(tmp_path: Path) -> None:
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, _), client(address) as http:
        until_ready(http)
        tag = http.get("/views/TaskCard/t1").headers["etag"]
        path = "/views/TaskCard/t1"
        for body, pointer in (
            ({"title": ""}, "/title"),
            ({"title": 7}, "/title"),
            ({"isDone": "no"}, "/isDone"),
            ({"nix": 1}, "/nix"),
        ):
            answer = http.patch(path, json=body)
            assert answer.status_code == 422, answer.text
            assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
        assert http.patch(path, json=[1]).status_code == 422
        assert http.patch("/views/TaskCard/none", json={"isDone": True}).status_code == 404
        assert http.post("/views/TaskCard", json={"title": "x"}).status_code == 422
        assert http.patch(path, json={"isDone": True}, headers={"If-Match": '"1-1-1"'}).status_code == 412
        assert http.patch(path, json={"isDone": True}, headers={"If-Match": tag}).status_code == 200
        http.get(f"{path}?wait_for={http.patch(path, json={'title': 'last'}).json()['versions']['tasks/t1']}")
        assert http.patch(path, json={"isDone": False}, headers={"If-Match": tag}).status_code == 412
        assert http.get(path).json()["fields"] == {"title": "last", "isDone": True, "owner": "Ann"}


def graphql(http: httpx.Client, query: str, **variables: Any) -> Any:
    return http.post("/graphql", json={"query": query, "variables": variables}).json()


def test_graphql_reads_writes_and_follows(tmp_path: Path) -> None:
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, _), client(address) as http:
        until_ready(http)
        told = graphql(http, '{ TaskCard(id: "t1") { id path stamp { version } fields { title isDone owner } } }')
        assert told["data"]["TaskCard"]["fields"] == {"title": "write", "isDone": False, "owner": "Ann"}
        missing = graphql(http, '{ TaskCard(id: "no") { id } }')
        assert missing["data"] == {"TaskCard": None}
        assert missing["errors"][0]["extensions"]["status"] == 404
        ws = connect(f"{address.replace('http', 'ws')}/graphql", subprotocols=["graphql-transport-ws"])  # type: ignore[list-item]
        with ws as socket:
            socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(socket.recv())["type"] == "connection_ack"
            query = "subscription { TaskCard_changes { rows { id fields { title isDone } } deleted offset upToDate isReset } }"
            socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": query}}))
            first = json.loads(socket.recv(timeout=60))["payload"]["data"]["TaskCard_changes"]
            assert first["rows"] == [{"id": "t1", "fields": {"title": "write", "isDone": False}}]
            assert first["isReset"]
            change = "mutation($id: ID!) { TaskCard_update(id: $id, fields: {isDone: true}) { id versions } }"
            assert graphql(http, change, id="t1")["data"]["TaskCard_update"]["id"] == "t1"
            second = json.loads(socket.recv(timeout=60))["payload"]["data"]["TaskCard_changes"]
            assert second["rows"] == [{"id": "t1", "fields": {"title": "write", "isDone": True}}]
            assert not second["isReset"]
            assert second["offset"] > first["offset"]
        made = graphql(http, 'mutation { TaskCard_create(fields: {title: "b", owner: "p1"}) { id } }')
        while http.get(f"/views/TaskCard/{made['data']['TaskCard_create']['id']}").status_code != 200:
            pass
        page = graphql(http, '{ TaskCard_list(limit: 1, order: "-isDone") { rows { id } cursor } }')["data"][
            "TaskCard_list"
        ]
        assert [row["id"] for row in page["rows"]] == ["t1"]
        rest = graphql(
            http,
            'query($c: String) { TaskCard_list(order: "-isDone", cursor: $c) { rows { id } cursor } }',
            c=page["cursor"],
        )
        assert rest["data"]["TaskCard_list"] == {
            "rows": [{"id": made["data"]["TaskCard_create"]["id"]}],
            "cursor": None,
        }


def test_graphql_is_limited(tmp_path: Path) -> None:
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, _), client(address) as http:
        until_ready(http)
        aliases = " ".join(f'a{number}: TaskCard(id: "t1") {{ id }}' for number in range(16))
        assert "errors" in graphql(http, f"{{ {aliases} }}")
        tokens = " ".join(["id"] * 1_000)
        assert "errors" in graphql(http, f'{{ TaskCard(id: "t1") {{ {tokens} }} }}')
        assert (
            http.post(
                "/graphql", content=b" " * ((1 << 20) + 1), headers={"Content-Type": "application/json"}
            ).status_code
            == 413
        )
        evil = {"Origin": "https://evil.example"}
        assert http.post("/graphql", json={"query": "{ __typename }"}, headers=evil).status_code == 403


def test_a_page_that_gives_this_machine_its_name_is_refused(tmp_path: Path) -> None:
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, _), client(address) as http:
        assert http.get("/healthz", headers={"Host": "evil.example"}).status_code == 421
        assert http.get("/healthz", headers={"Host": "localhost:1"}).status_code == 200


def test_after_a_kill_a_client_goes_on_where_it_was(tmp_path: Path) -> None:
    """The server and its engine are killed, a document is written meanwhile, and a new server has what was missed."""
    source = documents(tmp_path / "docs.db")
    follower = Follower()
    with served(tmp_path, "--source", source) as (address, process), client(address) as http:
        until_ready(http)
        url = http.get("/views/TaskCard/stream").headers["location"]
        answer = http.get(url, params={"offset": "-1"})
        follower.take(answer.json(), is_whole=True)
        offset = answer.headers["stream-next-offset"]
        with http.stream("GET", url, params={"offset": offset, "live": "sse"}) as live:
            told = live.iter_text()
            assert next(events(next(told)))[0] == "control"
            process.kill()
            with pytest.raises(httpx.HTTPError):
                for _ in told:
                    pass
        process.communicate()
        process.returncode = 0
        process.send_signal = lambda number: None  # type: ignore[method-assign]
        process.communicate = lambda *args, **more: ("", "")  # type: ignore[method-assign]
    from boiler_beam import transaction
    from tests.helpers.desk import Task

    with transaction(source) as tx:
        task = tx.get(Task, "t1")
        assert task is not None
        task.title = "meanwhile"
    with served(tmp_path, "--source", source) as (address, _), client(address) as http:
        query = {"offset": offset, "live": "long-poll"}
        while follower.rows["t1"]["title"] != "meanwhile":
            answer = http.get(url, params=query)
            assert answer.status_code in (200, 204)
            if answer.content:
                follower.take(answer.json(), is_whole=True)
            query["offset"] = answer.headers["stream-next-offset"]


def test_a_server_that_ends_ends_its_streams(tmp_path: Path) -> None:
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, process), client(address) as http:
        until_ready(http)
        url = http.get("/views/TaskCard/stream").headers["location"]
        live = http.stream("GET", url, params={"offset": "now", "live": "sse"})
        answer = live.__enter__()
        told = answer.iter_raw()
        next(told)
        socket = connect(f"{address.replace('http', 'ws')}/ws")
        polled: list[int] = []
        query = {"offset": "now", "live": "long-poll"}
        with client(address) as other:
            thread = threading.Thread(target=lambda: polled.append(other.get(url, params=query).status_code))
            thread.start()
            while 'clients{view="TaskCard"} 2' not in http.get("/metrics").text:
                pass
            process.send_signal(signal.SIGTERM)
            vars(process)["was_asked"] = True
            thread.join()
            assert polled == [204], "what waits is answered"
            assert list(told) == [], "a stream ends"
    live.__exit__(None, None, None)
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012, "the service restarts"


def test_wrong_use_is_told_in_one_line(tmp_path: Path) -> None:
    for options, words in (
        (["--host", "0.0.0.0"], "--auth firebase:PROJECT"),
        (["--auth", "basic"], "expected none or firebase:PROJECT"),
        (["--rows", "jsonl:x"], "expected sqlite:PATH"),
    ):
        done = programs.run(serve_command(tmp_path, *options), tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
