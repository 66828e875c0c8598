"""`boiler-beam serve`: rows over HTTP and WebSocket; with sources, the embedded engine runs in the same process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boiler_beam.connectors import Source
from boiler_beam.errors import UsageError
from boiler_beam.install import install_command
from boiler_beam.views import ViewModel

if TYPE_CHECKING:  # they need the extra `serve`
    from starlette.routing import BaseRoute

    from boiler_beam.serving.run import Running

__all__ = ["ServeOptions", "run_serve"]

_DRAIN_SECONDS = 5


@dataclass(frozen=True)
class ServeOptions:
    """The options of the command, by their names."""

    source: Sequence[str | Source] = ()
    rows: str = "sqlite:boiler_beam.db"
    state: str | None = None
    dead_letter: str | None = None
    documents: str | None = None
    auth: str | None = None
    roles: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    origin: Sequence[str] = ()
    coalesce_seconds: float = 0.0
    requests_per_second: float | None = None
    max_connections: int = 10_000
    max_connections_per_client: int | None = None


def run_serve(
    views: Sequence[type[ViewModel]],
    options: ServeOptions,
    page: Path | None = None,
    more: Callable[[Running], Sequence[BaseRoute]] = lambda served: (),
) -> int:
    """Serves until SIGTERM or ^C; returns the exit code.

    Args:
        views: The classes.
        options: The options.
        page: A folder with a page, which is served at `/page/`.
        more: Returns more routes.

    Raises:
        UsageError: An option is wrong, or the extra `serve` is not installed.
        BoilerBeamError: The engine failed.
    """
    try:
        import uvicorn
        from starlette.routing import Mount
        from starlette.staticfiles import StaticFiles

        from boiler_beam.serving import ClientLimits, running
        from boiler_beam.serving.hub import Hub
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("boiler_beam", "pipelines"):
            raise
        raise UsageError(
            f"serve: expected the extra `serve` to be installed, got no {error.name}; fix: {install_command('serve')}"
        ) from None

    class Server(uvicorn.Server):
        """Ends well when it is asked to: uvicorn's own would send the signal to this process again."""

        hub: Hub

        def asked_to_end(self) -> None:
            self.hub.end()
            self.should_exit, self.force_exit = True, self.should_exit

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    is_local = is_loopback(options.host)
    if options.auth is None and not is_local:
        raise UsageError(
            f"--host {options.host}: expected --auth, because others can reach this address; "
            "fix: --auth firebase:PROJECT, or --auth none where everyone may read and write everything"
        )
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")

    clients = ClientLimits(
        options.requests_per_second,
        connections=options.max_connections,
        connections_per_client=options.max_connections_per_client,
    )

    async def serve() -> bool:
        async with running(
            views,
            sources=options.source,
            rows=options.rows,
            state=options.state,
            dead_letters=options.dead_letter,
            documents=options.documents,
            auth=options.auth,
            roles=options.roles,
            origins=options.origin,
            coalesce_seconds=options.coalesce_seconds,
            clients=clients,
        ) as served:
            app: Any = served.app
            served.app.router.routes.extend(more(served))
            if page is not None:
                served.app.router.routes.append(Mount("/page", StaticFiles(directory=page, html=True)))
            if is_local and served.core.access.is_open:
                app = only_local_names(app)
            config = uvicorn.Config(
                app,
                host=options.host,
                port=options.port,
                log_level="warning",
                ws_max_size=1 << 20,
                ws_per_message_deflate=False,  # it would work on each message again for each client
                limit_concurrency=2 * options.max_connections,  # with those that are open and idle
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            )
            server = Server(config)
            server.hub = served.core.hub
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, server.asked_to_end)
            announcing = asyncio.create_task(_announce(server, options, views[0].__name__ if page is None else None))
            try:
                await server.serve()
            except SystemExit:  # the port is taken; uvicorn has said so
                return False
            finally:
                announcing.cancel()
        return True

    if not asyncio.run(serve()):
        raise UsageError(f"--port {options.port}: expected a free port, got one in use; fix: name another")
    return 0


async def _announce(server: Any, options: ServeOptions, view: str | None) -> None:
    """Says where the server is, as soon as it answers."""
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"serves at http://{host}:{port}/{'page/' if view is None else f'views/{view}'}", flush=True)
    print(f"description at http://{host}:{port}/apidocs", flush=True)


@functools.lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach a host.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def only_local_names(app: Any) -> Any:
    """Returns an application that refuses requests to other host names.

    A page of another site can give its own name the address of this machine, and would then be taken for this site.
    """

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            given = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            name = given.rpartition("]")[0].lstrip("[") if given.startswith("[") else given.partition(":")[0]
            if not is_loopback(name):
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 4421})
                    return
                await send({"type": "http.response.start", "status": 421, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await app(scope, receive, send)

    return guarded
