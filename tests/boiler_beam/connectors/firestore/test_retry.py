"""The log lines while an emulator does not run."""

from __future__ import annotations

import time

import grpc
import pytest

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.control import read_controls
from boiler_beam.connectors.firestore.protos import RunQueryRequest
from boiler_beam.connectors.firestore.retry import Retry
from boiler_beam.errors import BoilerBeamError
from tests.helpers.servers import free_port


@pytest.fixture(name="host")
def _host(monkeypatch: pytest.MonkeyPatch) -> str:
    host = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)
    return host


def test_reading_asks_whether_the_emulator_runs(host: str, caplog: pytest.LogCaptureFixture) -> None:
    client = Client("some-project")
    retry = Retry(client.uri, "to read users", sleep=lambda seconds: None)
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as failed:
            list(client.call("RunQuery", RunQueryRequest(parent=client.root.rstrip("/"))))
        retry.wait(failed.value)
    client.close()
    (line,) = caplog.messages
    assert line.startswith("firestore:some-project: expected to read users, got UNAVAILABLE; again in ")
    assert line.endswith(f" s (FIRESTORE_EMULATOR_HOST={host}: does the emulator run?)")


def test_a_sink_says_what_it_waits_for(
    host: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: passed.__setitem__(0, passed[0] + seconds))
    client = Client("some-project")
    with pytest.raises(
        BoilerBeamError, match="firestore:some-project: expected to read control documents, got UNAVAIL"
    ):
        read_controls(client)
    client.close()
    assert 60 <= passed[0] < 63
    assert [line.partition("; ")[0] for line in caplog.messages] == [
        "firestore:some-project: expected an answer, got UNAVAILABLE"
    ] * 2
    assert f"(FIRESTORE_EMULATOR_HOST={host}: does the emulator run?)" in caplog.messages[0]
