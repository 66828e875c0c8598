"""The ASGI application: which request goes to which protocol, and what all of them share."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote, unquote

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from boiler_beam.serving.access import User
from boiler_beam.serving.asyncapi import describe_frames
from boiler_beam.serving.core import Core
from boiler_beam.serving.limits import Connections, address_of
from boiler_beam.serving.openapi import describe
from boiler_beam.serving.problems import Problem, unknown_row
from boiler_beam.serving.rest import Rest
from boiler_beam.serving.rpc import PARSE_ERROR, Rpc, error
from boiler_beam.serving.streams import Streams
from boiler_beam.serving.web import check_origin, decode_body, only, problem_response, read_json_body
from boiler_beam.serving.websocket import Sockets

__all__ = ["MAX_BODY", "application", "cors_of"]

MAX_BODY = 1 << 20
_UNSAFE = frozenset({"POST", "PATCH", "PUT", "DELETE"})
_METHODS = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE"]
_log = logging.getLogger("boiler_beam.serving")

Answer = Callable[[Request, User], Awaitable[Response]]
Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def application(
    core: Core,
    *,
    origins: Sequence[str] = (),
    max_body: int = MAX_BODY,
    lifespan: Lifespan | None = None,
    more: Sequence[BaseRoute] = (),
) -> Starlette:
    """Returns the application.

    Args:
        core: Answers what is asked.
        origins: Sites whose pages may read and write (`https://example.com`), beside the server's own; `*` for all.
        max_body: Bytes that a body may have.
        lifespan: Entered when the server starts, left when it ends.
        more: More routes.
    """
    served = _Served(core, frozenset(origins), max_body)
    sockets = Sockets(core, served.origins)

    @contextlib.asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if lifespan is not None:
                await stack.enter_async_context(lifespan())
            yield
        core.rows.close()

    return Starlette(
        routes=[  # in this order each request is compared with them
            Route("/views/{rest:path}", served.answering("rest", served.views), methods=_METHODS),
            Route("/healthz", served.health),
            Route("/readyz", served.ready),
            Route("/metrics", served.metrics),
            Route("/openapi.json", served.openapi),
            Route("/asyncapi.json", served.asyncapi),
            Route("/apidocs", served.apidocs),
            Route("/apidocs/{name}", served.asset),
            Route("/rpc", served.answering("rpc", served.rpc_call), methods=_METHODS),
            WebSocketRoute("/ws", sockets.serve),
            *more,
        ],
        middleware=[Middleware(Connections, core.rates.limits), *([cors_of(origins)] if origins else [])],
        lifespan=living,
    )


def cors_of(origins: Sequence[str]) -> Middleware:
    """Returns what lets pages of other sites read and write."""
    return Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "HEAD", "PATCH", "POST"],
        allow_headers=["Authorization", "Content-Type", "If-Match", "If-None-Match"],
        expose_headers=["ETag", "Stream-Next-Offset", "Stream-Cursor", "Stream-Up-To-Date", "Stream-Closed"],
        max_age=600,
    )


class _Served:
    def __init__(self, core: Core, origins: frozenset[str], max_body: int) -> None:
        self.core, self.origins, self.max_body = core, origins, max_body
        self.rest, self.streams, self.rpc = Rest(core, max_body), Streams(core), Rpc(core)
        self.counts: Counter[tuple[str, int]] = Counter()

    def answering(self, protocol: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Returns an endpoint that finds out who asks, and answers problems; other errors are logged, and not sent."""

        async def endpoint(request: Request) -> Response:
            try:
                if request.method in _UNSAFE:
                    check_origin(request, self.origins)
                user = await self.core.user(request)
                response = await answer(request, user)
            except Problem as problem:
                response = problem_response(problem)
            except Exception:
                _log.exception("%s %s failed", request.method, request.url.path)
                response = problem_response(Problem(500, "internal error"))
            response.raw_headers.append((b"x-content-type-options", b"nosniff"))
            self.counts[protocol, response.status_code] += 1
            return response

        return endpoint

    async def views(self, request: Request, user: User) -> Response:
        """`/views/...`, by the segments as they were sent: ids are percent-encoded, and may hold `/`."""
        core, segments = self.core, segments_of(request)
        view = core.catalog.named(segments[0])
        match segments[1:]:
            case []:
                return await self.rest.many(request, user, view)
            case ["stream"]:
                return await self.streams.redirect(request, user, view)
            case [row_id] if row_id:
                return await self.rest.one(request, user, view, row_id)
            case [incarnation, "stream"]:
                return await self.streams.stream(request, user, view, incarnation)
            case [row_id, *more] if row_id and tuple(more) in view.routes:
                return await self.rest.routed(request, user, view, row_id, view.routes[tuple(more)])
            case _:
                raise unknown_row()

    async def rpc_call(self, request: Request, user: User) -> Response:
        """`/rpc`."""
        only(request, "POST")
        body = await read_json_body(request, self.max_body)
        try:
            calls = decode_body(body)
            if isinstance(calls, list):
                self.core.rates.take(user, address_of(request), len(calls) - 1)
            answer = await self.rpc.call(user, calls)
        except Problem as problem:
            if problem.status == 429:
                raise
            answer = error(None, PARSE_ERROR, "not JSON")
        headers = {"Cache-Control": "no-store"}
        if answer is None:
            return Response(status_code=204, headers=headers)
        return Response(msgspec.json.encode(answer), headers=headers, media_type="application/json")

    async def health(self, request: Request) -> Response:
        """`/healthz`: the server answers."""
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """`/readyz`: rows are there, and whoever writes them lives."""
        stale = self.core.hub.staleness()
        return PlainTextResponse("ready\n" if stale is None else f"not ready: {stale}\n", 200 if stale is None else 503)

    async def metrics(self, request: Request) -> Response:
        """`/metrics`, as Prometheus reads them."""
        hub, name = self.core.hub, "boiler_beam_serving"
        lines = [f"# TYPE {name}_requests_total counter"]
        for (protocol, status), number in sorted(self.counts.items()):
            lines.append(f'{name}_requests_total{{protocol="{protocol}",status="{status}"}} {number}')
        lines.append(f"# TYPE {name}_clients gauge")
        for view in self.core.catalog:
            feed = hub.feeds.get(view)
            lines.append(f'{name}_clients{{view="{view}"}} {0 if feed is None else feed.clients}')
        lines += [f"# TYPE {name}_commit gauge", f"{name}_commit {self.core.rows.number()}"]
        lines += [f"# TYPE {name}_store_reads_total counter", f"{name}_store_reads_total {hub.figures['reads']}"]
        lines += [f"# TYPE {name}_listeners gauge", f"{name}_listeners {self.core.rows.listeners}"]
        lines += [f"# TYPE {name}_stale gauge", f"{name}_stale {int(hub.staleness() is not None)}"]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        """`/openapi.json`."""
        access = self.core.access
        document = describe(self.core.catalog, is_open=access.is_open, can_write=self.core.writer is not None)
        document["servers"] = [{"url": request.scope.get("root_path", "") or "/"}]
        return Response(msgspec.json.encode(document), media_type="application/json")

    async def asyncapi(self, request: Request) -> Response:
        """`/asyncapi.json`."""
        return Response(msgspec.json.encode(describe_frames(self.core.catalog)), media_type="application/json")

    async def apidocs(self, request: Request) -> Response:
        """`/apidocs`: Swagger UI."""
        root = request.scope.get("root_path", "")
        return HTMLResponse(_APIDOCS.replace("ROOT", quote(root)), headers={"Content-Security-Policy": _POLICY})

    async def asset(self, request: Request) -> Response:
        """The files of Swagger UI, and the script that starts it."""
        name, root = request.path_params["name"], quote(request.scope.get("root_path", ""))
        if name == "start.js":
            return Response(_START.replace("ROOT", root), media_type="text/javascript")
        if name not in _ASSETS:
            return problem_response(Problem(404, "not found"))
        found = importlib.util.find_spec("swagger_ui")
        assert found is not None, "the extra `serve` has it"
        assert found.origin is not None
        return FileResponse(os.path.join(os.path.dirname(found.origin), "static", name))


def segments_of(request: Request) -> list[str]:
    """Returns the decoded segments behind `/views/`, as the client separated them."""
    raw = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    root = quote(request.scope.get("root_path", ""))
    path = raw.decode("ascii", "replace").partition("?")[0].removeprefix(root).removeprefix("/views/")
    return [unquote(one) for one in path.split("/")]


_ASSETS = frozenset({"swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"})
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
_APIDOCS = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Views</title>
<link rel="stylesheet" href="ROOT/apidocs/swagger-ui.css">
<link rel="icon" href="ROOT/apidocs/favicon-32x32.png"></head>
<body><div id="docs"></div>
<script src="ROOT/apidocs/swagger-ui-bundle.js"></script><script src="ROOT/apidocs/start.js"></script></body>
</html>
"""
_START = """SwaggerUIBundle({url: "ROOT/openapi.json", dom_id: "#docs"});
"""
