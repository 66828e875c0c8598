"""`boiler-beam relay`: publishes existing documents and their changes to a topic."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from boiler_beam.connectors.pubsub.envelope import decode
from boiler_beam.errors import UsageError
from boiler_beam.events import Change
from pipelines.cli import _cli
from pipelines.relay import run_relay
from tests.helpers.programs import Program
from tests.helpers.pubsub import Channel
from tests.helpers.servers import patience

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def relaying(folder: Path, source: str, topic: str) -> Iterator[Program]:
    """A relay in its own process; killed at the end if it still runs."""
    command = [sys.executable, "-m", "pipelines.cli", "relay", "--source", source, "--topic", topic]
    more = ["--state", f"sqlite:{folder}/relay.db", "--collection", "users"]
    with (folder / "log").open("ab") as log:
        process = Program([*command, *more], ROOT, output=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Reader:
    """The knowledge of a reader of the topic: the newest version of each path, also if messages repeat."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.newest: dict[str, Change] = {}

    def current_rows(self) -> set[str]:
        return {path for path, change in self.newest.items() if not change.is_deleted}

    def waits_for(self, standing: set[str], changed: str = "") -> None:
        """Reads until the reader knows these documents, and one of them has a new version."""
        before = self.newest.get(changed)
        waiting = patience(f"{standing} from {self.channel.subscription}")
        while self.current_rows() != standing or (changed and self.newest[changed] == before):
            next(waiting)
            (message,) = self.channel.pulled(1)
            change = decode(message.data, message.attributes)
            assert isinstance(change, Change)
            if change.path not in self.newest or self.newest[change.path].version < change.version:
                self.newest[change.path] = change


def test_a_file_is_published(channel: Channel, tmp_path: Path) -> None:
    lines = [{"path": f"users/u{one}", "version": one, "fields": {"n": one}} for one in range(3)]
    documents = tmp_path / "documents.jsonl"
    documents.write_bytes(b"\n".join(map(msgspec.json.encode, lines)) + b"\n")
    arguments = [
        "relay",
        "--source",
        f"file:{documents}",
        "--topic",
        channel.topic,
        "--state",
        f"sqlite:{tmp_path}/r.db",
    ]
    said = [CliRunner().invoke(_cli, arguments, standalone_mode=False) for _ in range(2)]
    assert [one.stdout.splitlines()[-1] for one in said] == [
        "3 messages published, 0 of them deletions",
        "0 messages published, 0 of them deletions",
    ]
    Reader(channel).waits_for({"users/u0", "users/u1", "users/u2"})


def test_a_database_is_listened_to(firestore_emulator: str, channel: Channel, project: str, tmp_path: Path) -> None:
    """Writes are published; writes and deletions during a kill of the relay are found afterwards."""
    reader = Reader(channel)
    with closing(Database(project)) as database:
        database.write("users/u1", "users/u2", "users/u3", "teams/t1")
        with relaying(tmp_path, f"firestore:{project}", channel.topic):
            reader.waits_for({"users/u1", "users/u2", "users/u3"})
            database.write("users/u1")
            database.delete("users/u3")
            reader.waits_for({"users/u1", "users/u2"}, "users/u1")
        database.write("users/u4", "users/u1")
        database.delete("users/u2")
        with relaying(tmp_path, f"firestore:{project}", channel.topic) as process:
            reader.waits_for({"users/u1", "users/u4"}, "users/u1")
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0, (tmp_path / "log").read_text()
    assert f"relays firestore:{project} to {channel.topic}" in (tmp_path / "log").read_text()


class Database:
    """Writes to a database of the emulator."""

    def __init__(self, project: str) -> None:
        from boiler_beam.connectors.firestore.client import Client

        self.client = Client(project)
        self.number = 0

    def write(self, *paths: str) -> None:
        self.number += 1
        for path in paths:
            write = self._write()
            write.update.name = self.client.root + path
            write.update.fields["n"].integer_value = self.number
            self._send(write)

    def delete(self, path: str) -> None:
        write = self._write()
        write.delete = self.client.root + path
        self._send(write)

    def _write(self) -> Any:
        from boiler_beam.connectors.firestore.protos import Write

        return Write()

    def _send(self, write: Any) -> None:
        from boiler_beam.connectors.firestore.protos import CommitRequest

        self.client.call("Commit", CommitRequest(database=self.client.database, writes=[write]))

    def close(self) -> None:
        self.client.close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": "memory:"}, "--state memory:: expected sqlite:PATH; fix: write sqlite:relay.db"),
        (
            {"collections": ["users/u1"]},
            "--collection users/u1: expected a collection as models declare it, got 2 segments",
        ),
        ({"topic": "some"}, "expected pubsub:projects/PROJECT/topics/NAME, got 'some'"),
        ({"source": "nobody:p"}, "expected the scheme of a source, got 'nobody'"),
        ({}, "got NOT_FOUND: .*; fix: gcloud pubsub topics create"),
    ],
)
def test_wrong_use(pubsub_emulator: str, project: str, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    right = {"source": "sample:", "topic": f"projects/{project}/topics/none", "state": f"sqlite:{tmp_path}/relay.db"}
    with pytest.raises(UsageError, match=said):
        run_relay(**{**right, "collections": [], **changed})
    assert list(tmp_path.iterdir()) == []
