"""An empty Firestore and an empty Pub/Sub in this process, so that a job can be built without a cloud.

A job's graph does not depend on what a database holds, but making it asks the database for its partitions, and Pub/Sub
for the subscription's topic.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from boiler_beam.connectors.firestore.protos import METHODS as FIRESTORE
from boiler_beam.connectors.pubsub.protos import METHODS as PUBSUB
from boiler_beam.connectors.pubsub.protos import Subscription

__all__ = ["blank_cloud"]


def _read(response: Any) -> Any:
    """Returns an answer without a document: only the time of the read."""
    answer = response()
    answer.read_time.seconds = 1
    return answer


def _subscription(request: Any) -> Any:
    project = request.subscription.partition("/subscriptions/")[0]
    return Subscription(name=request.subscription, topic=f"{project}/topics/changes", ack_deadline_seconds=60)


def _handlers() -> Iterator[Any]:
    for method, (kind, request, response) in FIRESTORE.items():
        if kind == "unary_stream":
            answer: Any = lambda request, context, response=response: iter([_read(response)])  # noqa: E731
            make: Any = grpc.unary_stream_rpc_method_handler
        elif kind == "unary_unary":
            answer = lambda request, context, response=response: response()  # noqa: E731
            make = grpc.unary_unary_rpc_method_handler
        else:
            continue  # nothing is listened to
        handler = make(answer, request.FromString, response.SerializeToString)
        yield grpc.method_handlers_generic_handler("google.firestore.v1.Firestore", {method: handler})
    service, request, response = PUBSUB["GetSubscription"]
    found = grpc.unary_unary_rpc_method_handler(
        lambda request, context: _subscription(request), request.FromString, response.SerializeToString
    )
    yield grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", {"GetSubscription": found})


@contextmanager
def blank_cloud() -> Iterator[None]:
    """Serves both while the context is open; the clients of this process find them by the environment."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(list(_handlers()))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    given = {"FIRESTORE_EMULATOR_HOST": address, "PUBSUB_EMULATOR_HOST": address, "NO_GCE_CHECK": "true"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        server.stop(None).wait()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
