"""Socket.IO at `/socket.io`, for clients that have it: the calls and live rows of `/ws`, as events named `rpc`.

    socket.on("rpc", (message, taken) => { ...; taken(); });
    socket.emit("rpc", {jsonrpc: "2.0", id: 1, method: "subscribe", params: {view: "MeetingSession"}});

A message of the server is acknowledged before the next one of its subscription is sent, so that a slow client costs no
memory. A subscription whose message is not acknowledged within a minute is ended, and the client is told so (`ended`).
The token is `auth: {token}` of the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import socketio
from starlette.requests import HTTPConnection

from boiler_beam.serving.core import Core
from boiler_beam.serving.limits import address_of
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.session import Gone, Session

__all__ = ["socketio_app"]


def socketio_app(core: Core, origins: Sequence[str], max_body: int, taken_seconds: float = 60.0) -> Any:
    """Returns an ASGI application for `/socket.io`.

    Args:
        core: Answers what is asked.
        origins: Sites whose pages may connect, beside the server's own.
        max_body: Bytes that a message may have.
        taken_seconds: How long a client may take to acknowledge a message of a subscription.
    """
    server = socketio.AsyncServer(
        async_mode="asgi", cors_allowed_origins=list(origins) or None, max_http_buffer_size=max_body
    )
    sessions: dict[str, Session] = {}

    async def connect(client: str, environ: Any, auth: Any) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        try:
            address = address_of(HTTPConnection(environ["asgi.scope"]))
            user = await core.access.user(token if isinstance(token, str) else None)
            core.rates.take(user, address)
        except Problem as problem:
            raise socketio.exceptions.ConnectionRefusedError(problem.title, problem.as_json()) from None

        async def send(message: Any) -> None:
            plain = msgspec.json.decode(msgspec.json.encode(message))
            try:
                if isinstance(message, dict) and message.get("method") in ("rows", "alive"):
                    await server.call("rpc", plain, to=client, timeout=taken_seconds)
                else:
                    await server.emit("rpc", plain, to=client)
            except socketio.exceptions.TimeoutError:
                detail = (
                    f"a message was not acknowledged within {taken_seconds:g} s; subscribe again with the last offset"
                )
                raise Problem(408, "not acknowledged", detail) from None
            except socketio.exceptions.SocketIOError:
                raise Gone from None

        sessions[client] = Session(core, user, send, server.start_background_task, address)

    async def disconnect(client: str, reason: str = "") -> None:
        session = sessions.pop(client, None)
        if session is not None:
            session.close()

    async def rpc(client: str, body: Any) -> None:
        session = sessions.get(client)
        if session is not None:
            await session.take(body)

    for name, handler in (("connect", connect), ("disconnect", disconnect), ("rpc", rpc)):
        server.on(name, handler)
    return socketio.ASGIApp(server, socketio_path="")
