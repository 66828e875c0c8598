"""The relay's function, called as Eventarc calls it: a POST with the event's attributes as headers, protobuf as body."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from boiler_beam.connectors.pubsub.envelope import decode
from boiler_beam.connectors.pubsub.protos import DocumentEventData
from boiler_beam.events import Change, DeadLetter
from tests.helpers.function import post, served
from tests.helpers.pubsub import Channel

PROTOBUF = "application/protobuf"
ROOT = "projects/my-project/databases/(default)/documents/"


def headers(kind: str, path: str, content_type: str = PROTOBUF) -> dict[str, str]:
    """As Eventarc sets them."""
    return {
        "ce-specversion": "1.0",
        "ce-id": f"id of {path}",
        "ce-type": f"google.cloud.firestore.document.v1.{kind}",
        "ce-source": "//firestore.googleapis.com/projects/my-project/databases/(default)",
        "ce-subject": f"documents/{path}",
        "ce-time": "2026-01-01T00:00:00.123456Z",
        "ce-dataschema": "https://github.com/googleapis/google-cloudevents/blob/main/proto/google/events/cloud/firestore/v1/data.proto",
        "ce-location": "nam5",
        "ce-database": "(default)",
        "ce-namespace": "(default)",
        "ce-document": path,
        "ce-project": "my-project",
        "Content-Type": content_type,
    }


def written(path: str, seconds: int) -> bytes:
    data = DocumentEventData()
    data.value.name = ROOT + path
    data.value.update_time.seconds = seconds
    data.value.fields["name"].string_value = "Ánn"
    data.value.fields["team"].reference_value = f"{ROOT}teams/t1"
    return bytes(data.SerializeToString())


def deleted(path: str, seconds: int) -> bytes:
    data = DocumentEventData()
    data.old_value.name = ROOT + path
    data.old_value.update_time.seconds = seconds
    return bytes(data.SerializeToString())


def test_events_become_messages(channel: Channel, tmp_path: Path) -> None:
    with served(channel.topic, tmp_path / "log") as address:
        posted = [
            post(address, written("users/u1", 7), headers("written", "users/u1")),
            post(address, written("users/u2", 8), headers("created.withAuthContext", "users/u2")),
            post(address, deleted("users/u3", 9), headers("deleted", "users/u3")),
            post(address, b"\xff\xff", headers("written", "users/u4")),
            post(address, b'{"x": 1}', headers("written", "users/u5", "application/json")),
            post(address, *structured("users/u6")),
        ]
    assert posted == [200] * 6, (tmp_path / "log").read_text()
    found = {}
    for message in channel.pulled(6):
        said = decode(message.data, message.attributes)
        found[said.path if isinstance(said, (Change, DeadLetter)) else None] = said, message
    one, message = found["users/u1"]
    assert isinstance(one, Change)
    assert (one.version, msgspec.json.decode(one.fields)) == (
        7_000_000,
        {"name": "Ánn", "team": {"referenceValue": "teams/t1"}},
    )
    assert dict(message.attributes) == {
        "event_id": "id of users/u1",
        "event_time": "2026-01-01T00:00:00.123456Z",
        "collection": "users",
        "database": "projects/my-project/databases/(default)",
    }
    assert [(path, found[path][0].version) for path in ("users/u2", "users/u6")] == [
        ("users/u2", 8_000_000),
        ("users/u6", 6_000_000),
    ]
    gone = found["users/u3"][0]
    assert isinstance(gone, Change)
    assert (gone.version, gone.is_deleted) == (9_000_000, True)  # S1: the version that was deleted
    for path in ("users/u4", "users/u5"):  # what can't be read goes on as it is, and is a dead letter there
        assert isinstance(found[path][0], DeadLetter)


def structured(path: str) -> tuple[bytes, dict[str, str]]:
    attributes = {
        name.removeprefix("ce-"): value for name, value in headers("written", path).items() if name[:3] == "ce-"
    }
    event = {**attributes, "datacontenttype": PROTOBUF, "data_base64": base64.b64encode(written(path, 6)).decode()}
    return msgspec.json.encode(event), {"Content-Type": "application/cloudevents+json"}


def test_an_event_that_cannot_be_published_is_given_again(pubsub_emulator: str, project: str, tmp_path: Path) -> None:
    with served(f"projects/{project}/topics/none", tmp_path / "log") as address:
        assert post(address, written("users/u1", 7), headers("written", "users/u1")) == 500
    assert "fix: gcloud pubsub topics create" in (tmp_path / "log").read_text()
