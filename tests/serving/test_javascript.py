"""The published JavaScript clients of Socket.IO and Durable Streams, against the program."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.serving import client
from tests.serving.test_serve import documents, served, until_ready

FOLDER = Path(__file__).parent / "js"
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").is_dir(),
    reason="needs Node.js, and its clients: npm install --prefix tests/serving/js",
)


def node(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["node", *arguments], cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_socket_io_follows_and_writes(tmp_path: Path) -> None:
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, _), client(address) as http:
        until_ready(http)
        told, problems = node("socket.mjs", address, "TaskCard", "t1").communicate(timeout=60)
        assert [json.loads(line) for line in told.splitlines()] == [
            {"written": "t1"},
            {"rows": {"t1": {"title": "write", "isDone": True, "owner": "Ann"}}},
        ], problems
        while 'clients{view="TaskCard"} 0' not in http.get("/metrics").text:
            pass


@pytest.mark.parametrize("live", ["long-poll", "sse"])
def test_durable_streams_materialize_a_view(tmp_path: Path, live: str) -> None:
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, _), client(address) as http:
        until_ready(http)
        url = f"{address}{http.get('/views/TaskCard/stream').headers['location']}"
        process = node("stream.mjs", url, live, "TaskCard", "t1", "changed")
        assert process.stdout is not None
        assert process.stdout.readline() == "began\n"
        assert http.patch("/views/TaskCard/t1", json={"title": "changed"}).status_code == 200
        told, problems = process.communicate(timeout=60)
        assert told, problems
        assert json.loads(told) == {"t1": {"title": "changed", "isDone": False, "owner": "Ann"}}
