"""A client of each protocol that sends live rows, which all behave alike: tests drive them one message at a time.

with LIVE["Socket.IO"](address, "Board") as one:
    one.until({"b1": {"text": "b1", "rank": 1}})
    one.cut()                              # the connection breaks; the next message is read over a new one
    one.until({"b1": {"text": "new", "rank": 1}})
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx
from typing_extensions import Self
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.helpers.serving import Follower, SocketIO, events

LOST = (ConnectionClosed, httpx.TransportError, OSError, EOFError)
"""What a client sees when its connection breaks."""
LIMIT_SECONDS = 60
FIELDS = {"Board": "text rank", "Inbox": "text", "TaskCard": "title isDone owner"}
"""Which fields a client of GraphQL asks for."""


class Live(ABC):
    """A client that follows one view.

    Args:
        address: Of the server; may be changed before the client connects again.
        view: The view's name.
        token: Of the user; None: nobody signs in.
        received_bytes: What the system buffers for a client that does not read; None: its default.

    Attributes:
        rows: What it has, by key, as of the last whole commit.
        offset: Where it goes on; empty: it has nothing yet.
        heard: All messages that it received, as text.
        resets: How often it was told that all rows come again.
        connections: How often it connected.
        goes_on: Whether it goes on behind the last message, else behind the last whole commit.
    """

    def __init__(self, address: str, view: str, token: str | None = None, received_bytes: int | None = None) -> None:
        self.address, self.view, self.token, self.received_bytes = address, view, token, received_bytes
        self.follower, self.heard = Follower(), list[str]()
        self.offset = self._whole = ""
        self.resets = self.connections = 0
        self.goes_on = False
        self.is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.cut()

    @property
    def rows(self) -> dict[str, Any]:
        return self.follower.rows

    def take(self) -> None:
        """Takes the next message; over a new connection, if there is none or it breaks."""
        try:
            if not self.is_open:
                self.connect()
            self._take()
        except (TimeoutError, httpx.TimeoutException) as error:
            raise AssertionError(f"nothing came within {LIMIT_SECONDS} s; the client has {self.rows}") from error
        except LOST:
            self.cut()

    def take_until_it_breaks(self) -> None:
        """Takes messages over this connection until it breaks, and raises what the client sees then."""
        try:
            while True:
                self._take()
        except LOST:
            self.cut()
            raise

    def until(self, rows: Mapping[str, Any]) -> None:
        """Takes messages until the client has these rows."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while self.rows != rows:
            self.take()
            assert time.monotonic() < deadline, f"expected {rows}, got {self.rows}"

    def connect(self) -> None:
        """Connects and subscribes; `take` does it where needed."""
        if not self.goes_on:
            self.follower.pending.clear()
            self.offset = self._whole
        self.connections += 1
        self._connect()
        self.is_open = True

    def cut(self) -> None:
        """Breaks the connection without a word."""
        if self.is_open:
            self.is_open = False
            self._cut()

    def got(self, messages: Sequence[Any], offset: str, *, is_whole: bool) -> None:
        """Applies messages of the State Protocol."""
        self.heard.append(json.dumps(messages))
        resets = [one for one in messages if one["headers"].get("control") in ("reset", "snapshot-start")]
        self.resets += bool(resets and self._whole)
        self.follower.take(messages, is_whole=is_whole)
        self.offset = offset
        if is_whole:
            self._whole = offset

    @abstractmethod
    def _connect(self) -> None: ...

    @abstractmethod
    def _take(self) -> None: ...

    @abstractmethod
    def _cut(self) -> None: ...

    def _websocket(self, path: str, **options: Any) -> ClientConnection:
        host, port = urlsplit(self.address).netloc.split(":")
        plain = socket.socket()
        if self.received_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.received_bytes)
        plain.connect((host, int(port)))
        url = f"{self.address.replace('http', 'ws')}{path}"
        return connect(url, sock=plain, max_size=None, max_queue=1, **options)

    def _client(self) -> httpx.Client:
        options = []
        if self.received_bytes is not None:
            options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, self.received_bytes))
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        transport = httpx.HTTPTransport(socket_options=options)
        return httpx.Client(base_url=self.address, headers=headers, transport=transport, timeout=LIMIT_SECONDS)


class Stream(Live):
    """Durable Streams; a subclass says how it waits."""

    live: ClassVar[str]

    def _connect(self) -> None:
        self.http = self._client()
        if not self.offset:
            answer = self.http.get(f"/views/{self.view}/stream")
            assert answer.status_code == 307, answer.text
            self.url, self.offset = answer.headers["location"], "-1"

    def _asked(self) -> dict[str, str]:
        return {"offset": self.offset, "live": self.live}

    def _is_gone(self, answer: httpx.Response) -> bool:
        """Whether history is gone; the client then has nothing, and begins again."""
        if answer.status_code == 410:
            self.resets += 1
            self.offset = self._whole = ""
            self.follower.pending.clear()
            return True
        assert answer.status_code in (200, 204), answer.read()
        return False

    def _cut(self) -> None:
        self.http.close()


class LongPoll(Stream):
    live = "long-poll"

    def _take(self) -> None:
        answer = self.http.get(self.url, params=self._asked())
        if self._is_gone(answer):
            self.cut()
        else:
            is_whole = "stream-up-to-date" in answer.headers
            self.got(answer.json() if answer.content else [], answer.headers["stream-next-offset"], is_whole=is_whole)


class Events(Stream):
    live = "sse"

    def _connect(self) -> None:
        super()._connect()
        self.answer = self.http.send(self.http.build_request("GET", self.url, params=self._asked()), stream=True)
        if self._is_gone(self.answer):
            self._cut()
            self._connect()
        else:
            self.events = _events_of(self.answer)

    def _take(self) -> None:
        messages: list[Any] = []
        for kind, answer in self.events:
            if kind == "control":
                self.got(messages, answer["streamNextOffset"], is_whole=answer.get("upToDate", False))
                return
            messages += answer
        raise EOFError("the stream ended")

    def _cut(self) -> None:
        self.answer.close()
        super()._cut()


def _events_of(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    buffered = ""
    for text in answer.iter_text():
        buffered += text.replace("\r\n", "\n")
        done, separator, rest = buffered.rpartition("\n\n")
        if separator:
            buffered = rest
            yield from events(done)


class _Calls(Live):
    """The frames of `/ws`, over whatever carries them."""

    @abstractmethod
    def _send(self, body: Any) -> None: ...

    @abstractmethod
    def _receive(self) -> Any: ...

    def _subscribe(self) -> None:
        params = {"view": self.view, **({"offset": self.offset} if self.offset else {})}
        self._send({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params})
        answer = self._receive()
        assert "result" in answer, answer

    def _take(self) -> None:
        answer = self._receive()
        if answer["method"] == "rows":
            params = answer["params"]
            self.got(params["messages"], params["offset"], is_whole=params["upToDate"])
        else:
            assert answer["method"] == "alive", answer


class Socket(_Calls):
    def _connect(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self.socket = self._websocket("/ws", additional_headers=headers)
        self._subscribe()

    def _send(self, body: Any) -> None:
        self.socket.send(json.dumps(body))

    def _receive(self) -> Any:
        return json.loads(self.socket.recv(timeout=LIMIT_SECONDS))

    def _cut(self) -> None:
        _break(self.socket)


class OfSocketIO(_Calls):
    def _connect(self) -> None:
        self.socket = self._websocket("/socket.io/?EIO=4&transport=websocket")
        self.io = SocketIO(self.socket, self.token)
        self._subscribe()

    def _send(self, body: Any) -> None:
        self.io.send(body)

    def _receive(self) -> Any:
        return self.io.receive()

    def _cut(self) -> None:
        _break(self.socket)


class _OfGraphQL(Live):
    @property
    def _payload(self) -> dict[str, Any]:
        of_row = f"id stamp {{ generation version seq }} fields {{ {FIELDS[self.view]} }}"
        shown = f"rows {{ {of_row} }} deleted offset isReset upToDate"
        query = f"subscription($offset: String!) {{ {self.view}_changes(offset: $offset) {{ {shown} }} }}"
        return {"query": query, "variables": {"offset": self.offset or "-1"}}

    def _changed(self, payload: Any) -> None:
        assert "errors" not in payload, payload
        (answer,) = payload["data"].values()
        messages: list[Any] = [{"headers": {"control": "reset"}}] if answer["isReset"] else []
        for row in answer["rows"]:
            value = {"stamp": row["stamp"], "fields": row["fields"]}
            messages.append({"key": row["id"], "value": value, "headers": {"operation": "update"}})
        messages += [{"key": key, "headers": {"operation": "delete"}} for key in answer["deleted"]]
        self.got(messages, answer["offset"], is_whole=answer["upToDate"])


class GraphQLSocket(_OfGraphQL):
    def _connect(self) -> None:
        self.socket = self._websocket("/graphql", subprotocols=["graphql-transport-ws"])
        payload = {"authorization": f"Bearer {self.token}"} if self.token else {}
        self._send({"type": "connection_init", "payload": payload})
        assert self._receive()["type"] == "connection_ack"
        self._send({"type": "subscribe", "id": "1", "payload": self._payload})

    def _send(self, message: Any) -> None:
        self.socket.send(json.dumps(message))

    def _receive(self) -> Any:
        return json.loads(self.socket.recv(timeout=LIMIT_SECONDS))

    def _take(self) -> None:
        message = self._receive()
        assert message["type"] == "next", message
        self._changed(message["payload"])

    def _cut(self) -> None:
        _break(self.socket)


class GraphQLEvents(_OfGraphQL):
    def _connect(self) -> None:
        self.http = self._client()
        headers = {"Accept": "text/event-stream"}
        request = self.http.build_request("POST", "/graphql", json=self._payload, headers=headers)
        self.answer = self.http.send(request, stream=True)
        assert self.answer.status_code == 200, self.answer.read()
        assert self.answer.headers["content-type"].startswith("text/event-stream")
        self.events = _events_of(self.answer)

    def _take(self) -> None:
        for kind, payload in self.events:
            assert kind == "next", kind
            self._changed(payload)
            return
        raise EOFError("the stream ended")

    def _cut(self) -> None:
        self.answer.close()
        self.http.close()


def _break(connection: ClientConnection) -> None:
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
    connection.socket.close()


LIVE: Mapping[str, Callable[..., Live]] = {
    "long-poll": LongPoll,
    "server-sent events": Events,
    "WebSocket": Socket,
    "Socket.IO": OfSocketIO,
    "GraphQL over WebSocket": GraphQLSocket,
    "GraphQL over server-sent events": GraphQLEvents,
}
"""All protocols that send live rows."""
