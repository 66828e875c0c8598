"""A server as tests run it: a real uvicorn on a free port, in a thread, over rows that the test writes to a real file."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from websockets.sync.client import ClientConnection, connect

import boiler_beam as bb
from boiler_beam import Ref, root, view_property
from boiler_beam.connectors import Sink
from boiler_beam.connectors.sqlite import SqliteSink
from boiler_beam.events import EncodedRow, Stamp, View
from boiler_beam.plan import compile_plan
from boiler_beam.serving import Problem, User, signed_in
from boiler_beam.values import encode_fields


class Note(bb.DomainModel, collection="notes"):
    text: str
    rank: int
    owner: str
    at: datetime
    author: Ref[Any]


class Board(bb.ViewModel, collection="boards", indexed=("rank", "text", "written_at")):
    """A board that everyone reads.

    It has one note.
    """

    class Store(bb.Store):
        note: Note = root(Note)

    store: Store

    @view_property
    def text(self) -> str:
        """What it says."""
        return self.store.note.text

    @text.setter
    def text(self, value: str) -> None:
        self.store.note.text = value

    @view_property
    def rank(self) -> int | None:
        return self.store.note.rank

    @view_property
    def written_at(self) -> datetime:
        return self.store.note.at

    @view_property
    def author(self) -> Ref[Any]:
        return self.store.note.author

    @classmethod
    def new(cls, tx: Any, **fields: Any) -> Any:
        raise NotImplementedError("tests replace the writer")


class Inbox(bb.ViewModel, path="people/{person}/inbox/{id}"):
    """A copy of a note for a person: only that person sees it."""

    class Store(bb.Store):
        note: Note = root(Note)

    store: Store

    @view_property
    def text(self) -> str:
        return self.store.note.text

    @text.setter
    def text(self, value: str) -> None:
        self.store.note.text = value

    def paths(self) -> Iterator[dict[str, str]]:
        yield {"person": self.store.note.owner}

    def viewers(self) -> Iterator[str]:
        yield self.store.note.owner

    def editors(self) -> Iterator[str]:
        yield self.store.note.owner


class Room(bb.ViewModel, collection="rooms", indexed=("title", "code")):
    """A room, of which only hosts get the door code, and only hosts and staff the phone number."""

    class Store(bb.Store):
        note: Note = root(Note)

    store: Store

    @view_property
    def title(self) -> str:
        return self.store.note.text

    @view_property(viewers=bb.role("host"))  # type: ignore[call-overload, untyped-decorator]
    def code(self) -> str:
        """The door's code."""
        return self.store.note.owner

    @view_property
    @bb.seen_by(bb.role("host"), bb.role("staff"))
    def phone(self) -> str:
        return self.store.note.owner

    @bb.route("/{id}/door/label")
    def label(self, floor: int, is_loud: bool = False, end: str = ".") -> str:
        """What is written at the door.

        It names the floor.
        """
        text = f"{self.title} ({self.doc_id}, floor {floor}){end}"
        return text.upper() if is_loud else text

    @bb.route("/{id}/secret")
    def secret(self) -> dict[str, str]:
        return {"code": self.code}

    @bb.route("/{id}/broken")
    def broken(self) -> str:
        return self.store.note.text

    def viewers(self) -> Iterator[str]:
        yield "signed in"


VIEWS = [Board, Inbox, Room]
BOARD, INBOX, ROOM = (view.target for view in compile_plan(VIEWS).views)


def random_boards(order: random.Random) -> list[tuple[View, str, dict[str, Any] | None]]:
    """One commit of a random history: some boards, written or deleted."""
    changes: list[tuple[View, str, dict[str, Any] | None]] = []
    for _ in range(order.choice([1, 1, 2, 9])):
        path = f"boards/b{order.randrange(12)}"
        value = None if order.random() < 0.3 else {"text": str(order.random()), "rank": order.randrange(5)}
        changes.append((BOARD, path, value))
    return changes


TIME = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


class Rows:
    """Writes rows as a stream does.

    Args:
        path: The file of the rows.
        sink: Where rows are written; None: to that file.

    Attributes:
        expected: The rows that stand, by path: what a client must have at the end.
    """

    def __init__(self, path: Path, sink: Sink | None = None) -> None:
        self.path = path
        self.sink = sink or SqliteSink(str(path))
        self.expected: dict[str, dict[str, Any]] = {}
        self.version = 0

    @contextmanager
    def open(self) -> Iterator[Rows]:
        with self.sink.stream([BOARD, INBOX, ROOM]) as self.writer:
            yield self

    def commit(self, *rows: tuple[View, str, Mapping[str, Any] | None]) -> None:
        """Writes some rows in one transaction; None deletes."""
        self.version += 1
        written = []
        for view, path, fields in rows:
            stored = None if fields is None else encode_fields(dict(fields))
            written.append((view, EncodedRow(path, Stamp(1, self.version, 0), stored)))
            if fields is None:
                self.expected.pop(path, None)
            else:
                self.expected[path] = dict(fields)
        self.writer.write(written)

    def board(self, name: str, **fields: Any) -> None:
        """Writes one board."""
        self.commit((BOARD, f"boards/{name}", {"text": name, "rank": 1, **fields}))

    def inbox(self, person: str, name: str, text: str, viewers: Sequence[str] | None = None) -> None:
        """Writes one copy of an inbox."""
        seen_by = sorted([person] if viewers is None else viewers)
        self.commit((INBOX, f"people/{person}/inbox/{name}", {"text": text, "_viewers": seen_by, "_editors": [person]}))

    def room(self, name: str, **fields: Any) -> None:
        """Writes one room, for all users who signed in."""
        known = {"title": name, "code": "1234", "phone": "555", "_viewers": ["signed in"], **fields}
        self.commit((ROOM, f"rooms/{name}", known))


async def names_are_tokens(token: str) -> User:
    """A verifier: the token is the user's name, `bad` is none, `old` has expired, `name+role` has a role."""
    if token == "bad":
        raise Problem(401, "invalid token")
    name, _, role = token.partition("+")
    return signed_in(name, [role] if role else [], expires=time.time() - 1 if name == "old" else None)


@contextmanager
def serve(app: Any, *, sent_bytes: int | None = None, **options: Any) -> Iterator[str]:
    """Serves an application; yields its address. `sent_bytes`: what the system buffers of what a client does not read."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if sent_bytes is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sent_bytes)  # connections inherit it
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def client(address: str, token: str | None = None) -> httpx.Client:
    """A client, of a user where there is a token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=address, headers=headers, timeout=60)


class SocketIO:
    """A client of Socket.IO over a WebSocket (protocol 5 on Engine.IO 4), which takes messages at once."""

    def __init__(self, connection: ClientConnection, token: str | None) -> None:
        self.connection = connection
        assert self._packet().startswith("0")
        self.connection.send("40" + json.dumps({} if token is None else {"token": token}))
        self.connected = self._packet()

    def _packet(self) -> str:
        deadline = time.monotonic() + 60
        while (packet := str(self.connection.recv(timeout=60))) == "2":
            self.connection.send("3")
            assert time.monotonic() < deadline, "nothing but pings came"
        return packet

    def send(self, body: Any) -> None:
        self.connection.send("42" + json.dumps(["rpc", body]))

    def receive(self) -> Any:
        """The next message; it is acknowledged."""
        packet = self._packet()
        number, _, body = packet.removeprefix("42").partition("[")
        if number:
            self.connection.send(f"43{number}[]")
        return json.loads(f"[{body}")[1]

    def call(self, method: str, **params: Any) -> Any:
        self.send({"jsonrpc": "2.0", "id": method, "method": method, "params": params})
        return self.receive()


@contextmanager
def socket_io(address: str, token: str | None = None) -> Iterator[SocketIO]:
    url = f"{address.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"
    with connect(url) as connection:
        yield SocketIO(connection, token)


class Follower:
    """A client of the State Protocol: what it has is `rows`, by key; only whole commits are applied.

    Attributes:
        rows: The value of each key.
        numbers: The commit of the last message of each key, to see that nothing goes back.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.pending: list[Any] = []
        self.versions: dict[str, tuple[int, ...]] = {}

    def take(self, messages: Sequence[Any], *, is_whole: bool) -> None:
        self.pending += messages
        if not is_whole:
            return
        for message in self.pending:
            headers = message["headers"]
            if headers.get("control") in ("reset", "snapshot-start"):
                self.rows.clear()
            elif "operation" in headers:
                self._apply(message)
        self.pending.clear()

    def _apply(self, message: Any) -> None:
        key = message["key"]
        if message["headers"]["operation"] == "delete":
            self.rows.pop(key, None)
            return
        stamp = message["value"]["stamp"]
        version = (stamp["generation"], stamp["version"], stamp["seq"])
        assert version >= self.versions.get(key, ()), f"{key} went back"
        self.versions[key] = version
        self.rows[key] = message["value"]["fields"]


def events(text: str) -> Iterator[tuple[str, Any]]:
    """The server-sent events in a text."""
    for block in text.split("\n\n"):
        lines = [line.replace(": ", ":", 1).partition(":")[::2] for line in block.splitlines()]
        kind = next((value for name, value in lines if name == "event"), None)
        if kind is not None:
            yield kind, json.loads("".join(value for name, value in lines if name == "data") or "null")
