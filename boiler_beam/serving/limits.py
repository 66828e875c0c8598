"""How much one client may ask for, and how many connections there may be; more is answered 429 with Retry-After.

A client is a user who signed in, else an address. Each has a bucket of requests, which is filled steadily:

    10 a second, burst 20:  20 requests at once are answered, the 21st gets `Retry-After: 1`
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import anyio.lowlevel
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from boiler_beam.serving.access import User
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.web import problem_response

__all__ = ["ClientLimits", "Connections", "Rates", "address_of"]

_REMEMBERED = 10_000
_ALWAYS = ("/healthz", "/readyz", "/metrics")


@dataclass(frozen=True)
class ClientLimits:
    """What clients may ask for.

    Attributes:
        requests_per_second: Requests of one client, and calls in a batch or over a WebSocket; None: any number.
        burst: How many it may send at once; None: the requests of two seconds, at least 1.
        connections: Requests that are being answered, live streams and WebSockets of all clients.
        connections_per_client: Those of one address; None: any number.
    """

    requests_per_second: float | None = None
    burst: int | None = None
    connections: int = 10_000
    connections_per_client: int | None = None


class Rates:
    """The buckets of all clients; the clients that asked last are remembered.

    Args:
        limits: What clients may ask for.
        clock: Seconds.
    """

    def __init__(self, limits: ClientLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock = limits, clock
        self._full: OrderedDict[str, float] = OrderedDict()  # when the bucket of a client is full again

    def take(self, user: User, address: str, requests: int = 1) -> None:
        """Counts requests of a client.

        Args:
            user: Who it is.
            address: Where it is; it counts for those who did not sign in.
            requests: How many.

        Raises:
            Problem: There were too many; these are not counted.
        """
        rate = self.limits.requests_per_second
        if rate is None:
            return
        burst = self.limits.burst or max(1, math.ceil(2 * rate))
        client, now = f"user {user.id}" if user.id is not None else address, self.clock()
        full = max(self._full.pop(client, now), now) + requests / rate
        late = full - now - burst / rate
        self._full[client] = full if late <= 1e-9 else full - requests / rate
        if len(self._full) > _REMEMBERED:
            self._full.popitem(last=False)
        if late > 1e-9:
            raise too_many("too many requests", math.ceil(late))


class Connections:
    """Middleware that limits how many connections are served at the same time.

    Args:
        app: The application.
        limits: What clients may ask for.
    """

    def __init__(self, app: ASGIApp, limits: ClientLimits) -> None:
        self.app, self.limits = app, limits
        self.number, self.by_address = 0, Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, or refuses it."""
        if scope["type"] not in ("http", "websocket") or scope["path"].endswith(_ALWAYS):
            await self.app(scope, receive, send)
            return
        address, most = address_of(HTTPConnection(scope)), self.limits.connections_per_client
        if self.number >= self.limits.connections or (most is not None and self.by_address[address] >= most):
            await _refuse(scope, receive, send)
            return
        self.number += 1
        self.by_address[address] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.number -= 1
            self.by_address[address] -= 1
            if not self.by_address[address]:
                del self.by_address[address]


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    response = problem_response(too_many("too many connections", 5))
    if scope["type"] == "http":
        await response(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        head = {"type": "websocket.http.response.start", "status": response.status_code}
        await send({**head, "headers": response.raw_headers})
        await send({"type": "websocket.http.response.body", "body": response.body})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await anyio.lowlevel.checkpoint()  # the connection is closed then; uvicorn logs an error if this returns before
    else:
        await send({"type": "websocket.close", "code": 4429, "reason": "too many connections"})


def too_many(title: str, seconds: int) -> Problem:
    """Returns the problem that a client has to wait."""
    return Problem(429, title, f"try again in {seconds} s", headers=[("Retry-After", str(seconds))])


def address_of(connection: HTTPConnection) -> str:
    """Returns the address of a client, as the ASGI server says it: behind a proxy it must trust the proxy's headers."""
    return "" if connection.client is None else connection.client.host
