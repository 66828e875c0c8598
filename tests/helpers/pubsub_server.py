"""A Pub/Sub server whose responses a test decides, for faults that the emulator does not have."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from boiler_beam.connectors.pubsub.protos import METHODS

Answer = Callable[[Any], Any]
"""Called with a request; returns the response, or a `grpc.StatusCode` of refusal."""


class FakePubsub:
    """Serves on a free port until it is closed.

    Attributes:
        host: HOST:PORT.
        answers: By method; one that has none gives an empty answer.
        requests: What came, by method.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.ended = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 10 << 20)])
        for name, (service, request, response) in METHODS.items():
            handler = grpc.unary_unary_rpc_method_handler(
                self._handler(name, response), request.FromString, response.SerializeToString
            )
            generic = grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", {name: handler})
            self._server.add_generic_rpc_handlers([generic])
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _handler(self, name: str, response: Any) -> Callable[[Any, Any], Any]:
        def handle(request: Any, context: Any) -> Any:
            self.requests[name].append(request)
            answer = self.answers.get(name, lambda request: response())(request)
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, "as the test says")
            return answer

        return handle

    def close(self) -> None:
        """Stops the server; responses that wait for `ended` are dropped."""
        self.ended.set()
        self._server.stop(None).wait()
