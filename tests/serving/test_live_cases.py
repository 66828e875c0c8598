"""One table of cases against every protocol that sends live rows: what happens to clients, and to the server under them."""

from __future__ import annotations

import contextlib
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.routing import Mount
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from boiler_beam import Ref, transaction
from boiler_beam.connectors.commit_log import Retention
from boiler_beam.plan import compile_plan
from boiler_beam.serving import asgi_app, running
from boiler_beam.serving.app import application
from boiler_beam.serving.hub import Limits
from boiler_beam.serving.rows import Rows as StoredRows
from boiler_beam.serving.run import core_of
from boiler_beam.serving.socketio import socketio_app
from tests.helpers.desk import Task, TaskCard
from tests.helpers.live import LIVE, LOST, Live
from tests.helpers.servers import free_port, wait_until
from tests.helpers.serving import BOARD, VIEWS, Rows, client, names_are_tokens, serve, socket_io
from tests.serving.test_serve import documents, served, until_ready

Follow = Callable[..., Live]
SMALL = Limits(chunk=3, kept=5)
every_protocol = pytest.mark.parametrize("follow", LIVE.values(), ids=LIVE)


def seen(rows: Rows, prefix: str = "boards/", viewer: str | None = None) -> dict[str, Any]:
    """What a client must have at the end."""
    return {
        path.removeprefix(prefix): {name: value for name, value in fields.items() if not name.startswith("_")}
        for path, fields in rows.expected.items()
        if path.startswith(prefix) and (viewer is None or viewer in fields["_viewers"])
    }


def forget_all_but(rows: Rows, entries: int) -> None:
    rows.writer.log._retention = Retention(entries=entries)  # type: ignore[attr-defined]


def renew(rows: Rows) -> None:
    """Begins another incarnation, as an engine does that lost its state."""
    log: Any = rows.writer.log  # type: ignore[attr-defined]
    log._database.execute("BEGIN")
    log.renew()
    log._database.execute("COMMIT")


def until_nobody_follows(address: str, view: str = "Board") -> None:
    with client(address) as http:
        wait_until(lambda: f'clients{{view="{view}"}} 0' in http.get("/metrics").text, "nobody follows")


def begins_anew_once(client: Live, rows: Rows) -> None:
    """It gets the rows that stand after one reset, and goes on from there."""
    client.until(seen(rows))
    assert client.resets == 1
    rows.board("b3")
    client.until(seen(rows))
    assert client.resets == 1


@every_protocol
def test_lost_sight(rows: Rows, guarded: str, follow: Follow) -> None:
    rows.inbox("ann", "c1", "one", ["ann", "bob"])
    rows.inbox("ann", "c2", "two", ["ann", "bob"])
    with follow(guarded, "Inbox", "bob") as bob, follow(guarded, "Inbox", "ann") as ann:
        bob.until(seen(rows, "people/", "bob"))
        ann.until(seen(rows, "people/", "ann"))
        rows.inbox("ann", "c1", "secret", ["ann"])
        rows.inbox("ann", "c3", "secret too", ["ann"])
        bob.until({"ann/inbox/c2": {"text": "two"}})
        bob.cut()
        rows.inbox("ann", "c2", "secret as well", ["ann"])
        bob.until({})
        ann.until(seen(rows, "people/", "ann"))
        rows.inbox("ann", "c1", "for both", ["ann", "bob"])
        bob.until({"ann/inbox/c1": {"text": "for both"}})
        assert "secret" not in "".join(bob.heard)
        assert bob.resets == 0


@every_protocol
def test_what_others_may_see_keeps_nobody_from_a_whole_commit(rows: Rows, uri: str, follow: Follow) -> None:
    """The last chunk of a snapshot, or of changes, may hold no row for a client: it is told that it has all."""
    rows.inbox("a", "c1", "for bob", ["bob"])
    for number in range(4):
        rows.inbox("z", f"c{number}", "for ann", ["ann"])
    app = asgi_app(VIEWS, rows=uri, auth=names_are_tokens, limits=SMALL)
    with serve(app) as address, follow(address, "Inbox", "bob") as bob:
        bob.until({"a/inbox/c1": {"text": "for bob"}})
        bob.cut()
        rows.inbox("a", "c1", "new", ["bob"])
        for number in range(9):
            rows.inbox("z", f"c{number}", "more for ann", ["ann"])
        bob.until({"a/inbox/c1": {"text": "new"}})


@every_protocol
def test_a_slow_reader(rows: Rows, uri: str, follow: Follow) -> None:
    """It gets the newest rows only, and others do not wait for it."""
    small, commits, order = 1 << 14, 25, random.Random(5)
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serve(asgi_app(VIEWS, rows=uri), sent_bytes=small))
        slow = stack.enter_context(follow(address, "Board", received_bytes=small))
        quick = stack.enter_context(follow(address, "Board"))
        rows.board("b0")
        slow.until(seen(rows))
        for number in range(commits):
            rows.board(f"b{number % 2}", text=order.randbytes(20_000).hex())  # it can't be compressed much
            quick.until(seen(rows))
        before = len(slow.heard)
        slow.until(seen(rows))
        assert len(slow.heard) - before < commits - 5


@every_protocol
@pytest.mark.parametrize("goes_on", [False, True], ids=["from a whole commit", "from the last message"])
def test_a_disconnect_in_the_middle(rows: Rows, uri: str, follow: Follow, goes_on: bool) -> None:
    """Of a snapshot, and of changes, which come in several messages."""
    for number in range(10):
        rows.board(f"b{number}")
    with serve(asgi_app(VIEWS, rows=uri, limits=SMALL)) as address, follow(address, "Board") as one:
        one.goes_on = goes_on
        one.take()
        assert one.follower.pending, "a snapshot comes in parts"
        one.cut()
        until_nobody_follows(address)
        rows.board("b0", text="changed meanwhile")
        rows.commit((BOARD, "boards/b1", None))
        one.until(seen(rows))
        one.cut()
        rows.commit(*((BOARD, f"boards/b{at}", {"text": "new", "rank": at}) for at in range(2, 12)))
        one.take()
        assert one.follower.pending, "changes come in parts"
        one.cut()
        rows.board("b2", text="newer")
        rows.commit((BOARD, "boards/b3", None))
        one.until(seen(rows))
        assert one.connections >= 4
    rows.board("b4", text="after all")


@every_protocol
def test_a_burst_of_ten_thousand_messages(rows: Rows, address: str, follow: Follow) -> None:
    with follow(address, "Board") as one, follow(address, "Board") as late:
        rows.board("first")
        one.until(seen(rows))
        for batch in range(20):
            rows.commit(*((BOARD, f"boards/b{at % 7}", {"text": f"{batch}.{at}", "rank": at}) for at in range(500)))
        one.until(seen(rows))
        assert len(one.heard) < 60, "only the newest version of each row is sent"
        late.until(seen(rows))


@pytest.mark.slow
@every_protocol
def test_ten_thousand_rows(rows: Rows, address: str, follow: Follow) -> None:
    rows.commit(*((BOARD, f"boards/b{at}", {"text": f"{at}", "rank": at}) for at in range(5_000)))
    with follow(address, "Board") as one:
        one.until(seen(rows))
        rows.commit(*((BOARD, f"boards/b{at}", {"text": "new", "rank": at}) for at in range(2_500, 7_500)))
        one.until(seen(rows))
        assert one.resets == 0


@every_protocol
def test_history_gone(rows: Rows, address: str, follow: Follow) -> None:
    forget_all_but(rows, 4)
    rows.board("b1")
    rows.board("b2")
    with follow(address, "Board") as one:
        one.until(seen(rows))
        one.cut()
        until_nobody_follows(address)
        rows.commit(
            (BOARD, "boards/b1", None), *((BOARD, f"boards/c{at}", {"text": "c", "rank": 1}) for at in range(6))
        )
        begins_anew_once(one, rows)


@every_protocol
@pytest.mark.parametrize("is_away", [False, True], ids=["while it follows", "while it is away"])
def test_another_incarnation(rows: Rows, address: str, follow: Follow, is_away: bool) -> None:
    rows.board("b1")
    with follow(address, "Board") as one:
        one.until(seen(rows))
        if is_away:
            one.cut()
        renew(rows)
        rows.commit((BOARD, "boards/b1", None), (BOARD, "boards/b2", {"text": "b2", "rank": 2}))
        begins_anew_once(one, rows)


@every_protocol
def test_another_file_in_the_place_of_the_rows(tmp_path: Path, follow: Follow) -> None:
    """An engine was started again without its files: numbers begin again, and were of other rows."""
    path = tmp_path / "rows.db"
    with Rows(path).open() as rows:
        for number in range(5):
            rows.board(f"old{number}")
    with serve(asgi_app(VIEWS, rows=f"sqlite:{path}")) as address, follow(address, "Board") as one:
        one.until(seen(rows))
        with Rows(tmp_path / "other.db").open() as rows:
            rows.board("new")
        for name in (f"{path}-wal", f"{path}-shm"):
            Path(name).unlink(missing_ok=True)
        (tmp_path / "other.db").replace(path)
        one.until(seen(rows))
        assert one.resets == 1
        with Rows(path).open() as more:
            more.version = rows.version
            more.board("newer")
        one.until({**seen(rows), **seen(more)})
        assert one.resets == 1


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_a_restart_of_the_server(tmp_path: Path, signal_number: signal.Signals) -> None:
    """Clients of all protocols go on where they were; those that were cut do not believe that the end has come."""
    source, port = documents(tmp_path / "docs.db"), str(free_port())
    followers = {}
    with contextlib.ExitStack() as stack:
        with served(tmp_path, "--source", source, "--port", port) as (address, process), client(address) as http:
            row = until_ready(http)["fields"]
            for name, follow in LIVE.items():
                followers[name] = stack.enter_context(follow(address, "TaskCard"))
                followers[name].until({"t1": row})
            assert http.patch("/views/TaskCard/t1", json={"title": "before"}).status_code == 200
            for one in followers.values():
                one.until({"t1": {**row, "title": "before"}})
            process.send_signal(signal_number)
            vars(process)["was_asked"] = True
            for name, one in followers.items():
                with pytest.raises(LOST):
                    one.take_until_it_breaks()
                assert one.rows == {"t1": {**row, "title": "before"}}, name
            if signal_number == signal.SIGKILL:
                process.wait(60)
                process.returncode = 0
        with transaction(source) as tx:
            task = tx.get(Task, "t1")
            assert task is not None
            task.title = "meanwhile"
        with served(tmp_path, "--source", source, "--port", port) as (address, process), client(address) as http:
            for name, one in followers.items():
                one.until({"t1": {**row, "title": "meanwhile"}})
                assert one.resets == 0, name


@pytest.mark.slow
def test_a_restart_of_the_engine_without_its_files(tmp_path: Path) -> None:
    """Its server is another process, and stays: the clients of all protocols get the rows of the new incarnation."""
    source = documents(tmp_path / "docs.db")
    rows = f"sqlite:{tmp_path}/rows.db"

    async def until_written(address: str, row_id: str) -> None:
        http = httpx.AsyncClient(base_url=address, timeout=60)
        async with http, running([TaskCard], sources=[source], rows=rows):
            with anyio.fail_after(60):
                while (await http.get(f"/views/TaskCard/{row_id}")).status_code != 200:
                    await anyio.sleep(0.02)

    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serve(asgi_app([TaskCard], rows=rows)))
        anyio.run(until_written, address, "t1")
        followers = {name: stack.enter_context(follow(address, "TaskCard")) for name, follow in LIVE.items()}
        for one in followers.values():
            one.until({"t1": {"title": "write", "isDone": False, "owner": "Ann"}})
        for file in tmp_path.glob("rows.db*"):
            file.unlink()
        with transaction(source) as tx:
            task = tx.get(Task, "t1")
            assert task is not None
            tx.delete(task)
            tx.create(Task(title="other", is_done=True, owner=Ref("persons/p1")), "t2")
        anyio.run(until_written, address, "t2")
        for name, one in followers.items():
            one.until({"t2": {"title": "other", "isDone": True, "owner": "Ann"}})
            assert one.resets in (1, 2), name  # some were told that there was no row before the new ones came


def test_a_message_of_socket_io_that_is_not_acknowledged(rows: Rows, uri: str) -> None:
    """The client is told that its subscription has ended, and may subscribe again; it is not left with old rows."""
    core = core_of(compile_plan(VIEWS), StoredRows(uri.partition(":")[2]), None, None, None, Limits())
    app = application(core, more=[Mount("/socket.io", socketio_app(core, [], 1 << 20, taken_seconds=0.1))])
    rows.board("b1")
    with serve(app) as address, socket_io(address) as io:
        assert io.call("subscribe", view="Board")["result"] == {"subscription": 1}
        assert '"method":"rows"' in str(io.connection.recv(timeout=60))
        ended = io.receive()
        assert (ended["method"], ended["params"]["problem"]["status"]) == ("ended", 408)
        until_nobody_follows(address)
        assert io.call("subscribe", view="Board")["result"] == {"subscription": 2}
        assert io.receive()["params"]["messages"][1]["key"] == "b1"


@pytest.mark.parametrize(
    "frame",
    ["{", "[]", '"text"', "7", '{"type": 5}', '{"id": 1}', '{"type": "subscribe", "id": "1", "payload": []}',
     '{"type": "subscribe", "id": {}, "payload": {"query": ""}}', '{"type": "complete", "id": []}'],
)  # fmt: skip
def test_malformed_frames_of_graphql(rows: Rows, address: str, caplog: pytest.LogCaptureFixture, frame: str) -> None:
    """The connection is closed, as the protocol says, and others do not notice."""
    rows.board("b1")
    url = f"{address.replace('http', 'ws')}/graphql"
    with LIVE["GraphQL over WebSocket"](address, "Board") as one:
        one.until(seen(rows))
        with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
            socket.send(json.dumps({"type": "connection_init"}))
            socket.recv(timeout=60)
            socket.send(frame)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4400
        rows.board("b2")
        one.until(seen(rows))
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "body", ["{", "[]", '"text"', "7", '{"query": 5}', '{"query": "subscription { Board_changes { rows { id } } }", "variables": 5}']
)  # fmt: skip
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_malformed_requests_of_graphql(
    http: httpx.Client, caplog: pytest.LogCaptureFixture, accept: str, body: str
) -> None:
    headers = {"Content-Type": "application/json", "Accept": accept}
    answer = http.post("/graphql", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert "Traceback" not in caplog.text


def test_a_client_that_is_ahead_of_the_hub_waits(rows: Rows, uri: str) -> None:
    """It read a commit that the hub has not looked at; asking again and again would keep the hub from looking."""

    async def ahead() -> bool:
        core = core_of(compile_plan(VIEWS), StoredRows(uri.partition(":")[2]), None, None, None, Limits())
        view = core.catalog.named("Board")
        with core.hub.following(view):
            rows.board("b2")
            position = core.hub.begin(view)._replace(path=None, is_snapshot=False)
            assert position > core.hub.tail(view)
            return await core.hub.wait(view, position, 0)

    rows.board("b1")
    assert not anyio.run(ahead)
