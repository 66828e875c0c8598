"""Dead letters of many workers: in a topic, a database or a folder of Cloud Storage, and back to the stream."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest

from boiler_beam.connectors import open_dead_letters, read_dead_letters
from boiler_beam.connectors.pubsub.envelope import decode
from boiler_beam.connectors.pubsub.replay import replay
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, DeadLetter, Touch, View
from tests.helpers.pubsub import Channel
from tests.helpers.storage import Storage, storage

TIME = "2026-01-01T00:00:00Z"
LETTERS = [
    DeadLetter(stage="decode", code="invalid_document", message="no", path="users/u1", version=7, input='{"a":1}'),
    DeadLetter(stage="render", code="getter_raised", message="1 / 0", path="cards/c1"),
    DeadLetter(stage="decode", code="malformed_message", message="?", input='{"attributes":{"x":"y"},"text":"not json"}'),
    DeadLetter(stage="read", code="malformed_line", message="fixed", source="file:x:3",
               input='{"path": "users/u2", "version": 9, "fields": {"b": 2}}'),
    DeadLetter(stage="decode", code="unknown_subclass", message="large", path="users/u3", version=8,
               input=msgspec.json.encode({"text": "é" * 1_200_000}).decode()),
]  # fmt: skip


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Storage, str]]:
    with storage() as opened:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", opened.address)
        opened.make("letters")
        yield opened, "letters"


def write(uri: str) -> None:
    """As two workers that get the same bundle."""
    for _ in range(2):
        writer = open_dead_letters(uri, now=lambda: TIME)
        for letter in LETTERS:
            writer.write(letter)
        writer.close()


def timed(letters: list[DeadLetter]) -> list[DeadLetter]:
    return sorted((msgspec.structs.replace(one, time=TIME) for one in letters), key=lambda one: one.message)


def test_in_a_database_a_repeated_letter_is_one_document(firestore_emulator: str, project: str) -> None:
    write(f"firestore:{project}")
    found = list(read_dead_letters(f"firestore:{project}"))
    assert sorted(found, key=lambda one: one.message) == timed(LETTERS)


def test_in_a_folder_a_repeated_bundle_is_one_object(bucket: tuple[Storage, str]) -> None:
    opened, name = bucket
    write(f"gs:{name}/jobs/views")
    assert list(read_dead_letters(f"gs://{name}/jobs/views/")) == [
        msgspec.structs.replace(one, time=TIME) for one in LETTERS
    ]
    assert len(opened.names(name)) == 1
    with pytest.raises(UsageError, match=r"gs:gone/x: expected to write dead letters, got: .*fix: grant roles/storage"):
        write("gs:gone/x")


def test_in_a_topic_copies_share_an_id(channel: Channel) -> None:
    write(f"pubsub:{channel.topic}")
    messages = channel.pulled(2 * len(LETTERS))
    assert len({one.attributes["event_id"] for one in messages}) == len(LETTERS)
    assert {(one.attributes["stage"], one.attributes["code"]) for one in messages} == {
        (one.stage, one.code) for one in LETTERS
    }


def test_letters_go_back_to_the_stream(channel: Channel, project: str) -> None:
    """Documents and messages as they came, with new ids, rows as touches."""
    other = Channel(f"{project}-letters", ack_deadline_seconds=10)
    write(f"pubsub:{other.topic}")
    views = [View(name="Card", template="cards/{id}", properties=())]
    begun = time.time_ns() // 1000
    counts = replay(other.source, channel.topic, views)
    assert counts == {"document": 6, "row": 2, "message": 2}
    found = [(decode(one.data, one.attributes), one.attributes["event_id"]) for one in channel.pulled(10)]
    documents = {(one.path, one.version) for one, _ in found if isinstance(one, Change)}
    assert documents == {("users/u1", 7), ("users/u2", 9), ("users/u3", 8)}
    touches = {(one.view, one.path, one.read_time >= begun) for one, _ in found if isinstance(one, Touch)}
    assert touches == {("Card", "cards/c1", True)}
    assert sum(isinstance(one, DeadLetter) for one, _ in found) == 2
    passed = time.monotonic() + 12  # the deadline, after which it would come again, and a little more
    while time.monotonic() < passed:
        assert list(read_dead_letters(other.source)) == [], "they were acknowledged"
    other.close()


def test_a_replay_that_can_do_nothing_says_so(channel: Channel, firestore_emulator: str, project: str) -> None:
    writer = open_dead_letters(f"firestore:{project}")
    writer.write(LETTERS[1])
    writer.close()
    with pytest.raises(UsageError, match="got 1 dead letters without; fix: name the stream's views by --views"):
        replay(f"firestore:{project}", channel.topic, [])


def test_a_target_that_is_gone_stops_the_worker(pubsub_emulator: str, project: str) -> None:
    """Dead letters are not lost: the bundle fails, and is tried again."""
    writer = open_dead_letters(f"pubsub:projects/{project}/topics/gone")
    writer.write(LETTERS[0])
    with pytest.raises(BoilerBeamError, match="gcloud pubsub topics create gone"):
        writer.flush()
