"""How much one client may ask for: buckets by a given clock, and 429 over every protocol of a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from boiler_beam.serving import ClientLimits, Problem, asgi_app, signed_in
from boiler_beam.serving.access import NOBODY
from boiler_beam.serving.limits import Rates
from tests.helpers.serving import VIEWS, Rows, client, names_are_tokens, serve, socket_io
from tests.serving.test_streams import stream_of
from tests.serving.test_websocket import opened

ONCE = ClientLimits(requests_per_second=1e-6, burst=4)
"""Four requests, and then none for a long time."""


def test_a_bucket_is_emptied_by_requests_and_filled_by_time() -> None:
    now = [100.0]
    rates = Rates(ClientLimits(requests_per_second=2, burst=3), lambda: now[0])
    rates.take(NOBODY, "a", 3)
    with pytest.raises(Problem) as refused:
        rates.take(NOBODY, "a")
    assert (refused.value.status, dict(refused.value.headers)) == (429, {"Retry-After": "1"})
    rates.take(NOBODY, "b")
    rates.take(signed_in("ann"), "a", 3)
    with pytest.raises(Problem):
        rates.take(signed_in("ann"), "elsewhere")
    now[0] += 0.5
    rates.take(NOBODY, "a")
    with pytest.raises(Problem) as refused:
        rates.take(NOBODY, "a", 3)
    assert dict(refused.value.headers) == {"Retry-After": "2"}
    now[0] += 60
    rates.take(NOBODY, "a", 3)
    with pytest.raises(Problem):
        rates.take(NOBODY, "a", 1)


def test_by_default_two_seconds_may_come_at_once_and_clients_are_forgotten() -> None:
    rates = Rates(ClientLimits(requests_per_second=0.25), lambda: 0.0)
    rates.take(NOBODY, "a")
    with pytest.raises(Problem):
        rates.take(NOBODY, "a")
    for number in range(10_000):
        rates.take(NOBODY, f"b{number}")
    rates.take(NOBODY, "a")


@pytest.fixture(name="limited")
def _limited(rows: Rows, uri: str) -> Iterator[str]:
    rows.room("r1")
    with serve(asgi_app(VIEWS, rows=uri, auth=names_are_tokens, clients=ONCE)) as address:
        yield address


def check_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["title"]) == (429, "too many requests")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"


def test_each_user_has_requests_of_their_own_over_http(limited: str) -> None:
    with client(limited, "ann") as ann, client(limited, "bob") as bob:
        assert [ann.get("/views/Room/r1").status_code for _ in range(4)] == [200] * 4
        query = {"query": '{ Room(id: "r1") { id } }'}
        call = {"jsonrpc": "2.0", "id": 1, "method": "get", "params": {"view": "Room", "id": "r1"}}
        check_refused(ann.get("/views/Room/r1"))
        check_refused(ann.get("/views/Room/stream"))
        check_refused(ann.patch("/views/Room/r1", json={}))
        check_refused(ann.post("/graphql", json=query))
        check_refused(ann.post("/rpc", json=call))
        assert bob.get("/views/Room/r1").status_code == 200
        assert len(bob.post("/rpc", json=[call, call]).json()) == 2
        check_refused(bob.post("/rpc", json=[call, call]))
        for path in ("/healthz", "/readyz", "/metrics"):
            assert ann.get(path).status_code == 200


def test_bad_tokens_are_counted_too(limited: str) -> None:
    with client(limited, "bad") as http:
        assert [http.get("/views/Room/r1").status_code for _ in range(6)] == [401] * 4 + [429] * 2


def test_frames_are_counted(limited: str) -> None:
    with opened(limited, additional_headers={"Authorization": "Bearer cid"}) as socket:
        assert "result" in socket.call("get", view="Room", id="r1")
        socket.send([{"jsonrpc": "2.0", "id": number, "method": "get"} for number in range(3)])
        refused = socket.receive()
        assert (refused["id"], refused["error"]["code"]) == (None, 429)
        number = socket.subscribe("Room")
        assert "result" in socket.call("unsubscribe", subscription=number)
        assert socket.call("get", view="Room", id="r1")["error"]["data"]["title"] == "too many requests"
    with pytest.raises(InvalidStatus), opened(limited, additional_headers={"Authorization": "Bearer cid"}):
        pass
    with socket_io(limited, "dan") as io:
        assert [("error" in io.call("get", view="Room", id="r1")) for _ in range(4)] == [False] * 3 + [True]
    with socket_io(limited, "dan") as io:
        assert io.connected.startswith("44"), "refused"
        assert json.loads(io.connected[2:])["data"]["status"] == 429


def test_connections_of_one_address_are_limited(rows: Rows, uri: str) -> None:
    rows.board("b1")
    app = asgi_app(VIEWS, rows=uri, clients=ClientLimits(connections_per_client=2))
    with serve(app) as address, client(address) as http:
        url = stream_of(http)
        with opened(address) as socket, http.stream("GET", url, params={"offset": "-1", "live": "sse"}) as stream:
            parts = stream.iter_raw()  # the stream is open while it is there
            next(parts)
            refused = http.get("/views/Board/b1")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            with pytest.raises(InvalidStatus) as closed, connect(f"{address.replace('http', 'ws')}/ws"):
                pass
            assert closed.value.response.status_code == 429
            assert http.get("/healthz").status_code == 200
            assert "result" in socket.call("get", view="Board", id="b1")
            del parts
        while http.get("/views/Board/b1").status_code == 429:
            pass


def test_all_connections_are_limited(rows: Rows, uri: str) -> None:
    rows.board("b1")
    with serve(asgi_app(VIEWS, rows=uri, clients=ClientLimits(connections=1))) as address, client(address) as http:
        with opened(address) as socket:
            assert "result" in socket.call("get", view="Board", id="b1")
            assert http.get("/views/Board/b1").status_code == 429
        while http.get("/views/Board/b1").status_code == 429:
            pass
