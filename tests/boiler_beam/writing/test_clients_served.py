"""The generated clients against a server: read, list, set, create, follow; and what they say of refusals."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.connectors import open_source
from boiler_beam.connectors.documents.store import DocumentsStore
from boiler_beam.events import Change
from boiler_beam.plan import compile_plan
from boiler_beam.samples import meeting
from boiler_beam.writing.clients import client_module
from tests.helpers.node import installed
from tests.helpers.servers import answers, free_port, wait_until

pytest.importorskip("boiler_beam.serving", reason="needs the server, boiler_beam.serving")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
VIEWS = [meeting.MeetingSession, meeting.UserMeetings, meeting.OrganizationSummary]
PROGRAM = """
import { Client, RequestRefused } from "./client";
async function main(): Promise<void> {
  const client = new Client(process.argv[2] ?? "");
  const told: unknown[] = [];
  const row = await client.MeetingSession.get("m1");
  if (row === null) throw new Error("no row");
  told.push(row.fields.inSession, await client.MeetingSession.get("nobody"));
  told.push((await client.MeetingSession.list({ limit: 1 })).rows.length);
  const over = new AbortController();
  let written: string[] = [];
  let last: boolean | undefined;
  for await (const change of client.MeetingSession.follow(over.signal)) {
    if (change.kind === "row" && change.id === "m1") last = change.row?.fields.inSession;
    if (change.kind !== "whole") continue;
    if (written.length === 0) {
      written = Object.keys((await client.MeetingSession.update("m1", { inSession: !row.fields.inSession }, row)).versions);
    } else if (last !== row.fields.inSession) break;
  }
  over.abort();
  told.push(written, last);
  try {
    await client.MeetingSession.update("m1", { inSession: true }, row);
  } catch (error) {
    if (!(error instanceof RequestRefused)) throw error;
    told.push(error.status);
  }
  console.log(JSON.stringify(told));
}
void main();
"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A server of the meeting example, which follows a store of documents in a file."""
    changes = [one for one in open_source("sample:").read_all() if isinstance(one, Change)]
    newest = {one.path: one for one in sorted(changes, key=lambda one: one.version)}
    DocumentsStore(str(folder / "app.db")).load(list(newest.values()))
    port = free_port()
    command = [
        sys.executable, "-m", "pipelines.cli", "serve", "--views", "boiler_beam.samples.meeting", "--source", "documents:app.db",
        "--rows", "sqlite:rows.db", "--port", str(port),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, "the server")
        assert process.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def python_client(folder: Path, url: str) -> Any:
    (folder / "client.py").write_text(client_module(compile_plan(VIEWS), "python"))
    spec = importlib.util.spec_from_file_location("client", folder / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.Client(url)


def test_the_python_client(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        module, client = python_client(tmp_path, url)
        wait_until(lambda: client.MeetingSession.get("m1") is not None, "the first row")
        row = client.MeetingSession.get("m1")
        assert client.MeetingSession.get("nobody") is None
        assert len(client.MeetingSession.list(limit=1).rows) == 1
        changes = client.MeetingSession.follow()
        assert next(changes).kind == "reset"
        seen = {}
        for change in changes:
            if change.kind == "whole":
                break
            seen[change.id] = change.row
        assert seen["m1"].fields == row.fields
        written = client.MeetingSession.update("m1", {"inSession": not row.fields["inSession"]}, row)
        assert (written.id, list(written.versions)) == ("m1", ["meetings/m1"])
        changed = next(change for change in changes if change.kind == "row")
        assert changed.row.fields["inSession"] is not row.fields["inSession"]
        with pytest.raises(module.RequestRefused) as stale:
            client.MeetingSession.update("m1", {"inSession": True}, row)
        assert stale.value.status == 412
        with pytest.raises(module.RequestRefused) as invalid:
            client.MeetingSession.update("m1", {"inSession": "yes"})
        assert invalid.value.status == 422
        assert "inSession" in invalid.value.errors[0]["pointer"]


def test_the_typescript_client(tmp_path: Path) -> None:
    tsc = installed("tsc")
    (tmp_path / "client.ts").write_text(client_module(compile_plan(VIEWS), "typescript"))
    (tmp_path / "program.ts").write_text(PROGRAM)
    types = Path(tsc).resolve().parents[2] / "@types"
    options = [
        "--strict",
        "--target",
        "es2022",
        "--module",
        "commonjs",
        "--lib",
        "es2022,dom,dom.iterable",
        "--typeRoots",
        str(types),
    ]
    subprocess.run([tsc, *options, "--types", "node", "program.ts"], cwd=tmp_path, check=True)
    with served(tmp_path) as url:
        _, client = python_client(tmp_path, url)
        wait_until(lambda: client.MeetingSession.get("m1") is not None, "the first row")
        before = client.MeetingSession.get("m1").fields["inSession"]
        done = subprocess.run(
            ["node", "program.js", url], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [before, None, 1, ["meetings/m1"], not before, 412]
