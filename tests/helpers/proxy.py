"""Proxies between a client and a server, which break connections and calls.

with TcpProxy("127.0.0.1:8080") as proxy:      # any protocol
    ...                                        # clients connect to proxy.address
    proxy.cut()                                # every connection is reset; new ones are carried

with GrpcProxy("127.0.0.1:8080") as proxy:     # any gRPC service
    proxy.rule = lambda call: ...              # see `GrpcProxy.rule`
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc

_BLOCK, _A_DAY = 1 << 16, 86_400
_RESET = struct.pack("ii", 1, 0)
"""A value of SO_LINGER by which closing resets the connection."""


class TcpProxy:
    """Forwards connections to a server until they are cut.

    Args:
        server: HOST:PORT.

    Attributes:
        address: HOST:PORT where it listens.
        connections: The number of connections so far.
        carried: The number of bytes from the server so far.
        cut_at: Numbers of bytes from the server; at each one all connections are cut once.
        delay_seconds: How long each block is delayed.
    """

    def __init__(self, server: str) -> None:
        host, port = server.rsplit(":", 1)
        self._server = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections, self.carried, self.delay_seconds = 0, 0, 0.0
        self.cut_at: list[int] = []
        self._is_up, self._is_closed = True, False
        self._open: set[socket.socket] = set()
        self._changing = threading.Lock()

    def __enter__(self) -> TcpProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_closed = True
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Resets all connections."""
        with self._changing:
            some, self._open = self._open, set()
        for one in some:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                one.shutdown(socket.SHUT_RD)  # wakes who reads from it
            one.close()

    def down(self) -> None:
        """Resets all connections, and every new one."""
        self._is_up = False
        self.cut()

    def up(self) -> None:
        """Forwards new connections again."""
        self._is_up = True

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            if not self._is_up:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            server = socket.create_connection(self._server)
            with self._changing:
                self._open |= {client, server}
            for ends in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while block := source.recv(_BLOCK):
                if is_answer:
                    self.carried += len(block)
                    if self.cut_at and self.carried >= self.cut_at[0]:
                        del self.cut_at[0]
                        self.cut()
                        return
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                target.sendall(block)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@dataclass
class Call:
    """One call to a `GrpcProxy`.

    Attributes:
        method: `RunQuery`, `Publish`, ...
        number: The number of earlier calls of this method.
        requests: The request messages, as bytes.
    """

    method: str
    number: int
    requests: Iterator[bytes] = field(repr=False)


class GrpcProxy:
    """Forwards gRPC calls to a server, except those that a rule answers or refuses.

    Args:
        server: HOST:PORT.

    Attributes:
        address: HOST:PORT where it listens.
        rule: Called with each call: None forwards it; a status code refuses it; messages as bytes are its response. To read
            a request, the rule takes it out of `call.requests` and puts the request to forward there.
        calls: The number of calls of each method.
    """

    def __init__(self, server: str) -> None:
        self.rule: Callable[[Call], grpc.StatusCode | Iterable[bytes] | None] = lambda call: None
        self.calls: dict[str, int] = {}
        self._counting = threading.Lock()
        large = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(server, options=[*large, ("grpc.use_local_subchannel_pool", 1)])
        self._server = grpc.server(ThreadPoolExecutor(64), handlers=[_Handlers(self._answered)], options=large)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> GrpcProxy:
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stop(0).wait()
        self._channel.close()

    def _answered(self, name: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        method = name.rsplit("/", 1)[1]
        with self._counting:
            number = self.calls.get(method, 0)
            self.calls[method] = number + 1
        call = Call(method, number, requests)
        verdict = self.rule(call)
        if isinstance(verdict, grpc.StatusCode):
            context.abort(verdict, f"{verdict.name}, said the proxy")
        elif verdict is not None:
            yield from verdict
        else:
            yield from self._carried(name, call.requests, context)

    def _carried(self, name: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        left = context.time_remaining()
        if left is not None and left > _A_DAY:  # no deadline, which would overflow
            left = None
        metadata = [one for one in context.invocation_metadata() if not one.key.startswith(("grpc-", "user-agent"))]
        answers = self._channel.stream_stream(name)(requests, metadata=metadata, timeout=left)
        context.add_callback(answers.cancel)
        try:
            yield from answers
        except grpc.RpcError as error:
            code: Any = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            context.abort(code, error.details() if isinstance(error, grpc.Call) else "")


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, answered: Callable[[str, Iterator[bytes], Any], Iterator[bytes]]) -> None:
        self.answered = answered

    def service(self, details: Any) -> Any:
        name = details.method
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: self.answered(name, requests, context))
