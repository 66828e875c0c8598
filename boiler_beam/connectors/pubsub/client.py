"""The connection to Pub/Sub, names of topics and subscriptions, and messages for its errors.

`PUBSUB_EMULATOR_HOST` (HOST:PORT) names an emulator; otherwise the cloud is used, with the application's default
credentials.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Any

import grpc

from boiler_beam.connectors.firestore import client as firestore
from boiler_beam.connectors.pubsub.protos import METHODS
from boiler_beam.errors import BoilerBeamError, UsageError

__all__ = ["PASSING", "Client", "failure", "resource_name"]

PASSING = firestore.PASSING
_HOST = "pubsub.googleapis.com:443"
_SCOPES = ["https://www.googleapis.com/auth/pubsub"]
_NAME = re.compile(r"projects/[a-z0-9][a-z0-9.:-]+/(subscriptions|topics)/[A-Za-z][A-Za-z0-9._~+%-]{2,254}")


def resource_name(uri: str, rest: str, kind: str) -> str:
    """Checks and returns the name of a subscription or topic.

    >>> resource_name("pubsub:projects/p/topics/rows", "projects/p/topics/rows", "topics")
    Traceback (most recent call last):
        ...
    boiler_beam.errors.UsageError: pubsub:projects/p/topics/rows: expected pubsub:projects/PROJECT/topics/NAME, \
got 'projects/p/topics/rows'; fix: write the name as listed by gcloud pubsub topics list

    Args:
        uri: The URI, for messages.
        rest: The name.
        kind: `subscriptions` or `topics`.

    Raises:
        UsageError: It is not such a name.
    """
    found = _NAME.fullmatch(rest)
    if found is None or found[1] != kind:
        raise UsageError(
            f"{uri}: expected pubsub:projects/PROJECT/{kind}/NAME, got {rest!r}; "
            f"fix: write the name as listed by gcloud pubsub {kind} list"
        )
    return rest


class Client:
    """Calls Pub/Sub's methods by name, from any thread, with plain protobuf messages.

    Args:
        uri: The URI, for messages.
        name: The subscription or topic.
        environ: The environment variables, with `PUBSUB_EMULATOR_HOST`.
    """

    def __init__(self, uri: str, name: str, environ: Any = os.environ) -> None:
        self.uri, self.name = uri, name
        self.emulator = environ.get("PUBSUB_EMULATOR_HOST", "")
        kind = "subscription" if "/subscriptions/" in name else "topic"
        self._metadata = [("x-goog-request-params", f"{kind}={name}")]
        self._channel: grpc.Channel | None = None
        self._stubs: dict[str, Callable[..., Any]] = {}
        self._opening = threading.Lock()

    def call(self, method: str, request: Any, timeout: float = 60) -> Any:
        """Calls a method once, and returns its response.

        Raises:
            grpc.RpcError: The server refused the call, or can't be reached.
            UsageError: There are no credentials.
        """
        return self._stub(method)(request, timeout=timeout, metadata=self._metadata)

    def future(self, method: str, request: Any, timeout: float = 60) -> Any:
        """Calls a method, and returns a future of its response."""
        stub: Any = self._stub(method)
        return stub.future(request, timeout=timeout, metadata=self._metadata)

    def _stub(self, method: str) -> Callable[..., Any]:
        with self._opening:
            if method not in self._stubs:
                if self._channel is None:
                    self._channel = firestore.open_channel(
                        self.uri, self.emulator, "PUBSUB_EMULATOR_HOST", _HOST, _SCOPES
                    )
                service, request, response = METHODS[method]
                self._stubs[method] = self._channel.unary_unary(
                    f"/google.pubsub.v1.{service}/{method}",
                    request_serializer=request.SerializeToString,
                    response_deserializer=response.FromString,
                )
            return self._stubs[method]

    def close(self) -> None:
        """Closes the connection."""
        with self._opening:
            if self._channel is not None:
                self._channel.close()
                self._channel = None
                self._stubs.clear()


def failure(client: Client, error: grpc.RpcError, expected: str) -> BoilerBeamError:
    """Returns the error, with a fix, for a call that the server refused."""
    is_topic = "/topics/" in client.name
    role = "roles/pubsub.publisher" if is_topic else "roles/pubsub.subscriber and roles/pubsub.viewer"
    _, project, kind, short = client.name.split("/", 3)
    create = f"{kind} create {short}{'' if is_topic else ' --topic=TOPIC'} --project={project}"
    if client.emulator:
        create += f" (gcloud needs CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=http://{client.emulator}/)"
    fixes = {
        grpc.StatusCode.PERMISSION_DENIED: f"grant {role} to the account of this program",
        grpc.StatusCode.UNAUTHENTICATED: "gcloud auth application-default login",
        grpc.StatusCode.NOT_FOUND: f"gcloud pubsub {create}",
        grpc.StatusCode.UNAVAILABLE: "check the network, and PUBSUB_EMULATOR_HOST if it is set; then run again",
        grpc.StatusCode.RESOURCE_EXHAUSTED: "check the project's quota; then run again",
    }
    return firestore.failure(client.uri, error, expected, fixes)
