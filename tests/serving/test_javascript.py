"""The published JavaScript clients of Socket.IO, GraphQL and Durable Streams against the program; conformance tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.helpers.conformance import conformance_app
from tests.helpers.node import install_locked
from tests.helpers.servers import free_port
from tests.helpers.serving import client, serve
from tests.serving.test_serve import documents, served, until_ready

FOLDER = Path(__file__).parent / "js"
pytestmark = pytest.mark.slow  # the first one installs packages
READ_HALF = (
    "Read Operations|Long-Poll|HEAD Metadata|Offset Validation|Caching and ETag|Chunking and Large|Read-Your-Writes|"
    "SSE Mode|JSON Mode|Byte-Exactness|Immutability|Browser Security"
)
"""The groups of the conformance tests that are about reading."""
NOT_OURS = "base64|binary|large payload appropriately|TTL|Fork -|Closure"
"""Streams of bytes over server-sent events, and what only a write path decides: rows are JSON, and never end."""


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    install_locked(FOLDER)


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


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
@pytest.mark.parametrize("kind", ["ws", "sse"])
def test_clients_of_graphql_come_back_after_a_restart(tmp_path: Path, kind: str, signal_number: signal.Signals) -> None:
    source, port = documents(tmp_path / "docs.db"), str(free_port())
    with served(tmp_path, "--source", source, "--port", port) as (address, process), client(address) as http:
        until_ready(http)
        follower = node("graphql.mjs", address, kind, "TaskCard", "t1", "after")
        assert follower.stdout is not None
        assert follower.stdout.readline() == "began\n"
        process.send_signal(signal_number)
        vars(process)["was_asked"] = True
        if signal_number == signal.SIGKILL:
            process.wait(60)
            process.returncode = 0
    with served(tmp_path, "--source", source, "--port", port) as (address, _), client(address) as http:
        until_ready(http)
        assert http.patch("/views/TaskCard/t1", json={"title": "after"}).status_code == 200
        told, problems = follower.communicate(timeout=60)
        assert told, problems
        assert json.loads(told) == {"t1": "after"}


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


def test_the_read_half_conforms_to_durable_streams(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = ["node", "node_modules/.bin/vitest", "run", "--reporter=json", f"--outputFile={told}"]
    command += ["--testTimeout=120000", "--retry=3"]  # some of them wait for two seconds only, on whatever machine
    command += ["-t", f"^(?!.*({NOT_OURS})).*({READ_HALF})", "conformance.test.mjs"]
    with serve(conformance_app(tmp_path), timeout_keep_alive=120) as address:
        environment = {**os.environ, "CONFORMANCE_TEST_URL": address}
        done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False)
    assert told.exists(), done.stdout + done.stderr
    (file,) = json.loads(told.read_text())["testResults"]
    ran = [one for one in file["assertionResults"] if one["status"] not in ("pending", "skipped")]
    failed = [(one["fullName"], one["failureMessages"]) for one in ran if one["status"] != "passed"]
    assert not failed, failed
    assert len(ran) >= 90, "the groups have other names"
