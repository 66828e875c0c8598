"""The two stores of documents, empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from boiler_beam.connectors import DocumentStore, open_store


@pytest.fixture(params=["documents", "firestore"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "documents":
        return f"documents:{tmp_path}/app.db"
    request.getfixturevalue("firestore_emulator")
    return f"firestore:{request.getfixturevalue('project')}"


@pytest.fixture
def store(store_uri: str) -> Iterator[DocumentStore]:
    with closing(open_store(store_uri)) as opened:
        yield opened
