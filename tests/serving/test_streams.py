"""Durable Streams against a running server: catch-up, long-poll, server-sent events, and their published client."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from boiler_beam.connectors.commit_log import Retention
from boiler_beam.serving import asgi_app
from boiler_beam.serving.hub import Limits
from tests.helpers.servers import wait_until
from tests.helpers.serving import BOARD, VIEWS, Follower, Rows, client, events, random_boards, serve

SMALL = Limits(chunk=3, kept=5)


@pytest.fixture(name="small")
def _small(uri: str) -> Iterator[httpx.Client]:
    """A server that sends three rows at once, and keeps five messages."""
    with serve(asgi_app(VIEWS, rows=uri, limits=SMALL)) as address, client(address) as http:
        yield http


def stream_of(http: httpx.Client, view: str = "Board") -> str:
    answer = http.get(f"/views/{view}/stream")
    assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
    return answer.headers["location"]


def catch_up(http: httpx.Client, url: str, follower: Follower, offset: str = "-1") -> str:
    """Reads to the tail; returns the offset there."""
    while True:
        answer = http.get(url, params={"offset": offset})
        answer.raise_for_status()
        is_whole = answer.headers.get("stream-up-to-date") == "true"
        follower.take(answer.json(), is_whole=is_whole)
        assert answer.headers["stream-next-offset"] > offset or is_whole
        offset = answer.headers["stream-next-offset"]
        if is_whole:
            return offset


def test_catch_up_gives_all_rows_in_chunks_then_what_changed(rows: Rows, small: httpx.Client) -> None:
    for number in range(8):
        rows.board(f"b{number}")
    url, follower = stream_of(small), Follower()
    first = small.get(url, params={"offset": "-1"}).json()
    assert first[0]["headers"]["control"] == "snapshot-start"
    assert [one.get("key") for one in first[1:]] == ["b0", "b1", "b2"]
    offset = catch_up(small, url, follower)
    assert sorted(follower.rows) == [f"b{number}" for number in range(8)]
    rows.board("b3", text="new")
    rows.commit((BOARD, "boards/b4", None), (BOARD, "boards/b9", {"text": "b9", "rank": 9}))
    answer = small.get(url, params={"offset": offset})
    told = [(one["headers"]["operation"], one["key"], one["headers"]["txid"]) for one in answer.json()]
    assert told == [("update", "b3", "9"), ("delete", "b4", "10"), ("insert", "b9", "10")]
    assert answer.headers["stream-up-to-date"] == "true"
    assert small.get(url, params={"offset": answer.headers["stream-next-offset"]}).json() == []


def test_rows_that_change_while_a_snapshot_is_read_are_right_at_its_end(rows: Rows, small: httpx.Client) -> None:
    for number in range(9):
        rows.board(f"b{number}")
    url, follower, offset = stream_of(small), Follower(), "-1"
    order = random.Random(5)
    while True:
        answer = small.get(url, params={"offset": offset})
        is_whole = "stream-up-to-date" in answer.headers
        follower.take(answer.json(), is_whole=is_whole)
        offset = answer.headers["stream-next-offset"]
        if is_whole:
            break
        if rows.version < 20:
            rows.board(f"b{order.randrange(9)}", text=f"at {rows.version}")
            rows.commit((BOARD, f"boards/b{order.randrange(9)}", None))
    assert follower.rows == {path[7:]: fields for path, fields in rows.expected.items()}


def test_what_was_read_is_not_sent_again(rows: Rows, http: httpx.Client) -> None:
    rows.board("b1")
    url = stream_of(http)
    answer = http.get(url, params={"offset": "-1"})
    again = http.get(url, params={"offset": "-1"}, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    rows.board("b1", text="new")
    again = http.get(url, params={"offset": "-1"}, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 200


def test_a_long_poll_waits_for_a_change(rows: Rows, http: httpx.Client) -> None:
    rows.board("b1")
    url, follower = stream_of(http), Follower()
    offset = catch_up(http, url, follower)
    found: list[httpx.Response] = []
    query = {"offset": offset, "live": "long-poll"}
    waiting = threading.Thread(target=lambda: found.append(http.get(url, params=query)))
    waiting.start()
    while 'clients{view="Board"} 1' not in http.get("/metrics").text:
        pass
    rows.board("b2")
    waiting.join()
    (answer,) = found
    assert [one["key"] for one in answer.json()] == ["b2"]
    assert answer.headers["stream-up-to-date"] == "true"
    cursor = answer.headers["stream-cursor"]
    rows.board("b3")
    later = http.get(url, params={**query, "offset": answer.headers["stream-next-offset"], "cursor": cursor})
    assert int(later.headers["stream-cursor"]) > int(cursor)


def test_a_long_poll_that_waits_in_vain_says_so(rows: Rows, uri: str) -> None:
    rows.board("b1")
    app = asgi_app(VIEWS, rows=uri)
    with serve(app) as address, client(address) as http:
        url = stream_of(http)
        with http.stream("GET", url, params={"offset": "now", "live": "sse"}) as answer:
            kind, told = next(events(next(answer.iter_text())))
        assert (kind, told["upToDate"]) == ("control", True)


def test_server_sent_events_carry_rows_then_changes(rows: Rows, small: httpx.Client) -> None:
    for number in range(7):
        rows.board(f"b{number}")
    url, follower = stream_of(small), Follower()
    with small.stream("GET", url, params={"offset": "-1", "live": "sse"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        pending: list[Any] = []
        is_changed, buffered = False, ""
        for text in answer.iter_text():
            buffered += text
            done, _, buffered = buffered.rpartition("\n\n")
            for kind, told in events(done):
                if kind == "data":
                    pending += told
                    continue
                follower.take(pending, is_whole=told.get("upToDate", False))
                pending = [] if told.get("upToDate") else pending[:0]
                offset = told["streamNextOffset"]
            if "b6" in follower.rows and not is_changed:
                rows.board("b0", text="new")
                is_changed = True
            if follower.rows.get("b0", {}).get("text") == "new":
                break
    assert sorted(follower.rows) == [f"b{number}" for number in range(7)]
    assert small.get(url, params={"offset": offset}).json() == []


def test_history_that_is_gone_and_other_incarnations_are_410(rows: Rows, small: httpx.Client, tmp_path: Path) -> None:
    rows.sink.retention = rows.writer.log._retention = Retention(entries=4)  # type: ignore[attr-defined]
    rows.board("b1")
    url = stream_of(small)
    offset = catch_up(small, url, Follower())
    rows.commit(*((BOARD, f"boards/c{number}", {"text": "c", "rank": 1}) for number in range(6)))
    answer = small.get(url, params={"offset": offset})
    assert (answer.status_code, answer.headers["cache-control"]) == (410, "no-store")
    follower = Follower()
    follower_offset = catch_up(small, url, follower)
    assert len(follower.rows) == 7
    other = url.replace(url.split("/")[3], "abcdefabcdef")
    for query in ("offset=-1", "offset=now", "offset=now&live=sse", "offset=now&live=long-poll"):
        assert small.get(f"{other}?{query}").status_code == 410
    assert small.head(other).status_code == 410
    assert small.head(url).headers["stream-next-offset"] == follower_offset


@pytest.mark.parametrize(
    "query", ["offset=", "offset=x", "offset=1_z", "offset=-1&offset=-1", "live=sse", "offset=-1&live=x"]
)
def test_malformed_requests(http: httpx.Client, rows: Rows, query: str) -> None:
    rows.board("b1")
    assert http.get(f"{stream_of(http)}?{query}").status_code == 400


def test_the_published_client_follows_a_view(rows: Rows, small: httpx.Client) -> None:
    durable_streams = pytest.importorskip("durable_streams", reason="pip install durable-streams")
    for number in range(7):
        rows.board(f"b{number}")
    url, follower = f"{small.base_url}{stream_of(small)}", Follower()
    with durable_streams.stream(url, offset="-1", live=False) as answer:
        follower.take(list(answer.iter_json()), is_whole=True)
    assert sorted(follower.rows) == [f"b{number}" for number in range(7)]
    for live in ("long-poll", "sse"):
        rows.board("b0", text=f"by {live}")
        with durable_streams.stream(url, offset="-1", live=live) as answer:
            for message in answer.iter_json():
                if message.get("key") == "b0" and message["value"]["fields"]["text"] == f"by {live}":
                    break
        offset = catch_up(small, url, follower)
        found: list[Any] = []  # a long-poll waits for the first answer before it returns
        opening = threading.Thread(
            target=lambda: found.append(durable_streams.stream(url, offset=offset, live=live))  # noqa: B023
        )
        opening.start()
        wait_until(lambda: 'clients{view="Board"} 1' in small.get("/metrics").text, "the client follows")
        rows.board("b1", text=f"by {live}")
        opening.join()
        with found[0] as answer:
            for message in answer.iter_json():
                if message.get("key") == "b1" and message["value"]["fields"]["text"] == f"by {live}":
                    break


def test_one_reader_for_all_clients_which_is_released_with_the_last(rows: Rows, uri: str) -> None:
    app = asgi_app(VIEWS, rows=uri)
    with serve(app) as address, client(address) as http:
        rows.board("b0")
        url = stream_of(http)
        offset = catch_up(http, url, Follower())
        query = {"offset": offset, "live": "long-poll"}
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(http.get(url, params=query).json())) for _ in range(20)]
        for one in threads:
            one.start()
        while 'clients{view="Board"} 20' not in http.get("/metrics").text:
            pass
        before = reads(http)
        rows.board("b1")
        for one in threads:
            one.join()
        assert reads(http) - before == 1, "what changed was read once"
        assert [[one["key"] for one in told] for told in found] == [["b1"]] * 20
        assert 'clients{view="Board"} 0' in http.get("/metrics").text


def reads(http: httpx.Client) -> int:
    (line,) = [
        one
        for one in http.get("/metrics").text.splitlines()
        if one.startswith("boiler_beam_serving_store_reads_total ")
    ]
    return int(line.split()[1])


@pytest.mark.parametrize("seed", range(2))
def test_any_history_with_reconnects_at_any_offset_ends_with_the_rows_that_stand(
    uri: str, rows: Rows, seed: int
) -> None:
    """Clients read at random, drop what they did not have whole, go on from old offsets, and meet forgotten history."""
    order = random.Random(seed)
    rows.writer.log._retention = Retention(entries=30)  # type: ignore[attr-defined]
    app = asgi_app(VIEWS, rows=uri, limits=Limits(chunk=4, kept=6))
    with serve(app) as address, client(address) as http:
        rows.board("b0")
        url = stream_of(http)
        clients = [(Follower(), ["-1"]) for _ in range(4)]
        for _ in range(60):
            rows.commit(*random_boards(order))
            follower, offsets = order.choice(clients)
            for _ in range(order.randrange(4)):
                step(http, url, follower, offsets, order)
        for follower, offsets in clients:
            while not step(http, url, follower, offsets, None):
                pass
            assert follower.rows == {path[7:]: fields for path, fields in rows.expected.items()}


def step(http: httpx.Client, url: str, follower: Follower, offsets: list[str], order: random.Random | None) -> bool:
    """Reads once from the last offset that is whole, or from the one behind it; returns whether it is at the tail."""
    answer = http.get(url, params={"offset": offsets[-1]})
    if answer.status_code == 410:
        offsets[:] = ["-1"]
        follower.pending.clear()
        return False
    answer.raise_for_status()
    is_whole = answer.headers.get("stream-up-to-date") == "true"
    follower.take(answer.json() if answer.content else [], is_whole=is_whole)
    if is_whole:
        offsets[:] = [answer.headers["stream-next-offset"]]
    elif order is not None and order.random() < 0.3:  # the connection was lost: back to what was whole
        offsets[:] = offsets[:1]
        follower.pending.clear()
    else:
        offsets.append(answer.headers["stream-next-offset"])
    return is_whole
