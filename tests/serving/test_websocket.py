"""Live rows, reads and refusals over WebSocket, against a running server, and JSON-RPC over HTTP."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from boiler_beam.connectors.commit_log import Retention
from boiler_beam.serving import asgi_app
from boiler_beam.serving.hub import Limits
from tests.helpers.servers import patience
from tests.helpers.serving import BOARD, INBOX, VIEWS, Follower, Rows, client, names_are_tokens, serve


class Socket:
    """A client of `/ws`: followers by subscription, and the answers to calls."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection, self.last = connection, 0
        self.followers: dict[int, Follower] = {}
        self.offsets: dict[int, str] = {}
        self.answers: dict[Any, Any] = {}
        self.ended: dict[int, Any] = {}

    def send(self, body: Any) -> None:
        self.connection.send(body if isinstance(body, (str, bytes)) else json.dumps(body))

    def call(self, method: str, **params: Any) -> Any:
        self.last += 1
        self.send({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params})
        while self.last not in self.answers:
            self.receive()
        return self.answers.pop(self.last)

    def subscribe(self, view: str, **params: Any) -> int:
        follower = params.pop("follower", None) or Follower()
        number = self.call("subscribe", view=view, **params)["result"]["subscription"]
        self.followers[number] = follower
        return number

    def receive(self) -> Any:
        message = json.loads(self.connection.recv(timeout=60))
        if "method" not in message:
            self.answers[message["id"]] = message
        elif message["method"] == "rows":
            params = message["params"]
            number = params["subscription"]
            self.followers[number].take(params["messages"], is_whole=params["upToDate"])
            if params["upToDate"]:
                self.offsets[number] = params["offset"]
        elif message["method"] == "ended":
            self.ended[message["params"]["subscription"]] = message["params"]["problem"]
        return message

    def until(self, number: int, expected: dict[str, Any]) -> None:
        for _ in patience(f"rows {expected}"):  # a server that sends nothing else says that it lives
            if self.followers[number].rows == expected:
                return
            self.receive()


@contextmanager
def opened(address: str, **options: Any) -> Iterator[Socket]:
    with connect(f"{address.replace('http', 'ws')}/ws", **options) as connection:
        yield Socket(connection)


def expected(rows: Rows, prefix: str) -> dict[str, Any]:
    found = {path.removeprefix(prefix): fields for path, fields in rows.expected.items() if path.startswith(prefix)}
    return {
        name: {key: value for key, value in fields.items() if not key.startswith("_")} for name, fields in found.items()
    }


def test_many_views_over_one_connection(rows: Rows, address: str) -> None:
    rows.board("b1")
    rows.inbox("p1", "c1", "hello")
    with opened(address) as socket:
        boards, inboxes = socket.subscribe("Board"), socket.subscribe("Inbox")
        socket.until(boards, expected(rows, "boards/"))
        socket.until(inboxes, {"p1/inbox/c1": {"text": "hello"}})
        rows.commit((BOARD, "boards/b2", {"text": "b2", "rank": 2}), (INBOX, "people/p1/inbox/c1", None))
        socket.until(boards, expected(rows, "boards/"))
        socket.until(inboxes, {})
        assert socket.call("unsubscribe", subscription=boards)["result"] == {"subscription": boards}
        rows.board("b3")
        rows.inbox("p1", "c2", "hello")
        socket.until(inboxes, {"p1/inbox/c2": {"text": "hello"}})
        assert "b3" not in socket.followers[boards].rows


def test_a_client_that_comes_back_gets_what_it_missed_and_nothing_else(rows: Rows, address: str) -> None:
    for number in range(5):
        rows.board(f"b{number}")
    with opened(address) as socket:
        number = socket.subscribe("Board")
        socket.until(number, expected(rows, "boards/"))
        follower, offset = socket.followers[number], socket.offsets[number]
    rows.board("b0", text="meanwhile")
    rows.commit((BOARD, "boards/b1", None))
    with opened(address) as socket:
        number = socket.subscribe("Board", offset=offset, follower=follower)
        message = socket.receive()["params"]["messages"]
        assert [(one["key"], one["headers"]["operation"]) for one in message] == [("b0", "update"), ("b1", "delete")]
        socket.until(number, expected(rows, "boards/"))


def test_a_client_whose_history_is_gone_is_told_and_gets_all_rows(rows: Rows, address: str) -> None:
    rows.writer.log._retention = Retention(entries=4)  # type: ignore[attr-defined]
    rows.board("b1")
    with opened(address) as socket:
        number = socket.subscribe("Board")
        socket.until(number, expected(rows, "boards/"))
        offset = socket.offsets[number]
    rows.commit((BOARD, "boards/b1", None), *((BOARD, f"boards/c{at}", {"text": "c", "rank": 1}) for at in range(6)))
    for given in (offset, f"otherincarna.{offset.partition('.')[2]}"):
        with opened(address) as socket:
            number = socket.subscribe("Board", offset=given)
            first = socket.receive()["params"]["messages"]
            assert [one["headers"].get("control") for one in first[:2]] == ["reset", "snapshot-start"]
            assert socket.followers[number].rows == expected(rows, "boards/")


def test_another_incarnation_while_a_client_follows(rows: Rows, address: str) -> None:
    rows.board("b1")
    with opened(address) as socket:
        number = socket.subscribe("Board")
        socket.until(number, expected(rows, "boards/"))
        rows.writer.log._database.execute("BEGIN")  # type: ignore[attr-defined]
        rows.writer.log.renew()  # type: ignore[attr-defined]
        rows.writer.log._database.execute("COMMIT")  # type: ignore[attr-defined]
        rows.board("b2")
        socket.until(number, expected(rows, "boards/"))
        rows.board("b3")
        socket.until(number, expected(rows, "boards/"))


def test_another_file_in_the_place_of_the_rows(tmp_path: Path) -> None:
    """Its numbers say nothing about the rows that a client has, even where they are greater."""
    path, other = tmp_path / "rows.db", tmp_path / "other.db"
    with Rows(path).open() as rows:
        rows.board("old")
    with serve(asgi_app(VIEWS, rows=f"sqlite:{path}")) as address, opened(address) as socket:
        number = socket.subscribe("Board")
        socket.until(number, {"old": {"text": "old", "rank": 1}})
        with Rows(other).open() as rows:
            for name in ("new1", "new2", "new3"):
                rows.board(name)
        for name in (f"{path}-wal", f"{path}-shm"):
            Path(name).unlink(missing_ok=True)
        other.replace(path)
        socket.until(number, {name: {"text": name, "rank": 1} for name in ("new1", "new2", "new3")})


def test_ten_thousand_changes_in_a_burst_reach_a_client_that_did_not_read(rows: Rows, address: str) -> None:
    with opened(address, max_queue=1) as socket:
        number = socket.subscribe("Board")
        for batch in range(20):
            changed = ((BOARD, f"boards/b{at % 7}", {"text": f"{batch}.{at}", "rank": at}) for at in range(500))
            rows.commit(*changed)
        frames = 0
        while socket.followers[number].rows != expected(rows, "boards/"):
            socket.receive()
            frames += 1
        assert frames < 60, "only the newest version of each row is sent"


def test_the_reader_is_released_when_the_last_client_leaves(rows: Rows, address: str) -> None:
    rows.board("b1")
    with client(address) as http:
        with opened(address) as one, opened(address) as other:
            for socket in (one, other):
                socket.until(socket.subscribe("Board"), expected(rows, "boards/"))
            assert 'clients{view="Board"} 2' in http.get("/metrics").text
        while 'clients{view="Board"} 0' not in http.get("/metrics").text:
            pass


def test_malformed_frames_spoil_nothing(rows: Rows, address: str) -> None:
    rows.board("b1")
    with opened(address) as socket:
        for frame, code in (("{", -32700), ("[]", -32600), ('{"id": 1}', -32600), (b"\xff\xfe", -32700)):
            socket.send(frame)
            assert json.loads(socket.connection.recv())["error"]["code"] == code
        assert socket.call("subscribe", view="Nothing")["error"]["code"] == 404
        assert socket.call("subscribe", view="Board", offset="x")["error"]["code"] == 400
        assert socket.call("subscribe", view="Board", offset=7)["error"]["code"] == 400
        assert socket.call("unsubscribe", subscription=9)["error"]["code"] == 404
        assert socket.call("get", view="Board", id="b1")["result"]["fields"]["text"] == "b1"
        for _ in range(100):
            socket.subscribe("Board", offset="now")
        assert socket.call("subscribe", view="Board")["error"]["code"] == 429


def test_a_page_of_another_site_may_not_connect(address: str) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)), opened(address, origin="https://evil.example") as socket:
        socket.connection.recv(timeout=5)


def test_tokens_over_a_websocket(rows: Rows, guarded: str) -> None:
    rows.inbox("ann", "c1", "for ann")
    rows.inbox("bob", "c1", "for bob")
    with opened(guarded) as socket:
        assert socket.call("subscribe", view="Inbox")["error"]["code"] == 401, "told aloud, not silently empty"
        assert socket.call("authenticate", token="bad")["error"]["code"] == 401
        assert socket.call("authenticate", token="ann")["result"] == {"user": "ann"}
        number = socket.subscribe("Inbox")
        socket.until(number, {"ann/inbox/c1": {"text": "for ann"}})
        assert socket.call("authenticate", token="bob")["error"]["code"] == 400
        assert socket.call("subscribe", view="Board")["error"]["code"] == 403
    with opened(guarded, additional_headers={"Authorization": "Bearer old"}) as socket:
        number = socket.subscribe("Inbox")
        while number not in socket.ended:
            socket.receive()
        assert socket.ended[number]["title"] == "token expired"


@pytest.mark.parametrize("seed", range(2))
def test_any_history_of_visible_rows_with_reconnects_ends_with_what_each_user_may_see(
    rows: Rows, uri: str, seed: int
) -> None:
    order = random.Random(seed)
    rows.writer.log._retention = Retention(entries=40)  # type: ignore[attr-defined]
    people = ["ann", "bob", "cid"]
    app = asgi_app(VIEWS, rows=uri, auth=names_are_tokens, limits=Limits(chunk=3, kept=5))
    followers: dict[str, tuple[Follower, str]] = {name: (Follower(), "-1") for name in people}
    with serve(app) as address:
        for _ in range(12):
            for _ in range(order.randrange(12)):
                owner, name = order.choice(people), f"c{order.randrange(4)}"
                if order.random() < 0.25:
                    rows.commit((INBOX, f"people/{owner}/inbox/{name}", None))
                else:
                    rows.inbox(owner, name, str(order.random()), order.sample(people, order.randrange(3)))
            for person in order.sample(people, 2):
                followers[person] = _come_back(address, rows, person, *followers[person])
        for person in people:
            _come_back(address, rows, person, *followers[person])


def _come_back(address: str, rows: Rows, person: str, follower: Follower, offset: str) -> tuple[Follower, str]:
    seen = {
        path.removeprefix("people/"): {"text": fields["text"]}
        for path, fields in rows.expected.items()
        if path.startswith("people/") and person in fields["_viewers"]
    }
    with opened(address, additional_headers={"Authorization": f"Bearer {person}"}) as socket:
        number = socket.subscribe("Inbox", offset=offset, follower=follower)
        if follower.rows != seen or number not in socket.offsets:
            socket.until(number, seen)
        return follower, socket.offsets.get(number, offset)


def test_the_description_of_frames_fits_what_is_sent(rows: Rows, address: str) -> None:
    """Each frame of the server fits its payload's schema, as far as types, constants and enums say."""
    jsonschema = pytest.importorskip(
        "jsonschema_rs", reason="jsonschema_rs is not installed: it comes with schemathesis"
    )
    rows.board("b1")
    with client(address) as http:
        told = http.get("/asyncapi.json").json()
    with opened(address) as socket:
        frames = [socket.call("get", view="Board", id="b1"), socket.call("get", view="Board", id="no")]
        socket.send({"jsonrpc": "2.0", "id": "s", "method": "subscribe", "params": {"view": "Board"}})
        socket.followers[1] = Follower()
        frames += [socket.receive(), socket.receive()]
        rows.commit((BOARD, "boards/b1", None))
        frames.append(socket.receive())
    assert [frame.get("method", "answer") for frame in frames] == ["answer", "answer", "answer", "rows", "rows"]
    for frame in frames:
        payload = told["components"]["messages"][frame.get("method", "answer")]["payload"]
        jsonschema.validate({**payload, "components": told["components"]}, frame)
    bad = {"jsonrpc": "2.0", "method": "rows", "params": {"subscription": 1, "messages": [{"type": "Nix", "key": 1}]}}
    payload = told["components"]["messages"]["rows"]["payload"]
    assert not jsonschema.is_valid({**payload, "components": told["components"]}, bad)


def rpc(http: httpx.Client, body: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post("/rpc", content=content, headers={"Content-Type": "application/json"})


def test_rpc_answers_each_call_of_a_batch_by_itself(rows: Rows, http: httpx.Client) -> None:
    rows.board("b1")
    calls = [
        {"jsonrpc": "2.0", "id": "a", "method": "get", "params": {"view": "Board", "id": "b1"}},
        7,
        {"jsonrpc": "2.0", "method": "get", "params": {"view": "Board", "id": "b1"}},
        {"jsonrpc": "2.0", "id": 2, "method": "get", "params": {"view": "Board", "id": "no"}},
        {
            "jsonrpc": "2.0",
            "id": 3,
            "method": "list",
            "params": {"view": "Board", "order": "-rank", "filters": {"rank": 1}},
        },
        {"jsonrpc": "2.0", "id": 4, "method": "drop", "params": {}},
        {"jsonrpc": "2.0", "id": 5, "method": "get", "params": [1]},
        {"jsonrpc": "2.0", "id": 6, "method": "update", "params": {"view": "Board", "id": "b1", "fields": {}}},
    ]
    answers = {one["id"]: one for one in rpc(http, calls).json()}
    assert answers["a"]["result"]["fields"] == {"text": "b1", "rank": 1}
    assert answers[None]["error"]["code"] == -32600
    assert answers[2]["error"] == {
        "code": 404, "message": "no such row", "data": {"type": "about:blank", "title": "no such row", "status": 404},
    }  # fmt: skip
    assert [row["id"] for row in answers[3]["result"]["rows"]] == ["b1"]
    assert [answers[number]["error"]["code"] for number in (4, 5, 6)] == [-32601, -32602, 405]
    assert len(answers) == 7, "a notification is not answered"


def test_rpc_of_notifications_alone_has_no_answer(http: httpx.Client) -> None:
    answer = rpc(http, [{"jsonrpc": "2.0", "method": "get", "params": {}}])
    assert (answer.status_code, answer.content) == (204, b"")
    for body in (b"{", b"[]", b"null"):
        assert rpc(http, body).json()["error"]["code"] in (-32700, -32600)
    assert rpc(http, [{"jsonrpc": "2.0", "id": 1, "method": "get"}] * 101).json()["error"]["code"] == -32600
    assert http.get("/rpc").status_code == 405
