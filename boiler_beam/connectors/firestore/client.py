"""The connection to one Firestore database, and messages for its errors.

`FIRESTORE_EMULATOR_HOST` (HOST:PORT) names an emulator; otherwise the cloud is used, with the application's default
credentials.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from boiler_beam.connectors.firestore.protos import METHODS
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.values import Database

__all__ = ["PASSING", "Client", "emulator_hint", "explained"]

_ADDRESS = re.compile(r"([a-z][a-z0-9.:-]{3,62}[a-z0-9])(?:/([a-z0-9()-]+))?")
_HOST = "firestore.googleapis.com:443"
_SCOPES = ["https://www.googleapis.com/auth/datastore"]
_LARGEST = 128 << 20
_OPTIONS = [
    ("grpc.max_receive_message_length", _LARGEST),
    ("grpc.max_send_message_length", _LARGEST),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.use_local_subchannel_pool", 1),  # otherwise several clients of a process share one connection
    ("SingleThreadedUnaryStream", 1),  # three times as many documents a second from a streaming call
    ("grpc.http2.lookahead_bytes", 4 << 20),  # the server continues to send while documents are decoded
]
PASSING = frozenset(
    [
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    ]
)
"""Transient errors: the same call may succeed later."""
_CALL_SECONDS = 60.0
_SECONDS: dict[str, float | None] = {"RunQuery": 300.0, "Listen": None}
"""How long a response may take: without a limit, a call that the server never answers would block the program."""


class Client:
    """Calls Firestore's methods by name, with plain protobuf messages.

    >>> client = Client("my-project/eu-data")
    >>> client.root
    'projects/my-project/databases/eu-data/documents/'

    Args:
        address: `PROJECT` or `PROJECT/DATABASE`.
        environ: The environment variables, with `FIRESTORE_EMULATOR_HOST`.

    Attributes:
        uri: The URI, for messages.
        location: The project and name of the database.
        database: Its resource name, `projects/p/databases/(default)`.
        root: The prefix of every document's name, `projects/p/databases/(default)/documents/`.
        emulator: HOST:PORT of the emulator, or empty text.

    Raises:
        UsageError: The address is malformed.
    """

    def __init__(self, address: str, environ: Any = os.environ) -> None:
        found = _ADDRESS.fullmatch(address)
        self.uri = f"firestore:{address}"
        if found is None:
            raise UsageError(
                f"{self.uri}: expected firestore:PROJECT or firestore:PROJECT/DATABASE, got {address!r}; "
                "fix: write the project's id (gcloud config get project)"
            )
        self.location = Database(found[1], found[2]) if found[2] else Database(found[1])
        self.root = self.location.root
        self.database = self.root.removesuffix("/documents/")
        self.emulator = environ.get("FIRESTORE_EMULATOR_HOST", "")
        self._metadata = [("google-cloud-resource-prefix", self.database)]
        self._metadata.append(("x-goog-request-params", f"database={self.database}"))
        self._channel: grpc.Channel | None = None
        self._stubs: dict[str, Callable[..., Any]] = {}

    def call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """Calls a method once, and returns its response, or an iterator of responses.

        Args:
            method: `BatchWrite`, `RunQuery`, ...: see `boiler_beam.connectors.firestore.protos.METHODS`.
            request: The request; an iterator of requests for `Listen`.
            timeout: In seconds; None: a minute, five minutes for `RunQuery`, no limit for `Listen`.

        Raises:
            grpc.RpcError: The server refused the call, or can't be reached.
            UsageError: There are no credentials.
        """
        timeout = _SECONDS.get(method, _CALL_SECONDS) if timeout is None else timeout
        return self.stub(method)(request, timeout=timeout, metadata=self._metadata)

    def future(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """Calls a unary method, and returns a future of its response."""
        stub: Any = self.stub(method)
        return stub.future(request, timeout=timeout, metadata=self._metadata)

    def stub(self, method: str) -> Callable[..., Any]:
        """Returns gRPC's callable of a method."""
        if method not in self._stubs:
            if self._channel is None:
                if self.emulator:
                    self._metadata.append(("authorization", "Bearer owner"))
                self._channel = open_channel(self.uri, self.emulator, "FIRESTORE_EMULATOR_HOST", _HOST, _SCOPES)
            kind, request, response = METHODS[method]
            self._stubs[method] = getattr(self._channel, kind)(
                f"/google.firestore.v1.Firestore/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
        return self._stubs[method]

    def path_of(self, name: str) -> str:
        """Returns the path of a document from its resource name."""
        return name[len(self.root) :]

    def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            self._stubs.clear()


def emulator_hint(code: grpc.StatusCode, environ: Mapping[str, str] = os.environ) -> str:
    """Returns a hint for messages that the emulator may not run; empty without one, or if a server answered.

    >>> emulator_hint(grpc.StatusCode.UNAVAILABLE, {"FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080"})
    ' (FIRESTORE_EMULATOR_HOST=127.0.0.1:8080: does the emulator run?)'
    """
    host = environ.get("FIRESTORE_EMULATOR_HOST", "")
    is_down = host and code is grpc.StatusCode.UNAVAILABLE
    return f" (FIRESTORE_EMULATOR_HOST={host}: does the emulator run?)" if is_down else ""


def open_channel(uri: str, emulator: str, variable: str, host: str, scopes: Sequence[str]) -> grpc.Channel:
    """Connects to one of Google's services.

    Args:
        uri: The URI, for messages.
        emulator: HOST:PORT of an emulator to use instead, or empty text.
        variable: The environment variable that names the emulator.
        host: HOST:PORT of the service.
        scopes: The OAuth scopes of the credentials.

    Raises:
        UsageError: There are no credentials.
    """
    if emulator:
        return grpc.insecure_channel(emulator, options=_OPTIONS)
    import google.auth
    import google.auth.exceptions
    import google.auth.transport.grpc
    import google.auth.transport.requests

    try:
        credentials, _ = google.auth.default(scopes=scopes)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise UsageError(
            f"{uri}: expected credentials, got none ({error}); fix: gcloud auth application-default login, "
            f"or {variable}=HOST:PORT for an emulator"
        ) from None
    request = google.auth.transport.requests.Request()
    secured: Any = google.auth.transport.grpc.secure_authorized_channel
    channel: grpc.Channel = secured(credentials, request, host, options=_OPTIONS)
    return channel


_FIXES: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.PERMISSION_DENIED: "grant the role roles/datastore.user to the account of this program",
    grpc.StatusCode.UNAUTHENTICATED: "gcloud auth application-default login",
    grpc.StatusCode.NOT_FOUND: "check the project's id and the database (gcloud firestore databases list)",
    grpc.StatusCode.UNAVAILABLE: "check the network, and FIRESTORE_EMULATOR_HOST if it is set; then run again",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "check the project's quota; then run again",
}
_WRONG_USE = frozenset([grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.NOT_FOUND])


def failure(
    uri: str, error: grpc.RpcError, expected: str, fixes: Mapping[grpc.StatusCode, str] = _FIXES
) -> BoilerBeamError:
    """Returns the error, with a fix, for a call that the server refused."""
    code: Any = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = error.details() if isinstance(error, grpc.Call) else str(error)
    kind = UsageError if code in _WRONG_USE else BoilerBeamError
    fix = fixes.get(code, "read the server's message, and run it again")
    return kind(f"{uri}: expected {expected}, got {code.name}: {details}; fix: {fix}")


@contextmanager
def explained(uri: str, expected: str) -> Iterator[None]:
    """Converts a failed call into an error with a fix.

    Args:
        uri: The URI, for the message.
        expected: What was attempted: `to read users`.

    Raises:
        UsageError: No permission, no such database.
        BoilerBeamError: Anything else.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise failure(uri, error, expected) from error
