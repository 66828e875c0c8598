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
from typing import Any

import anyio
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from boiler_beam.serving.core import Core
from boiler_beam.serving.limits import address_of
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.rpc import PARSE_ERROR, error
from boiler_beam.serving.session import Gone, Session
from boiler_beam.serving.web import check_origin

__all__ = ["Sockets"]


class Sockets:
    """The WebSockets of one server.

    Args:
        core: Answers them.
        origins: Sites whose pages may connect, beside the server's own.
    """

    def __init__(self, core: Core, origins: frozenset[str]) -> None:
        self.core, self.origins = core, origins

    async def serve(self, socket: WebSocket) -> None:
        """Serves one connection to its end."""
        try:
            check_origin(socket, self.origins)
            user = await self.core.user(socket)
        except Problem as problem:
            await socket.close(4000 + problem.status, problem.title)
            return
        await socket.accept()

        async def send(message: Any) -> None:
            try:
                await socket.send_text(msgspec.json.encode(message).decode())
            except (WebSocketDisconnect, RuntimeError):
                raise Gone from None

        async with anyio.create_task_group() as tasks:
            session = Session(self.core, user, send, tasks.start_soon, address_of(socket))
            with contextlib.suppress(Gone):
                await self._receive(socket, session)
            tasks.cancel_scope.cancel()

    async def _receive(self, socket: WebSocket, session: Session) -> None:
        while True:
            received = await socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            frame = received.get("text") or received.get("bytes") or ""
            try:
                body = msgspec.json.decode(frame)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                await session.send(error(None, PARSE_ERROR, "not JSON"))
                continue
            await session.take(body)
