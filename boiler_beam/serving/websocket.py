"""`/ws`: many live views over one WebSocket, and reads and writes. Frames are JSON-RPC 2.0 (see `rpc`).

    -> {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"view": "MeetingSession", "offset": "-1"}}
    <- {"jsonrpc": "2.0", "id": 1, "result": {"subscription": 1}}
    <- {"jsonrpc": "2.0", "method": "rows", "params": {"subscription": 1, "messages": [...], "offset": "...",
        "upToDate": true}}

Messages are those of the streams. A client applies them together where `upToDate` is true: these are then the rows as
of one commit. It keeps `offset`, and subscribes with it when it connects again: it gets what it missed, or, after
`{"headers": {"control": "reset"}}`, all rows. `authenticate` with a `token` comes first where no header could be set.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import anyio
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from boiler_beam.serving.access import NOBODY, User
from boiler_beam.serving.catalog import ServedView
from boiler_beam.serving.core import Core
from boiler_beam.serving.messages import control
from boiler_beam.serving.offsets import BEGIN
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.rpc import PARSE_ERROR, Rpc, error
from boiler_beam.serving.streams import framed
from boiler_beam.serving.web import check_origin, token_of

__all__ = ["Sockets"]

_log = logging.getLogger("boiler_beam.serving")


class Sockets:
    """The WebSockets of one server.

    Args:
        core: Answers them.
        origins: Sites whose pages may connect, beside the server's own.
        max_subscriptions: Of one connection.
        idle_seconds: How often a subscription without changes says that it lives.
    """

    def __init__(
        self, core: Core, origins: frozenset[str], max_subscriptions: int = 100, idle_seconds: float = 15.0
    ) -> None:
        self.core, self.origins = core, origins
        self.max_subscriptions, self.idle_seconds = max_subscriptions, idle_seconds

    async def serve(self, socket: WebSocket) -> None:
        """Serves one connection to its end."""
        try:
            check_origin(socket, self.origins)
            user = await self.core.access.user(token_of(socket))
        except Problem as problem:
            await socket.close(4000 + problem.status, problem.title)
            return
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, anyio.BrokenResourceError, RuntimeError):
            async with anyio.create_task_group() as tasks:
                await _Connection(self, socket, user, tasks).run()
                tasks.cancel_scope.cancel()


class _Connection:
    def __init__(self, sockets: Sockets, socket: WebSocket, user: User, tasks: Any) -> None:
        self.sockets, self.core, self.socket, self.user, self.tasks = sockets, sockets.core, socket, user, tasks
        self.subscriptions: dict[int, anyio.CancelScope] = {}
        self.rpc = Rpc(
            self.core,
            {"authenticate": self._authenticate, "subscribe": self._subscribe, "unsubscribe": self._unsubscribe},
        )
        self.last = 0
        self.begun: list[tuple[int, ServedView, str]] = []

    async def run(self) -> None:
        while True:
            received = await self.socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            frame = received.get("text") or received.get("bytes") or ""
            try:
                body = msgspec.json.decode(frame)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                await self._send(error(None, PARSE_ERROR, "not JSON"))
                continue
            answer = await self.rpc.call(self.user, body)
            if answer is not None:
                await self._send(answer)
            for one in self.begun:  # its rows come behind the answer
                self.tasks.start_soon(self._follow, *one)
            self.begun.clear()

    async def _send(self, message: Any) -> None:
        await self.socket.send_text(msgspec.json.encode(message).decode())

    async def _authenticate(self, user: User, params: Mapping[str, Any]) -> Any:
        token = params.get("token")
        if not isinstance(token, str):
            raise Problem(400, "invalid parameter", "token: expected text")
        if self.subscriptions or self.user != NOBODY:
            raise Problem(400, "invalid request", "authenticate: expected to come first")
        self.user = await self.core.access.user(token)
        return {"user": self.user.id}

    async def _subscribe(self, user: User, params: Mapping[str, Any]) -> Any:
        view, given = self.core.catalog.named(params.get("view")), params.get("offset", BEGIN)
        if len(self.subscriptions) >= self.sockets.max_subscriptions:
            raise Problem(429, "too many subscriptions")
        if not isinstance(given, str):
            raise Problem(400, "invalid offset", "expected text")
        self.core.hub.check_followed(view, user)
        self.core.resume(view, given)
        self.last += 1
        self.subscriptions[self.last] = anyio.CancelScope()
        self.begun.append((self.last, view, given))
        return {"subscription": self.last}

    async def _unsubscribe(self, user: User, params: Mapping[str, Any]) -> Any:
        number = params.get("subscription")
        scope = self.subscriptions.pop(number, None) if isinstance(number, int) else None
        if scope is None:
            raise Problem(404, "no such subscription")
        scope.cancel()
        self.begun = [one for one in self.begun if one[0] != number]
        return {"subscription": number}

    async def _follow(self, number: int, view: ServedView, offset: str) -> None:
        scope = self.subscriptions.get(number)
        if scope is None:
            return
        with scope:
            try:
                await self._rows(number, view, offset)
            except Problem as problem:
                await self._tell("ended", {"subscription": number, "problem": problem.as_json()})
            except (WebSocketDisconnect, RuntimeError):  # the client went away while it was sent something
                return
            except Exception:
                _log.exception("a subscription to %s failed", view.name)
                await self._tell("ended", {"subscription": number, "problem": Problem(500, "internal error").as_json()})
        self.subscriptions.pop(number, None)

    async def _rows(self, number: int, view: ServedView, offset: str) -> None:
        following = self.core.follow(self.user, view, offset, self.sockets.idle_seconds)
        async with contextlib.aclosing(following):
            async for followed in following:
                batch = followed.batch
                if batch is None:
                    await self._tell("alive", {"subscription": number})
                    continue
                messages = framed(batch, self.core.encoded(batch, self.user, view), followed.begin)
                if followed.is_reset:
                    messages.insert(0, control("reset"))
                if messages or batch.is_whole:
                    told = {"messages": [msgspec.Raw(one) for one in messages], "offset": followed.offset}
                    await self._tell("rows", {"subscription": number, **told, "upToDate": batch.is_whole})

    async def _tell(self, method: str, params: Any) -> None:
        await self._send({"jsonrpc": "2.0", "method": method, "params": params})
