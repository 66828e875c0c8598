"""Clients of the serving benchmark: as little as HTTP and WebSocket need, so that they do not limit the server.

They ask for compression as browsers do, and take it if the server wants it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import zlib
from collections.abc import Callable

import msgspec

__all__ = ["Http", "Subscriber"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class Http(asyncio.Protocol):
    """One connection that is kept; one request after the other."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None

    @classmethod
    async def connect(cls, port: int) -> Http:
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def call(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Sends a request; returns status, head and body of the answer."""
        if self.transport.is_closing():
            raise ConnectionResetError("the server closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = bytes(self._buffer).partition(b"\r\n\r\n")
        if not separator:
            return
        found, status = _LENGTH.search(head), int(head[9:12])
        length = int(found[1]) if found and status != 304 else 0
        if len(body) >= length and self._answer is not None:
            self._buffer.clear()
            answer, self._answer = self._answer, None
            answer.set_result((status, head, body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_exception(error or ConnectionResetError("the server closed the connection"))


class Subscriber(asyncio.Protocol):
    """A WebSocket that follows one view.

    Args:
        view: Its name.
        offset: Where it begins.
        take: Called with each text message.

    Attributes:
        is_open: Done when the server has taken the subscription.
        lost: Whether the connection ended.
    """

    def __init__(self, view: str, offset: str, take: Callable[[Subscriber, bytes], None]) -> None:
        self._params, self._take = {"view": view, "offset": offset}, take
        self._buffer, self._needed = bytearray(), 0
        self._inflate: zlib._Decompress | None = None
        self._is_upgraded = self.lost = False
        self.is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, port: int) -> Subscriber:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_upgraded:
            self._upgrade()
        while self._is_upgraded and len(self._buffer) >= max(2, self._needed) and self._frame():
            pass

    def _upgrade(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        if not head.startswith(b"HTTP/1.1 101"):
            self.is_open.set_exception(ConnectionError(head.decode()))
            self.transport.close()
            return
        if b"permessage-deflate" in head:
            self._inflate = zlib.decompressobj(-15)
        self._is_upgraded = True
        self._send(
            _TEXT, msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": self._params})
        )

    def _frame(self) -> bool:
        """Takes one frame, if it is there whole. Frames of a server are not masked, and its messages are not split."""
        first, length, begin = self._buffer[0], self._buffer[1], 2
        if length == 126:
            length, begin = int.from_bytes(self._buffer[2:4], "big"), 4
        elif length == 127:
            length, begin = int.from_bytes(self._buffer[2:10], "big"), 10
        self._needed = begin + length
        if len(self._buffer) < self._needed:
            return False
        payload = bytes(self._buffer[begin : self._needed])
        del self._buffer[: self._needed]
        self._needed = 0
        if first & 0x40 and self._inflate is not None:
            payload = self._inflate.decompress(payload + b"\x00\x00\xff\xff")
        kind = first & 0x0F
        if kind == _TEXT:
            self._text(payload)
        elif kind == _PING:
            self._send(_PONG, payload)
        elif kind == _CLOSE:
            self.transport.close()
        return True

    def _text(self, payload: bytes) -> None:
        if self.is_open.done():
            self._take(self, payload)
        elif b'"result"' in payload:
            self.is_open.set_result(None)
        else:
            self.is_open.set_exception(ConnectionError(payload.decode()))

    def _send(self, kind: int, payload: bytes) -> None:
        length = len(payload)
        head = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
        self.transport.write(bytes([0x80 | kind]) + head + bytes(4) + payload)  # masked with zeros

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.is_open.done():
            self.is_open.set_exception(error or ConnectionResetError("the server closed the connection"))
