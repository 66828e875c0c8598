"""A gRPC server in front of another one, that does to calls what a test says: any service, bytes in and out.

    with Proxy("127.0.0.1:8080", policy) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)

    def policy(call: Call) -> Fault | None:
        return Fault(grpc.StatusCode.UNAVAILABLE) if call.method == "BatchWrite" and call.number < 3 else None

A policy is asked for every call, in any thread; `Faults` are made of it for one call. `Proxy.cut` breaks all connections.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc

__all__ = ["Call", "Fault", "Proxy", "statuses"]

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
_NEVER_SECONDS = 1e6
"""A call without a deadline says more than that remains."""
_HOP = {"user-agent", "te", "content-type", "grpc-accept-encoding", "accept-encoding", "grpc-timeout"}


@dataclass(frozen=True)
class Call:
    """A call that came.

    Attributes:
        method: Its last name, `BatchWrite`.
        number: How many calls of that method came before.
        request: Its message; of streams the first one, else empty.
    """

    method: str
    number: int
    request: bytes


@dataclass(frozen=True)
class Fault:
    """What is done to a call.

    Attributes:
        code: It fails so; None: it is let through.
        is_done: Whether the server behind does it before it fails: its answer is lost.
        details: What the error says.
        change: Makes another answer of each answer.
        first: Makes another request of the request.
        before, after: Called before the request is sent, and when the answer came: to wait for something.
        answers: Of a stream so many are let through before it fails.
    """

    code: grpc.StatusCode | None = None
    is_done: bool = False
    details: str = "injected"
    change: Callable[[bytes], bytes] | None = None
    first: Callable[[bytes], bytes] | None = None
    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None
    answers: int = 0


Policy = Callable[[Call], "Fault | None"]


class Proxy:
    """The server; listens on a free port of 127.0.0.1 until it is closed.

    Args:
        behind: HOST:PORT of the real one.
        policy: What becomes of a call; may be replaced at any time.

    Attributes:
        address: HOST:PORT of this one.
        calls: How many of each method came.
    """

    def __init__(self, behind: str, policy: Policy = lambda call: None) -> None:
        self.behind, self.policy = behind, policy
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()
        self._port = 0
        self._open()
        self.address = f"127.0.0.1:{self._port}"

    def _open(self) -> None:
        self._channel = grpc.insecure_channel(self.behind, options=_OPTIONS)
        self._threads = ThreadPoolExecutor(64)
        self._server = grpc.server(self._threads, options=_OPTIONS)
        self._server.add_generic_rpc_handlers([_Handler(self)])
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()

    def cut(self) -> None:
        """Breaks every call in flight and every connection; then listens again at the same address."""
        self.close()
        self._open()

    def close(self) -> None:
        self._server.stop(None).wait()
        self._channel.close()
        self._threads.shutdown()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def came(self, method: str, request: bytes) -> Call:
        with self._lock:
            number = self.calls.get(method, 0)
            self.calls[method] = number + 1
        return Call(method, number, request)

    def answered(self, path: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """One call, whatever its kind: all are streams of bytes."""
        first = next(requests, b"")
        fault = self.policy(self.came(path.rpartition("/")[2], first)) or Fault()
        if fault.before is not None:
            fault.before()
        if fault.code is not None and not (fault.is_done or fault.answers):
            context.abort(fault.code, fault.details)
        if fault.first is not None:
            first = fault.first(first)
        metadata = [(key, value) for key, value in context.invocation_metadata() if key not in _HOP]
        behind = self._channel.stream_stream(path)
        remaining = context.time_remaining()
        timeout = remaining if remaining is not None and remaining < _NEVER_SECONDS else None
        call = behind(itertools.chain([first], requests), timeout=timeout, metadata=metadata)
        context.add_callback(call.cancel)
        number = 0
        try:
            for answer in call:
                if fault.code is not None and number >= fault.answers:
                    if fault.is_done:
                        continue
                    break
                number += 1
                yield answer if fault.change is None else fault.change(answer)
        except grpc.RpcError as error:
            if fault.after is not None:
                fault.after()
            context.abort(error.code(), error.details())
        if fault.after is not None:
            fault.after()
        if fault.code is not None:
            context.abort(fault.code, fault.details)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def service(self, details: Any) -> Any:
        def answered(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            return self.proxy.answered(details.method, requests, context)

        return grpc.stream_stream_rpc_method_handler(answered)


def statuses(request: Any, response: Any, chance: random.Random, share: float, code: grpc.StatusCode) -> Any:
    """A policy under which a share of the writes of each `BatchWrite` is not done, and said to have failed so.

    Args:
        request: The message class of the request, `BatchWriteRequest`.
        response: That of the answer.
        chance: Which writes.
        share: How many of them.
        code: How.
    """

    def policy(call: Call) -> Fault | None:
        if call.method != "BatchWrite":
            return None
        asked = request.FromString(call.request)
        fails = [chance.random() < share for _ in asked.writes]

        def first(data: bytes) -> bytes:
            left = [write for write, is_failing in zip(asked.writes, fails, strict=True) if not is_failing]
            return bytes(request(database=asked.database, writes=left).SerializeToString())

        def change(data: bytes) -> bytes:
            done, answer = response.FromString(data), response()
            results, codes = iter(done.write_results), iter(done.status)
            for is_failing in fails:
                answer.write_results.append(type(done.write_results[0])() if is_failing else next(results))
                answer.status.add().CopyFrom(next(codes)) if not is_failing else answer.status.add(code=code.value[0])
            return bytes(answer.SerializeToString())

        return None if not any(fails) or all(fails) else Fault(first=first, change=change)

    return policy
