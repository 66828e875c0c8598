"""The read half of Durable Streams as the server has it, with a write path for its conformance tests alone.

`/v1/stream/{name}` is a stream of bytes or JSON messages: PUT creates it and POST appends to it, by rows in a sink of
its own; GET and HEAD are answered by `boiler_beam.serving.streams.Streams`, with the appended messages for rows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import boiler_beam as bb
from boiler_beam import root, view_property
from boiler_beam.connectors.sqlite import SqliteSink
from boiler_beam.events import EncodedRow, Stamp
from boiler_beam.plan import compile_plan
from boiler_beam.serving.access import NOBODY, Access, User
from boiler_beam.serving.app import cors_of
from boiler_beam.serving.catalog import Catalog, ServedView
from boiler_beam.serving.core import Core
from boiler_beam.serving.hub import Batch, Hub
from boiler_beam.serving.offsets import Position
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.rows import Rows
from boiler_beam.serving.streams import Streams
from boiler_beam.serving.web import decode_body, problem_response
from boiler_beam.values import encode_fields


class Entry(bb.DomainModel, collection="entries"):
    payload: str


class Log(bb.ViewModel, collection="log"):
    class Store(bb.Store):
        entry: Entry = root(Entry)

    store: Store

    @view_property
    def payload(self) -> str:
        return self.store.entry.payload


PLAN = compile_plan([Log])
TARGET = PLAN.views[0].target


class _Core(Core):
    def encoded(self, batch: Batch, user: User, view: ServedView) -> Sequence[bytes]:
        rows = [one.row for one in batch.messages if one.row is not None]
        return [base64.b64decode(json.loads(row.fields)["payload"]) for row in rows]


class _Streams(Streams):
    needs_offset = False

    def __init__(self, core: Core, media_type: str) -> None:
        super().__init__(core, poll_seconds=3.0)
        self.media_type = media_type

    def framed(self, batch: Batch, messages: Any, begin: Position | None) -> list[bytes]:
        return list(messages)

    def joined(self, messages: list[bytes]) -> bytes:
        return super().joined(messages) if self.media_type == "application/json" else b"".join(messages)

    def data_event(self, messages: list[bytes]) -> bytes:
        if self.media_type == "application/json":
            return super().data_event(messages)
        text = b"".join(messages).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return b"event: data\n" + b"".join(b"data:" + line + b"\n" for line in text.split(b"\n")) + b"\n"


class _Stream:
    """One stream: its rows and what reads them."""

    def __init__(self, path: Path, media_type: str, stack: ExitStack) -> None:
        self.media_type, self.number = media_type, 0
        sink, rows, access = SqliteSink(str(path)), Rows(str(path)), Access()
        self.writer = stack.enter_context(sink.stream([TARGET]))
        stack.callback(rows.close)
        hub = Hub(rows, access)
        sink.written = hub.wake
        self.core = _Core(Catalog(PLAN), rows, hub, access)
        self.streams = _Streams(self.core, media_type)

    def append(self, body: bytes) -> None:
        """Appends the messages in a body, in one transaction."""
        messages = [body]
        if self.media_type == "application/json":
            given = decode_body(body)
            if given == []:
                raise Problem(400, "nothing to append")
            messages = [json.dumps(one).encode() for one in (given if isinstance(given, list) else [given])]
        rows = []
        for message in messages:
            self.number += 1
            fields = encode_fields({"payload": base64.b64encode(message).decode()})
            rows.append((TARGET, EncodedRow(f"log/{self.number:016d}", Stamp(1, self.number, 0), fields)))
        self.writer.write(rows)


def conformance_app(folder: Path) -> Starlette:
    """Returns the application; its files are in `folder`."""
    found: dict[str, _Stream] = {}
    stack = ExitStack()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with stack:
            yield

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        stream, body = found.get(name), await request.body()
        if len(body) > 1 << 20:
            raise Problem(413, "too large")
        if request.method == "PUT":
            is_new = stream is None
            if stream is None:
                kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].lower()
                stream = found[name] = _Stream(folder / f"{len(found)}.db", kind, stack)
                if body and body != b"[]":
                    stream.append(body)
        elif stream is None:
            raise Problem(404, "no such stream")
        elif request.method == "POST":
            stream.append(body)
        else:
            view = stream.core.catalog.named("Log")
            response = await stream.streams.stream(request, NOBODY, view, stream.core.hub.incarnation(view))
            if request.query_params.get("live") != "sse" and "content-type" in response.headers:
                response.headers["Content-Type"] = stream.media_type  # without charset
            return response
        tail = stream.core.hub.tail(stream.core.catalog.named("Log")).text
        headers = {"Stream-Next-Offset": tail, "Location": str(request.url)}
        status = (201 if is_new else 200) if request.method == "PUT" else 204
        return Response(status_code=status, headers=headers, media_type=stream.media_type)

    async def answering(request: Request) -> Response:
        try:
            response = await answer(request)
        except Problem as problem:
            response = problem_response(problem)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    routes = [Route("/v1/stream/{name:path}", answering, methods=["GET", "HEAD", "PUT", "POST"])]
    return Starlette(routes=routes, lifespan=lifespan, middleware=[cors_of(["*"])])
