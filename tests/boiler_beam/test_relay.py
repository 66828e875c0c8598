"""The relay publishes each version, also if it is killed; documents that vanished while it was down are deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.connectors.base import Source
from boiler_beam.connectors.pubsub.envelope import Message, decode
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, Complete, DeadLetter, Event, Touch
from boiler_beam.relay import RelayReport, RelayState, relay

TOPIC = "projects/p/topics/some"


def change(path: str, version: int, fields: bytes = b"{}") -> Change:
    return Change(path, version, msgspec.Raw(fields))


class Script(Source):
    """A source with the events of a test."""

    scheme: ClassVar[str] = "script"
    is_bounded: ClassVar[bool] = False
    has_snapshot: ClassVar[bool] = True

    def __init__(self, batches: Iterable[Sequence[Event]]) -> None:
        super().__init__("")
        self.batches = batches
        self.begins: list[str | None] = []
        self.acknowledged: list[str] = []
        self.collections: Sequence[str] = ()

    def prepare(self, collections: Sequence[str]) -> None:
        self.collections = collections

    def splits(self) -> Sequence[str]:
        raise NotImplementedError

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        raise NotImplementedError

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        self.begins.append(position)
        number = int(position or 0)
        for events in self.batches:
            number += bool(events)
            yield events, str(number)

    def acknowledge(self, position: str) -> None:
        self.acknowledged.append(position)


class Topic:
    """A topic that stores published messages, and fails when a test says so."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.is_down = False

    def __call__(self, messages: Sequence[Message]) -> None:
        if self.is_down:
            raise BoilerBeamError("the topic is down")
        self.messages += messages

    def told(self) -> list[tuple[str, int, bool]]:
        """Returns the messages as (path, version, is a deletion)."""
        events = [decode(*message) for message in self.messages]
        return [(one.path, one.version, one.is_deleted) for one in events if isinstance(one, Change)]


def run(path: Path, topic: Topic, *batches: Sequence[Event]) -> tuple[RelayReport, Script]:
    source = Script(batches)
    with closing(RelayState(f"{path}/relay.db", "script:", TOPIC)) as state:
        return relay(source, ["users"], topic, state, database="projects/p/databases/d"), source


def test_each_version_is_published_once(tmp_path: Path) -> None:
    topic = Topic()
    one, two, gone = change("users/u1", 1), change("users/u1", 2), change("users/u1", 3, b"null")
    report, source = run(tmp_path, topic, [one], [], [one, two, two], [gone], [change("users/u1", 4)])
    assert topic.told() == [
        ("users/u1", 1, False),
        ("users/u1", 2, False),
        ("users/u1", 3, True),
        ("users/u1", 4, False),
    ]
    assert report == RelayReport(published=4, deletions=1, unchanged=2)
    assert source.collections == ["users"]
    assert source.acknowledged == ["1", "1", "2", "3", "4"]
    assert topic.messages[0].attributes["database"] == "projects/p/databases/d"


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    topic = Topic()
    run(tmp_path, topic, [change("users/u1", 1)])
    report, source = run(tmp_path, topic, [change("users/u1", 1), change("users/u2", 1)])
    assert source.begins == ["1"]
    assert report == RelayReport(published=1, unchanged=1)


def test_s1_what_a_collection_lacks_was_deleted_at_its_read_time(tmp_path: Path) -> None:
    topic = Topic()
    some = [change(f"users/u{one}", one) for one in range(1, 5)]
    run(tmp_path, topic, [*some, change("teams/t1", 1), change("rooms/r1/users/x", 1), change("users/new", 50)])
    topic.messages.clear()
    report, _ = run(tmp_path, topic, [some[0], Complete("users", 40, {"users/u1"})])
    assert sorted(topic.told()) == [(f"users/u{one}", 40, True) for one in (2, 3, 4)]
    assert report == RelayReport(published=3, deletions=3, unchanged=1)
    assert run(tmp_path, topic, [Complete("users", 41, {"users/u1"})])[0] == RelayReport()
    assert run(tmp_path, topic, [Complete("**/users", 41, set())])[0].deletions == 2  # u1, and that of the room


def test_many_that_vanished_are_told_in_parts(tmp_path: Path) -> None:
    topic = Topic()
    run(tmp_path, topic, [change(f"users/u{one}", 1) for one in range(2500)])
    topic.messages.clear()
    assert run(tmp_path, topic, [Complete("users", 2, ())])[0].deletions == 2500
    assert len({path for path, *_ in topic.told()}) == 2500


def test_what_could_not_be_published_is_published_by_the_next_run(tmp_path: Path) -> None:
    topic = Topic()
    run(tmp_path, topic, [change("users/u1", 1)])
    topic.is_down = True
    for batch in ([change("users/u1", 2)], [Complete("users", 9, ())]):
        with pytest.raises(BoilerBeamError, match="the topic is down"):
            run(tmp_path, topic, batch)
    topic.is_down = False
    _, source = run(tmp_path, topic, [change("users/u1", 2)])
    assert source.begins == ["1"]
    assert topic.told() == [("users/u1", 1, False), ("users/u1", 2, False)]


def test_touches_and_what_the_source_could_not_read_go_on(tmp_path: Path) -> None:
    topic = Topic()
    touch = Touch("Session", "sessions/1", 7)
    line = DeadLetter(stage="read", code="malformed_line", message="no", input='{"path": 7}')
    message = decode(b"\xff", {"ce-type": "x"})
    assert isinstance(message, DeadLetter)
    nothing = DeadLetter(stage="render", code="getter_raised", message="no")
    run(tmp_path, topic, [touch, line, message, nothing])
    assert decode(*topic.messages[0]) == touch
    for found in topic.messages[1:]:  # a job on Dataflow needs them (docs/events.md)
        assert found.attributes.pop("event_id")
        assert found.attributes.pop("event_time")
    assert topic.messages[1:] == [Message(b'{"path": 7}', {}), Message(b"\xff", {"ce-type": "x"})]


def test_it_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    source, topic = Script([[change("users/u1", one)] for one in range(1, 9)]), Topic()
    with closing(RelayState(f"{tmp_path}/relay.db", "script:", TOPIC)) as state:
        relay(source, [], topic, state, should_stop=lambda: len(topic.messages) == 3)
    assert source.acknowledged == ["1", "2", "3"]


def test_a_state_is_of_one_source_and_one_topic(tmp_path: Path) -> None:
    path = f"{tmp_path}/relay.db"
    said = pytest.raises(UsageError, match="expected to be its only writer")
    with closing(RelayState(path, "script:", TOPIC)), said:
        RelayState(path, "script:", TOPIC)
    with pytest.raises(
        UsageError, match="a relay with topic projects/p/topics/other, got one with projects/p/topics/s"
    ):
        RelayState(path, "script:", "projects/p/topics/other")
    with pytest.raises(UsageError, match="a relay with source firestore:p, got one with script:; fix: name another"):
        RelayState(path, "firestore:p", TOPIC)
    (tmp_path / "text").write_text("not a database, but long enough to be looked at as one")
    with pytest.raises(UsageError, match="expected the state of a relay, got: file is not a database"):
        RelayState(f"{tmp_path}/text", "script:", TOPIC)
    with closing(RelayState(path, "script:", TOPIC)) as state:
        state._database.execute("PRAGMA application_id=1")
    with pytest.raises(UsageError, match="expected the state of a relay, got something else"):
        RelayState(path, "script:", TOPIC)


class Database:
    """Writes and deletions of documents, and the events of a listener."""

    def __init__(self) -> None:
        self.documents: dict[str, int] = {}
        self.time = 0

    def do(self, path: str, *, is_deletion: bool) -> Event:
        self.time += 1
        if is_deletion:
            self.documents.pop(path, None)
            return change(path, self.time, b"null")
        self.documents[path] = self.time
        return change(path, self.time)

    def snapshot(self) -> list[Event]:
        self.time += 1
        events: list[Event] = [change(path, version) for path, version in self.documents.items()]
        return [*events, Complete("users", self.time, set(self.documents))]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["unheard write", "unheard delete"]), st.integers(0, 3)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("fail"), st.integers(1, 2)),
    ),
    max_size=15,
)


@given(steps)
def test_s1_readers_of_the_topic_know_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, some: list[tuple[str, int]]
) -> None:
    """The newest version of each path in the messages is the current document, whatever happened while it was down."""
    path, database, topic = tmp_path_factory.mktemp("relay"), Database(), Topic()
    failing = 0

    def listened() -> Iterator[Sequence[Event]]:
        yield database.snapshot()
        while some:
            what, number = some.pop(0)
            if what == "restart":
                return
            if what == "fail":
                nonlocal failing
                failing = number
                continue
            event = database.do(f"users/u{number}", is_deletion=what.endswith("delete"))
            if what.startswith("unheard"):
                return  # the connection broke, and the program with it
            yield [event]

    def publish(messages: Sequence[Message]) -> None:
        nonlocal failing
        topic(messages[: len(messages) // 2] if failing else messages)
        if failing:
            failing -= 1
            raise BoilerBeamError("as the test says")

    def once() -> None:
        with closing(RelayState(f"{path}/relay.db", "script:", TOPIC)) as state:
            relay(Script(listened()), ["users"], publish, state)

    while some or failing:
        try:
            once()
        except BoilerBeamError:
            continue
        if not some:
            break
    failing = 0
    once()
    newest: dict[str, tuple[int, bool]] = {}
    for document, version, is_deleted in topic.told():
        newest[document] = max(newest.get(document, (-1, False)), (version, is_deleted))
    standing: dict[str, Any] = {document: one[0] for document, one in newest.items() if not one[1]}
    assert standing == database.documents
