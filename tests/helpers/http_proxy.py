"""Proxies of HTTP as they stand between clients and servers: one that caches what it may, one that strips query strings.

with CachingProxy("http://127.0.0.1:8080") as proxy:
    httpx.get(f"{proxy.address}/views/Board/b1")
    proxy.hits                             # answers that the server was not asked for
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
from typing_extensions import Self

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server", "host"})
_CACHEABLE = frozenset({200, 203, 204, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be kept without being told so (RFC 9110, 15.1), where they have a validator or an age."""


class Stored(NamedTuple):
    """An answer that is kept.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: Its body.
        asked: The headers of the request, for `Vary`.
        at: When it came, by the clock of the proxy.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    asked: Mapping[str, str]
    at: float

    @property
    def control(self) -> dict[str, str]:
        return directives(self.headers.get("cache-control", ""))

    def is_kept(self, *, is_shared: bool) -> bool:
        """Whether a cache may keep it; it has to be validated or fresh to be used."""
        control = self.control
        if "no-store" in control or (is_shared and "private" in control) or self.headers.get("vary") == "*":
            return False
        if is_shared and "authorization" in self.asked and not {"public", "s-maxage", "must-revalidate"} & set(control):
            return False
        return self.status in _CACHEABLE and ("etag" in self.headers or self.seconds > 0)

    @property
    def seconds(self) -> float:
        """How long it is fresh."""
        control = self.control
        return 0.0 if "no-cache" in control else float(control.get("s-maxage", control.get("max-age", 0)))

    def serves(self, asked: Mapping[str, str]) -> bool:
        """Whether it answers a request with these headers, by `Vary`."""
        names = [one.strip().lower() for one in self.headers.get("vary", "").split(",") if one.strip()]
        return all(asked.get(name) == self.asked.get(name) for name in names)


def directives(text: str) -> dict[str, str]:
    """The directives of Cache-Control.

    >>> directives("public, max-age=60")
    {'public': '', 'max-age': '60'}
    """
    found = re.findall(r"([\w-]+)(?:=\"?([^\",]*))?", text.lower())
    return dict(found)


class HttpProxy:
    """Forwards requests to a server; a subclass says how.

    Args:
        server: The address of the server.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self.client = httpx.Client(base_url=server, timeout=60)
        self._streams: set[httpx.Response] = set()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                proxy.handle(self)

            do_GET = do_HEAD = do_POST = do_PATCH = handle_one  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        self._listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listening.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._listening.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._listening.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.shutdown()
        self._thread.join()
        self._listening.server_close()
        for one in list(self._streams):
            with suppress(OSError):
                one.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self.client.close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        asked = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(asked.get("content-length", 0)))
        self.answer(handler, handler.path, asked, body)

    def answer(self, handler: BaseHTTPRequestHandler, path: str, asked: Mapping[str, str], body: bytes) -> None:
        raise NotImplementedError

    def ask(
        self, handler: BaseHTTPRequestHandler, path: str, asked: Mapping[str, str], body: bytes
    ) -> httpx.Response | None:
        """Asks the server; None where the answer is a stream, which is then forwarded as it comes."""
        sent = {name: value for name, value in asked.items() if name not in _HOP_BY_HOP}
        request = self.client.build_request(handler.command, path, headers=sent, content=body or None)
        answer = self.client.send(request, stream=True)
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.read()
            answer.close()
            return answer
        self._streams.add(answer)
        try:
            _send_head(handler, answer.status_code, answer.headers, None)
            for part in answer.iter_raw():
                handler.wfile.write(part)
        except (OSError, httpx.TransportError):
            pass
        finally:
            self._streams.discard(answer)
            answer.close()
            handler.close_connection = True
        return None

    def send(self, handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Sends an answer to the client."""
        _send_head(handler, status, headers, len(body))
        if handler.command != "HEAD":
            handler.wfile.write(body)


def _send_head(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], length: int | None) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        if name.lower() not in _HOP_BY_HOP:
            handler.send_header(name, value)
    if length is None:
        handler.send_header("Connection", "close")
    elif status not in (204, 304):
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


class CachingProxy(HttpProxy):
    """A cache that keeps what it may as long as it may (RFC 9111), and asks again only where it must.

    Args:
        server: The address of the server.
        clock: Seconds.
        is_shared: Whether it is a proxy for all, else a browser's.

    Attributes:
        hits: Answers that the server was not asked for.
        validated: Kept answers that the server said are still right.
    """

    def __init__(self, server: str, clock: Callable[[], float] = time.monotonic, *, is_shared: bool = True) -> None:
        super().__init__(server)
        self._is_shared = is_shared
        self.hits = self.validated = 0
        self.clock = clock
        self._kept: dict[str, list[Stored]] = {}
        self._changing = threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler, path: str, asked: Mapping[str, str], body: bytes) -> None:
        """Answers one request; see the base class."""
        is_read = handler.command == "GET" and "range" not in asked
        with self._changing:
            kept = next((one for one in self._kept.get(path, ()) if one.serves(asked)), None) if is_read else None
        if (
            kept is not None
            and self.clock() - kept.at < kept.seconds
            and "no-cache" not in asked.get("cache-control", "")
        ):
            self.hits += 1
            self._answer_kept(handler, kept, asked)
            return
        sent = dict(asked)
        if kept is not None and "etag" in kept.headers and "if-none-match" not in asked:
            sent["if-none-match"] = kept.headers["etag"]
        answer = self.ask(handler, path, sent, body)
        if answer is None:
            return
        if answer.status_code == 304 and kept is not None and "if-none-match" not in asked:
            self.validated += 1
            kept = kept._replace(headers={**kept.headers, **dict(answer.headers)}, at=self.clock())
            self._keep(path, kept)
            self._answer_kept(handler, kept, asked)
            return
        headers = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
        stored = Stored(answer.status_code, headers, answer.content, dict(asked), self.clock())
        if is_read and stored.is_kept(is_shared=self._is_shared):
            self._keep(path, stored)
        self.send(handler, stored.status, stored.headers, stored.body)

    def _keep(self, path: str, stored: Stored) -> None:
        with self._changing:
            others = [one for one in self._kept.get(path, ()) if not one.serves(stored.asked)]
            self._kept[path] = [*others, stored]

    def _answer_kept(self, handler: BaseHTTPRequestHandler, kept: Stored, asked: Mapping[str, str]) -> None:
        age = {"Age": str(int(self.clock() - kept.at))}
        if asked.get("if-none-match") == kept.headers.get("etag", object()):
            self.send(handler, 304, {**kept.headers, **age}, b"")
        else:
            self.send(handler, kept.status, {**kept.headers, **age}, kept.body)


class StrippingProxy(HttpProxy):
    """Forgets what is behind the `?` of each URL, also in redirects."""

    def answer(self, handler: BaseHTTPRequestHandler, path: str, asked: Mapping[str, str], body: bytes) -> None:
        """Answers one request; see the base class."""
        answer = self.ask(handler, path.partition("?")[0], asked, body)
        if answer is not None:
            headers = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
            self.send(handler, answer.status_code, headers, answer.content)
