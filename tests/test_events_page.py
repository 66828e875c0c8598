"""The messages in docs/events.md can be decoded, and published messages look like them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner

from boiler_beam.connectors.pubsub.envelope import decode, document_message, row_message, touch_message
from boiler_beam.connectors.pubsub.leases import Leases
from boiler_beam.events import Change, EncodedRow, Stamp, Touch
from pipelines.cli import _cli

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "events.md").read_text()
EXAMPLES = [found.encode() for found in re.findall(r"^```json\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)]


def plain(data: bytes) -> dict[str, Any]:
    found = msgspec.json.decode(data)
    assert isinstance(found, dict)
    return found


def test_each_example_is_understood() -> None:
    document, deletion, row, touch, event = (decode(example, {}) for example in EXAMPLES)
    at = 1767225600123456
    assert isinstance(document, Change)
    assert (document.path, document.version) == ("users/u1", at)
    assert deletion == Change("users/u1", at, msgspec.Raw(b"null"))
    assert isinstance(row, Change)
    assert (row.path, row.version) == ("meeting_sessions/m1", at + 1)
    assert touch == Touch("MeetingSession", "meeting_sessions/m1", at)
    assert isinstance(event, Change)
    assert (event.path, event.version, msgspec.json.decode(event.fields)) == (
        "users/u1",
        at,
        {"name": "Ann", "age": 35},
    )


def test_what_is_published_has_the_keys_that_are_shown() -> None:
    document, _, row, touch, _ = map(plain, EXAMPLES)
    one = Change(document["path"], document["version"], msgspec.Raw(msgspec.json.encode(document["fields"])))
    published = document_message(
        one, event_id=document["event_id"], event_time=document["event_time"], database=document["database"]
    )
    assert plain(published.data) == document
    stamp = Stamp(row["generation"], row["version"], row["seq"])
    written = plain(row_message(row["view"], EncodedRow(row["path"], stamp, msgspec.json.encode(row["fields"]))).data)
    assert {key: value for key, value in written.items() if not key.startswith("event_")} == row
    assert plain(touch_message(Touch(**touch["touch"])).data) == touch
    for attribute in published.attributes:
        assert f"`{attribute}`" in TEXT


def test_options_and_numbers_are_those_of_the_code() -> None:
    said = CliRunner().invoke(_cli, ["relay", "--help"]).output
    for option in re.findall(r"--[a-z]+", " ".join(re.findall(r"^boiler-beam relay .*$", TEXT, re.MULTILINE))):
        assert option in said
    assert "sqlite:boiler_beam.relay.db" in said
    defaults = Leases.__init__.__kwdefaults__
    assert defaults is not None
    assert f"{defaults['most_messages']:,} messages, or {defaults['most_bytes'] >> 20} MiB" in TEXT
    assert defaults["most_seconds"] == 3600


def test_the_functions_requirements_name_the_packages_wheel() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    required = (ROOT / "dataflow" / "relay" / "function" / "requirements.txt").read_text()
    assert f"boiler_beam-{version[1]}-py3-none-any.whl[firestore]" in required
