"""A file of rows, and a server over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from boiler_beam.serving import asgi_app
from tests.helpers.serving import VIEWS, Rows, client, names_are_tokens, serve


@pytest.fixture(name="rows")
def _rows(tmp_path: Path) -> Iterator[Rows]:
    with Rows(tmp_path / "rows.db").open() as rows:
        yield rows


@pytest.fixture(name="uri")
def _uri(rows: Rows) -> str:
    return f"sqlite:{rows.path}"


@pytest.fixture(name="address")
def _address(uri: str) -> Iterator[str]:
    """A server where everything is open."""
    with serve(asgi_app(VIEWS, rows=uri)) as address:
        yield address


@pytest.fixture(name="http")
def _http(address: str) -> Iterator[httpx.Client]:
    with client(address) as found:
        yield found


@pytest.fixture(name="guarded")
def _guarded(uri: str) -> Iterator[str]:
    """A server whose users have tokens."""
    with serve(asgi_app(VIEWS, rows=uri, auth=names_are_tokens)) as address:
        yield address
