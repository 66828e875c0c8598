"""What all modules that answer requests of HTTP share."""

from __future__ import annotations

import zlib
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from boiler_beam.serving.problems import Problem

__all__ = [
    "audience",
    "check_origin",
    "decode_body",
    "flag",
    "integer",
    "matches",
    "only",
    "problem_response",
    "read_body",
    "read_json_body",
    "token_of",
    "vary",
]


def problem_response(problem: Problem) -> Response:
    """Returns a problem as a response."""
    headers = {"Cache-Control": "no-store", **dict(problem.headers)}
    body = msgspec.json.encode(problem.as_json())
    return Response(body, problem.status, headers, media_type="application/problem+json")


async def read_body(request: Request, most: int) -> bytes:
    """Returns the body of a request.

    Raises:
        Problem: It is larger than `most` bytes.
    """
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > most:
            raise Problem(413, "too large", f"a body may have {most:,} bytes")
    return bytes(found)


async def read_json_body(request: Request, most: int) -> bytes:
    """Returns a body that is said to be JSON, which pages of other sites can't send without being asked (CORS).

    Raises:
        Problem: It is said to be something else, or is larger than `most` bytes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "not JSON", "Content-Type: expected application/json")
    return await read_body(request, most)


def decode_body(body: bytes) -> Any:
    """Returns what a body says.

    Raises:
        Problem: It is not JSON.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Problem(400, "not JSON", "the body: expected JSON") from None


def only(request: Request, *methods: str) -> None:
    """Refuses other methods.

    Raises:
        Problem: The request has another one.
    """
    if request.method not in methods:
        raise Problem(405, "no such method", headers=[("Allow", ", ".join(methods))])


def integer(text: str, name: str) -> int:
    """Returns the value of a parameter.

    Raises:
        Problem: It is no number from 0.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Problem(400, "invalid parameter", f"{name}: expected a number")
    return int(text)


def audience(hidden: frozenset[str]) -> str:
    """Returns a short text for ETags that tells apart users who see different properties; empty if all are seen."""
    return f"{zlib.crc32(','.join(sorted(hidden)).encode()):08x}" if hidden else ""


def matches(given: str | None, tag: str) -> bool:
    """Returns whether If-None-Match names an ETag."""
    if given is None:
        return False
    return given.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in given.split(","))


def vary(is_open: bool) -> dict[str, str]:
    """Returns the header that keeps a cache from giving one user what another one was answered."""
    return {} if is_open else {"Vary": "Authorization"}


def token_of(connection: HTTPConnection) -> str | None:
    """Returns the token in `Authorization: Bearer`; None if there is no such header.

    Raises:
        Problem: The header is of another kind.
    """
    given = connection.headers.get("authorization")
    if given is None:
        return None
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(401, "invalid token", "expected Authorization: Bearer", headers=[("WWW-Authenticate", "Bearer")])
    return token.strip()


def check_origin(connection: HTTPConnection, origins: frozenset[str]) -> None:
    """Refuses pages of other sites, which browsers let open a WebSocket or send a form to any address.

    Raises:
        Problem: The request comes from a page of another site that is not among `origins`.
    """
    origin = connection.headers.get("origin")
    if origin is None or origin in origins or "*" in origins:
        return
    if urlsplit(origin).netloc != connection.headers.get("host"):
        raise Problem(403, "not allowed", "pages of this origin may not do that")


def flag(value: str | None, name: str) -> bool:
    """Returns whether a parameter is 1.

    Raises:
        Problem: It is neither 0 nor 1.
    """
    if value not in (None, "0", "1"):
        raise Problem(400, "invalid parameter", f"{name}: expected 0 or 1")
    return value == "1"
