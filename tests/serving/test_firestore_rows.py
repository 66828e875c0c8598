"""Rows in Firestore: the server listens to them, once for each view, and serves them as those of a file."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

pytest.importorskip("grpc", reason="the extra `firestore` is not installed")

import boiler_beam as bb
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.firestore.protos import ListenResponse
from boiler_beam.connectors.firestore.sink import FirestoreSink
from boiler_beam.errors import UsageError
from boiler_beam.plan import compile_plan
from boiler_beam.serving import asgi_app
from boiler_beam.serving.hub import Limits
from boiler_beam.serving.listened import ListenedRows
from boiler_beam.values import Database, Ref, encode_fields
from tests.boiler_beam.connectors.firestore.test_watch import ADD, counted, told
from tests.helpers.firestore import put
from tests.helpers.proxy import Call, GrpcProxy, TcpProxy
from tests.helpers.servers import patience, wait_until
from tests.helpers.serving import BOARD, INBOX, VIEWS, Follower, Note, Rows, client, names_are_tokens, serve
from tests.serving.test_serve import ROOT, documents, served
from tests.serving.test_serve import VIEWS as TASKS
from tests.serving.test_websocket import Socket, expected, opened


class Member(bb.ViewModel, path="teams/main/members/{id}"):
    """Rows below one fixed document."""

    class Store(bb.Store):
        note: Note = bb.root(Note)

    store: Store

    @bb.view_property
    def author(self) -> Ref[Any]:
        return self.store.note.author


SHORT = Limits(stale_seconds=0.5, wait_seconds=0.5)
"""Readers do not wait for a listener that begins: a test does."""
PATIENT = Limits(wait_seconds=60.0)


@pytest.fixture(name="rows")
def _rows(firestore_emulator: str, project: str) -> Iterator[Rows]:
    sink = FirestoreSink(project)
    sink.options = WriteOptions(pace_seconds=0.0)
    with Rows(Path("unused"), sink).open() as rows:
        yield rows
    sink.client.close()


@contextmanager
def listening(rows: Rows, limits: Limits = PATIENT, **options: Any) -> Iterator[str]:
    """A server over the rows."""
    with serve(asgi_app(VIEWS, rows=rows.sink.uri, limits=limits, **options)) as address:
        yield address


def listeners(http: httpx.Client) -> int:
    """How many listeners the server has."""
    (found,) = [
        one for one in http.get("/metrics").text.splitlines() if one.startswith("boiler_beam_serving_listeners")
    ]
    return int(found.split()[1])


def until_there(http: httpx.Client, path: str = "/views/Board/a") -> None:
    wait_until(lambda: http.get(path).status_code == 200, path, 60)


def until_ready(http: httpx.Client) -> None:
    wait_until(lambda: http.get("/readyz").status_code == 200, lambda: http.get("/readyz").text, 60)


def followed(socket: Socket, rows: Rows, **params: Any) -> tuple[Follower, str]:
    """Follows the boards until all are there; returns who has them, and the offset."""
    number = socket.subscribe("Board", **params)
    socket.until(number, expected(rows, "boards/"))
    return socket.followers[number], socket.offsets[number]


def first_of(socket: Socket) -> list[Any]:
    """What the next messages say: the control, or operation and key."""
    for _ in patience("messages"):
        message = socket.receive()
        assert message.get("method") != "ended", message
        if "messages" in message.get("params", {}):
            break
    headers = [(one["headers"], one.get("key")) for one in message["params"]["messages"]]
    return [one.get("control") or (one["operation"], key) for one, key in headers]


def test_rows_that_another_program_writes(rows: Rows) -> None:
    rows.board("b1", rank=7)
    rows.inbox("p1", "c1", "hello")
    with listening(rows) as address, client(address) as http, opened(address) as socket:
        found = http.get("/views/Board/b1")
        assert (found.status_code, found.json()["fields"]) == (200, {"text": "b1", "rank": 7})
        assert found.json()["stamp"] == {"generation": 1, "version": 1, "seq": 0}
        assert http.get("/views/Board/b1", headers={"If-None-Match": found.headers["etag"]}).status_code == 304
        assert http.get("/views/Board/none").status_code == 404
        assert [one["id"] for one in http.get("/views/Inbox").json()["rows"]] == ["p1/inbox/c1"]
        boards, inboxes = socket.subscribe("Board"), socket.subscribe("Inbox")
        socket.until(boards, expected(rows, "boards/"))
        rows.board("b2", rank=3)
        rows.board("b1", rank=8)
        socket.until(boards, expected(rows, "boards/"))
        assert [one["id"] for one in http.get("/views/Board?order=-rank").json()["rows"]] == ["b1", "b2"]
        assert [one["id"] for one in http.get("/views/Board?rank=3").json()["rows"]] == ["b2"]
        rows.commit((BOARD, "boards/b1", None), (INBOX, "people/p1/inbox/c1", None))
        socket.until(boards, expected(rows, "boards/"))
        socket.until(inboxes, {})
        assert http.get("/views/Board/b1").status_code == 404


def test_a_client_that_comes_back_gets_what_it_missed_and_nothing_else(rows: Rows) -> None:
    for name in "abc":
        rows.board(name)
    with listening(rows) as address, client(address) as http:
        with opened(address) as socket:
            follower, offset = followed(socket, rows)
        rows.board("a", text="meanwhile")
        rows.commit((BOARD, "boards/b", None))
        wait_until(lambda: http.get("/views/Board/b").status_code == 404, "the deletion", 60)
        with opened(address) as socket:
            number = socket.subscribe("Board", offset=offset, follower=follower)
            assert first_of(socket) == [("update", "a"), ("delete", "b")]
            socket.until(number, expected(rows, "boards/"))


def test_a_server_that_is_started_again_has_no_history_and_says_so(rows: Rows) -> None:
    rows.board("a")
    with listening(rows) as address, client(address) as http, opened(address) as socket:
        follower, offset = followed(socket, rows)
        stream = http.get("/views/Board/stream?offset=-1", follow_redirects=True)
        path = f"{stream.url.path}?offset={stream.headers['stream-next-offset']}"
    rows.commit((BOARD, "boards/a", None))
    rows.board("b")
    with listening(rows) as address, client(address) as http:
        with opened(address) as socket:
            number = socket.subscribe("Board", offset=offset, follower=follower)
            assert first_of(socket)[:2] == ["reset", "snapshot-start"]
            socket.until(number, expected(rows, "boards/"))
        assert http.get(path).status_code == 410


def test_an_offset_that_no_server_gave_is_of_no_use(rows: Rows) -> None:
    rows.board("a")
    with listening(rows) as address:
        with opened(address) as socket:
            _, offset = followed(socket, rows)
        incarnation = offset.partition(".")[0]
        for one in (incarnation, f"{incarnation[:8]}00000000", f"00000000{incarnation[8:]}"):
            with opened(address) as socket:
                number = socket.subscribe("Board", offset=f"{one}.{9 * 10**15:016d}_z")
                assert first_of(socket)[:2] == ["reset", "snapshot-start"]
                assert socket.followers[number].rows == expected(rows, "boards/")


def test_a_client_goes_on_at_another_server_that_listened_meanwhile(rows: Rows) -> None:
    """Numbers are the database's times, so each server knows what changed since."""
    rows.board("a")
    with listening(rows) as address, listening(rows) as other:
        with opened(other) as socket:
            followed(socket, rows)
        with opened(address) as socket:
            number = socket.subscribe("Board")
            rows.board("b")
            socket.until(number, expected(rows, "boards/"))
            follower, offset = socket.followers[number], socket.offsets[number]
        rows.board("c")
        with opened(other) as socket:
            number, came = socket.subscribe("Board", offset=offset, follower=follower), list[Any]()
            while follower.rows != expected(rows, "boards/"):
                came += first_of(socket)
            assert number == 1
            assert set(came) <= {("insert", "b"), ("insert", "c")}  # b may come again, a does not


def test_a_server_that_is_behind_does_not_send_what_is_older(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    rows.board("a", text="old")
    with TcpProxy(rows.sink.client.emulator) as proxy, listening(rows) as address:  # type: ignore[attr-defined]
        with opened(address) as socket:
            followed(socket, rows)
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(rows, limits=SHORT) as behind, client(behind) as http:
            until_there(http)
            proxy.down()
            rows.board("a", text="new")
            with opened(address) as socket:
                follower, offset = followed(socket, rows)
            with opened(behind) as socket:
                told = socket.call("subscribe", view="Board", offset=offset)
                assert told["error"]["code"] == 503
            stream = f"/views/Board/otherincarna/stream?offset={offset.partition('.')[2]}"
            assert http.get(stream).status_code == 503
            assert http.get("/views/Board/a").json()["fields"]["text"] == "old"
            proxy.up()
            wait_until(lambda: http.get("/views/Board/a").json()["fields"]["text"] == "new", "the change", 60)
            assert http.get(stream).status_code == 410
            with opened(behind) as socket:
                number = socket.subscribe("Board", offset=offset, follower=follower)
                rows.board("b")
                assert "reset" not in first_of(socket)
                socket.until(number, expected(rows, "boards/"))


def test_a_server_to_which_nothing_was_said_for_long_asks_for_the_time(rows: Rows) -> None:
    """A client comes from a server that began later; nothing has changed since."""
    rows.board("a")
    with listening(rows) as address, client(address) as http:
        assert http.get("/views/Board/a").status_code == 200
        with listening(rows) as later, opened(later) as socket:
            follower, offset = followed(socket, rows)
        with opened(address) as socket:
            number = socket.subscribe("Board", offset=offset, follower=follower)
            rows.board("b")
            assert first_of(socket) == [("insert", "b")]
            socket.until(number, expected(rows, "boards/"))


def test_the_database_can_not_be_reached_for_a_while(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    rows.board("a")
    with TcpProxy(rows.sink.client.emulator) as proxy:  # type: ignore[attr-defined]
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(rows, limits=SHORT) as address, client(address) as http, opened(address) as socket:
            until_there(http)
            number = socket.subscribe("Board")
            socket.until(number, expected(rows, "boards/"))
            until_ready(http)
            proxy.down()
            rows.board("b")
            rows.commit((BOARD, "boards/a", None))
            wait_until(lambda: http.get("/readyz").status_code == 503, "the feed to be stale", 60)
            assert "nothing was heard of the rows of Board" in http.get("/readyz").text
            assert http.get("/views/Board/a").json()["fields"]["text"] == "a"
            assert http.get("/views/Board/b").status_code == 404
            assert "boiler_beam_serving_stale 1" in http.get("/metrics").text
            proxy.up()
            socket.until(number, expected(rows, "boards/"))
            until_ready(http)


def test_one_listener_for_many_clients(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    rows.board("a")
    with GrpcProxy(rows.sink.client.emulator) as proxy:  # type: ignore[attr-defined]
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(rows) as address, client(address) as http, contextlib.ExitStack() as stack:
            assert listeners(http) == 0
            sockets = [stack.enter_context(opened(address)) for _ in range(20)]
            for one in sockets:
                followed(one, rows)
            rows.board("b")
            for one in sockets:
                one.until(1, expected(rows, "boards/"))
            assert http.get("/views/Board/b").status_code == 200
            assert (listeners(http), proxy.calls["Listen"]) == (1, 1)


def test_a_listener_ends_after_the_last_reader_and_knows_later_what_it_missed(rows: Rows) -> None:
    rows.board("a")
    rows.board("b")
    with listening(rows, limits=Limits(release_seconds=0.1, wait_seconds=60.0)) as address, client(address) as http:
        with opened(address) as socket:
            follower, offset = followed(socket, rows)
            assert listeners(http) == 1
        wait_until(lambda: listeners(http) == 0, "the listener's end", 60)
        assert http.get("/readyz").status_code == 200
        rows.board("c")
        rows.commit((BOARD, "boards/a", None))
        assert http.get("/views/Board/a").status_code == 404  # it listens again, and the reader waits for it
        with opened(address) as socket:
            number = socket.subscribe("Board", offset=offset, follower=follower)
            assert sorted(first_of(socket)) == [("delete", "a"), ("insert", "c")]
            socket.until(number, expected(rows, "boards/"))


def test_a_row_that_a_client_may_no_longer_see_is_gone(rows: Rows) -> None:
    rows.inbox("ann", "c1", "hello", viewers=["ann", "bob"])
    with listening(rows, auth=names_are_tokens) as address:
        headers = {"Authorization": "Bearer bob"}
        with opened(address, additional_headers=headers) as socket:
            number = socket.subscribe("Inbox")
            socket.until(number, {"ann/inbox/c1": {"text": "hello"}})
            rows.inbox("ann", "c1", "secret", viewers=["ann"])
            socket.until(number, {})
            rows.inbox("ann", "c1", "hello", viewers=["bob"])
            socket.until(number, {"ann/inbox/c1": {"text": "hello"}})
            rows.commit((INBOX, "people/ann/inbox/c1", None))
            socket.until(number, {})
        with client(address) as http:
            assert http.get("/views/Inbox").status_code == 401


def test_a_listener_that_is_reset_sends_the_difference(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts fewer documents than are known, without saying which are gone; then it refuses to go on."""
    for name in "abc":
        rows.board(name)
    changes = iter([lambda: rows.commit((BOARD, "boards/a", None)), lambda: rows.board("d")])

    def forgetful() -> Iterator[bytes]:
        yield told(ADD, 1).SerializeToString()
        next(changes)()
        yield counted(1, 2).SerializeToString()

    def refusing() -> Iterator[bytes]:
        next(changes)()
        answer = ListenResponse()
        answer.target_change.target_change_type, answer.target_change.cause.code = (
            2,
            grpc.StatusCode.UNAVAILABLE.value[0],
        )
        yield answer.SerializeToString()

    with GrpcProxy(rows.sink.client.emulator) as proxy:  # type: ignore[attr-defined]
        calls: dict[int, Callable[[], Iterator[bytes]]] = {0: forgetful, 1: refusing}

        def rule(call: Call) -> Any:
            answered = calls.get(call.number) if call.method == "Listen" else None
            return None if answered is None else answered()

        proxy.rule = rule
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(rows) as address, opened(address) as socket:
            number = socket.subscribe("Board")
            keys = list[Any]()
            wanted = {"b", "c", "d"}
            while set(socket.followers[number].rows) != wanted:
                keys += first_of(socket)
        assert keys.count("reset") == 0
        assert [one for one in keys if one[1] in ("b", "c")] == [("insert", "b"), ("insert", "c")]
        assert proxy.calls["Listen"] >= 3


def test_rows_that_can_not_be_read(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    rows.board("a")
    is_refused = threading.Event()
    is_refused.set()
    with GrpcProxy(rows.sink.client.emulator) as proxy:  # type: ignore[attr-defined]
        proxy.rule = lambda call: grpc.StatusCode.PERMISSION_DENIED if is_refused.is_set() else None
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(rows, limits=SHORT) as address, client(address) as http:
            answer = http.get("/views/Board/a")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            wait_until(lambda: "failed" in http.get("/readyz").text, "the failure", 60)
            ready = http.get("/readyz")
            assert (ready.status_code, ready.text) == (
                503, "not ready: the rows of Board are being read; its listener failed (UsageError)\n",
            )  # fmt: skip
            is_refused.clear()
            until_there(http)
            until_ready(http)


def test_views_at_fixed_documents_and_references_into_another_database(firestore_emulator: str, project: str) -> None:
    rows = Client(project)
    names = [f"projects/{one}/databases/(default)/documents/users/u1" for one in ("documents", "third", project)]
    stored = {f"teams/main/members/{at}": {"author": {"referenceValue": one}} for at, one in enumerate(names)}
    put(rows, {**stored, "teams/other/members/0": {"author": None}})
    listened = ListenedRows(project, compile_plan([Member], Database("documents")), Limits())
    try:
        listened.start()
        wait_until(lambda: listened.of("Member").mark().number > 0, "the rows", 60)
        found = {row.path: row.fields for row in listened.of("Member").snapshot("Member", "", 10)}
    finally:
        listened.close()
        rows.close()
    local = ["users/u1", names[1], names[2]]
    assert found == {
        f"teams/main/members/{at}": f'{{"author":{{"referenceValue":"{one}"}}}}' for at, one in enumerate(local)
    }


@pytest.mark.parametrize("rows", ["firestore:", "parquet:rows", "rows.db"])
def test_wrong_addresses(rows: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        asgi_app(VIEWS, rows=rows)


def test_it_ends_although_the_database_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with TcpProxy("127.0.0.1:1") as proxy:
        proxy.down()
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        listened = ListenedRows("nobody", compile_plan(VIEWS), Limits())
        listened.start()
        assert listened.listeners == 3
        listened.close()
        wait_until(lambda: listened.listeners == 0, "the listeners' end", 60)


@contextmanager
def streaming(folder: Path, uri: str) -> Iterator[None]:
    """A program that writes rows to Firestore as documents there change."""
    command = [
        sys.executable,
        "-m",
        "pipelines.main",
        "--views",
        TASKS,
        "--mode",
        "stream",
        "--state",
        "sqlite:state.db",
    ]
    process = subprocess.Popen(
        [*command, "--source", uri, "--sink", uri, "--coalesce_seconds", "0"], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 0, told
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_documents_and_rows_in_firestore(firestore_emulator: str, project: str, tmp_path: Path) -> None:
    """A stream writes the rows, a server takes writes and serves; each is a process of its own."""
    database = Client(project)
    task = json.loads(encode_fields({"title": "write", "isDone": False, "owner": Ref("persons/p1")}))
    put(database, {"tasks/t1": task, "persons/p1": {"name": "Ann"}})
    database.close()
    uri, options = f"firestore:{project}", ["--documents", f"firestore:{project}", "--rows", f"firestore:{project}"]
    with streaming(tmp_path, uri), served(tmp_path, *options) as (address, _), client(address) as http:
        path = "/views/TaskCard/t1"
        until_there(http, path)
        until_ready(http)
        tag = http.get(path).headers["etag"]
        with opened(address) as socket:
            number = socket.subscribe("TaskCard")
            socket.until(number, {"t1": {"title": "write", "isDone": False, "owner": "Ann"}})
            written = http.patch(path, json={"isDone": True}, headers={"If-Match": tag})
            assert written.status_code == 200, written.text
            version = written.json()["versions"]["tasks/t1"]
            until_there(http, f"{path}?wait_for={version}")
            seen = http.get(path).json()
            assert seen["fields"] == {"title": "write", "isDone": True, "owner": "Ann"}
            socket.until(number, {"t1": seen["fields"]})
            assert http.patch(path, json={"title": "late"}, headers={"If-Match": tag}).status_code == 412
            assert http.get(f"{path}?fresh=1").json()["fields"] == seen["fields"]
            created = http.post("/views/TaskCard", json={"title": "second", "owner": "p1"}).json()["id"]
            second = {"title": "second", "isDone": False, "owner": "Ann"}
            socket.until(number, {"t1": seen["fields"], created: second})


def test_an_engine_in_the_server_needs_rows_in_a_file(tmp_path: Path) -> None:
    source = documents(tmp_path / "docs.db")
    told = pytest.raises(AssertionError, match="expected sqlite:PATH beside --source, got 'firestore'; fix: ")
    with told, served(tmp_path, "--source", source, "--rows", "firestore:my-project"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_history_with_reconnects_at_any_server(rows: Rows, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Every client ends with the rows that stand, and none sees an older version of a row after a newer one."""
    order = random.Random(seed)

    def change() -> None:
        names = order.sample("abcdefgh", order.randint(1, 3))
        rows.commit(
            *(
                (BOARD, f"boards/{one}", None if order.random() < 0.3 else {"text": f"{rows.version}", "rank": 1})
                for one in names
            )
        )

    clients: list[tuple[Follower, str | None]] = [(Follower(), None) for _ in range(3)]
    with TcpProxy(rows.sink.client.emulator) as proxy, listening(rows) as first:  # type: ignore[attr-defined]
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(rows) as second:
            for step in range(60):
                for _ in range(order.randint(0, 3)):
                    change()
                if order.random() < 0.2:
                    proxy.cut()
                is_last = step >= 60 - len(clients)
                place = step % len(clients) if is_last else order.randrange(len(clients))
                follower, offset = clients[place]
                with opened(order.choice([first, second])) as socket:
                    number = socket.subscribe("Board", follower=follower, **({"offset": offset} if offset else {}))
                    wants_all = is_last or order.random() < 0.5
                    if not wants_all:
                        change()
                    for _ in patience("rows"):
                        if wants_all and follower.rows == expected(rows, "boards/"):
                            break
                        method = socket.receive().get("method")
                        if method == "rows" and not wants_all:
                            break
                        if method == "alive":
                            change()  # the emulator omits documents that are written while a listener begins, until then
                    follower.pending.clear()  # what was not whole is forgotten with the connection
                    clients[place] = follower, socket.offsets.get(number, offset)
