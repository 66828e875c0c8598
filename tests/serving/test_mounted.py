"""`running` and `asgi_app` in programs of one's own: engine, server and users in one process, beside other frameworks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.serving import asgi_app, running
from tests.helpers.desk import OwnTask, TaskCard
from tests.helpers.serving import VIEWS, Rows, client, names_are_tokens, serve
from tests.serving.test_serve import documents
from tests.serving.test_websocket import opened

OWN = "/live/views/OwnTask/p1%2Fown_tasks%2Ft1"


@contextmanager
def program(folder: Path) -> Iterator[str]:
    """An application that starts the engine with itself, and mounts its server where users sign in."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        source = documents(folder / "docs.db")
        rows = f"sqlite:{folder}/rows.db"
        async with running([TaskCard, OwnTask], sources=[source], rows=rows, auth=names_are_tokens) as served:
            app.router.routes.append(Mount("/live", served.app))
            yield

    with serve(Starlette(lifespan=lifespan)) as address:
        yield address


def test_editors_and_viewers_hold_where_an_engine_runs_in_the_program(tmp_path: Path) -> None:
    with program(tmp_path) as address, client(address, "p1") as owner, client(address, "eve") as eve:
        while owner.get(OWN).status_code != 200:
            assert "failed" not in owner.get("/live/readyz").text
        for refused in (
            eve.get(OWN),
            eve.patch(OWN, json={"title": "x"}),
            eve.patch(OWN.replace("t1", "t9"), json={"title": "x"}),
        ):
            assert refused.status_code == 403
            assert refused.json() == {"type": "about:blank", "title": "not allowed", "status": 403}
        with client(address) as nobody:
            assert nobody.patch(OWN, json={"title": "x"}).status_code == 401
        with opened(f"{address}/live", additional_headers={"Authorization": "Bearer p1"}) as socket:
            number = socket.subscribe("OwnTask")
            socket.until(number, {"p1/own_tasks/t1": {"title": "write"}})
            written = owner.patch(OWN, json={"title": "mine"})
            assert written.status_code == 200, written.text
            socket.until(number, {"p1/own_tasks/t1": {"title": "mine"}})
        assert owner.patch("/live/views/TaskCard/t1", json={"title": "x"}).status_code == 403, "it has no editors()"
        location = owner.get("/live/views/OwnTask/stream").headers["location"]
        assert location.startswith("/live/views/OwnTask/")
        assert owner.get(location, params={"offset": "-1"}).status_code == 200
        assert owner.get("/live/openapi.json").json()["servers"] == [{"url": "/live"}]


def test_a_flask_application_and_the_views_on_one_port(rows: Rows, uri: str) -> None:
    flask = pytest.importorskip("flask", reason="pip install flask")
    a2wsgi = pytest.importorskip("a2wsgi", reason="pip install a2wsgi")
    old = flask.Flask("old")
    old.add_url_rule("/hello", view_func=lambda: "from Flask")
    rows.board("b1")
    both: Any = Starlette(routes=[Mount("/live", asgi_app(VIEWS, rows=uri)), Mount("/", a2wsgi.WSGIMiddleware(old))])
    with serve(both) as address, client(address) as http:
        assert http.get("/hello").text == "from Flask"
        assert http.get("/live/views/Board/b1").json()["id"] == "b1"


def test_an_engine_that_can_not_start_is_an_error_at_once(tmp_path: Path) -> None:
    async def start() -> None:
        async with running([TaskCard], sources=["sample:"], rows=f"sqlite:{tmp_path}/rows.db", state="nonsense:"):
            raise AssertionError("it started")

    with pytest.raises(UsageError, match="--state nonsense:"):
        asyncio.run(start())
    assert threading.active_count() == 1 or not any(one.name == "boiler_beam engine" for one in threading.enumerate())


def test_an_engine_that_fails_later_is_told(tmp_path: Path) -> None:
    """Rows are still served; readiness and the end of the program say it."""
    missing = f"file:{tmp_path}/missing.jsonl"

    async def run() -> str:
        async with running([TaskCard], sources=[missing], rows=f"sqlite:{tmp_path}/rows.db") as served:
            while served.failure is None:
                await asyncio.sleep(0)
            return str(served.core.hub.staleness())

    with pytest.raises(BoilerBeamError, match="the engine failed"):
        asyncio.run(run())
