"""Clients of live rows behind proxies: a shared cache, a browser's cache, and one that strips query strings."""

from __future__ import annotations

import random
from typing import Any

import pytest

from boiler_beam.serving import asgi_app
from boiler_beam.serving.hub import Limits
from tests.helpers.http_proxy import CachingProxy, StrippingProxy
from tests.helpers.serving import BOARD, VIEWS, Follower, Rows, client, names_are_tokens, random_boards, serve
from tests.serving.test_live_cases import seen
from tests.serving.test_streams import catch_up, step, stream_of

CHUNKS = Limits(chunk=3, kept=5)


@pytest.mark.parametrize("seed", range(2))
def test_plain_clients_behind_a_shared_cache_end_with_the_rows_that_stand(rows: Rows, uri: str, seed: int) -> None:
    """Many clients read through one cache, at any offset, whose clock stands still: what it may keep, it keeps."""
    order = random.Random(seed)
    with serve(asgi_app(VIEWS, rows=uri, limits=CHUNKS)) as server, CachingProxy(server, lambda: 0.0) as proxy:
        with client(proxy.address) as http:
            rows.board("b0")
            url = stream_of(http)
            clients = [(Follower(), ["-1"]) for _ in range(4)]
            for _ in range(20):
                rows.commit(*random_boards(order))
                follower, offsets = order.choice(clients)
                for _ in range(order.randrange(4)):
                    step(http, url, follower, offsets, order)
                if order.random() < 0.2:  # another one begins, with what the cache has
                    clients[order.randrange(4)] = (Follower(), ["-1"])
            for follower, offsets in clients:
                while not step(http, url, follower, offsets, None):
                    pass
                assert follower.rows == seen(rows)
            for _ in range(2):  # one row is validated
                row = http.get("/views/Board/b0")
                assert row.status_code == (200 if "b0" in seen(rows) else 404)
        assert proxy.hits
        assert proxy.validated


def test_a_cache_answers_for_the_server_where_it_may(rows: Rows, uri: str) -> None:
    for number in range(8):
        rows.board(f"b{number}")
    now = [0.0]
    server = serve(asgi_app(VIEWS, rows=uri, limits=CHUNKS))
    with server as address, CachingProxy(address, lambda: now[0]) as proxy, client(proxy.address) as http:
        url = stream_of(http)
        for _ in range(2):
            follower = Follower()
            catch_up(http, url, follower)
            assert follower.rows == seen(rows)
        assert (proxy.hits, proxy.validated) == (2, 1), "two parts of a snapshot are kept, the last one is validated"
        rows.board("b0", text="new")
        rows.commit((BOARD, "boards/b1", None))
        for seconds in (0.0, 61.0):
            now[0] += seconds
            follower = Follower()
            catch_up(http, url, follower)
            assert follower.rows == seen(rows)
        assert http.get("/views/Board/b0").json()["fields"]["text"] == "new"
        rows.board("b0", text="newer")
        assert http.get("/views/Board/b0").json()["fields"]["text"] == "newer"


@pytest.mark.parametrize("live", ["long-poll", "sse"])
def test_the_published_client_behind_a_shared_cache(rows: Rows, uri: str, live: str) -> None:
    durable_streams = pytest.importorskip("durable_streams", reason="pip install durable-streams")
    for number in range(8):
        rows.board(f"b{number}")
    server = serve(asgi_app(VIEWS, rows=uri, limits=CHUNKS))
    with server as address, CachingProxy(address, lambda: 0.0) as proxy, client(proxy.address) as http:
        url = f"{proxy.address}{stream_of(http)}"
        for text in ("first", "second"):  # the second time the cache has parts of a snapshot
            found: dict[str, Any] = {}
            with durable_streams.stream(url, offset="-1", live=False) as answer:
                for message in answer.iter_json():
                    _apply(found, message)
                offset = answer.offset
            assert found == seen(rows)
            rows.commit((BOARD, "boards/b0", {"text": text, "rank": 2}))
            rows.commit((BOARD, "boards/b1" if text == "first" else "boards/b2", None))
            with durable_streams.stream(url, offset=offset, live=live) as answer:
                for message in answer.iter_json():
                    _apply(found, message)
                    if found == seen(rows):
                        break
        assert proxy.hits


def _apply(found: dict[str, Any], message: Any) -> None:
    operation = message["headers"].get("operation")
    if operation == "delete":
        found.pop(message["key"], None)
    elif operation is not None:
        found[message["key"]] = message["value"]["fields"]


def test_a_cache_that_two_users_share_gives_none_the_rows_of_the_other(rows: Rows, uri: str) -> None:
    """That of a browser in which one user signs out and another one signs in: it may keep what is private."""
    for name in ("ann", "bob"):
        for number in range(8):
            rows.inbox(name, f"c{number}", f"for {name}")
    app = asgi_app(VIEWS, rows=uri, auth=names_are_tokens, limits=CHUNKS)
    with serve(app) as server, CachingProxy(server, lambda: 0.0, is_shared=False) as proxy:
        for _ in range(2):
            for name in ("ann", "bob"):
                with client(proxy.address, name) as http:
                    follower = Follower()
                    catch_up(http, stream_of(http, "Inbox"), follower)
                    assert follower.rows == seen(rows, "people/", name)
                    assert [row["id"][:3] for row in http.get("/views/Inbox").json()["rows"]] == [name] * 8
                    assert http.get(f"/views/Inbox/{name}%2Finbox%2Fc1").json()["fields"] == {"text": f"for {name}"}
        assert proxy.hits, "what one user was sent is kept for that user"
    with serve(app) as server, CachingProxy(server, lambda: 0.0) as proxy:
        for name in ("ann", "bob", "ann"):
            with client(proxy.address, name) as http:
                follower = Follower()
                catch_up(http, stream_of(http, "Inbox"), follower)
                assert follower.rows == seen(rows, "people/", name)
        assert not proxy.hits, "a cache for all keeps nothing that is private"


@pytest.mark.parametrize("live", [False, "long-poll", "sse"])
def test_a_proxy_that_strips_query_strings_is_refused_aloud(rows: Rows, uri: str, live: Any) -> None:
    """Each request would get all rows again, from the first one, and no row would ever be deleted at the client."""
    durable_streams = pytest.importorskip("durable_streams", reason="pip install durable-streams")
    for number in range(8):
        rows.board(f"b{number}")
    with serve(asgi_app(VIEWS, rows=uri, limits=CHUNKS)) as server, StrippingProxy(server) as proxy:
        with client(proxy.address) as http:
            url = stream_of(http)
            query = {} if not live else {"live": live}
            for offset in ("-1", "now", "0000000000000003_z"):
                answer = http.get(url, params={"offset": offset, **query})
                assert answer.status_code == 400
                assert "a proxy has removed the query string" in answer.json()["detail"]
            assert http.get("/views/Board/b1").json()["fields"]["text"] == "b1"
        with pytest.raises(durable_streams.DurableStreamError, match="400"):
            first_of(durable_streams.stream(f"{proxy.address}{url}", offset="-1", live=live))


def first_of(stream: Any) -> Any:
    with stream as answer:
        return next(answer.iter_json())
