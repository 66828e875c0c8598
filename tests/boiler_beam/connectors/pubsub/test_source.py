"""A subscription as a source: at least once, acknowledged when durable, and resumed after faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import grpc
import msgspec
import pytest

from boiler_beam.connectors import open_source
from boiler_beam.connectors.base import Source
from boiler_beam.connectors.pubsub import publisher, source
from boiler_beam.connectors.pubsub.client import Client
from boiler_beam.connectors.pubsub.envelope import Message, document_message
from boiler_beam.connectors.pubsub.leases import Leases
from boiler_beam.connectors.pubsub.protos import METHODS, Subscription
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, DeadLetter, Event
from tests.helpers.pubsub import Channel
from tests.helpers.pubsub_server import FakePubsub
from tests.helpers.servers import patience, wait_until

NAME = "projects/some/subscriptions/some"
PullResponse = METHODS["Pull"][2]


def documents(number: int, begin: int = 0) -> list[Message]:
    changes = [Change(f"users/u{one}", 7 + one, msgspec.Raw(b"{}")) for one in range(begin, begin + number)]
    return [document_message(change) for change in changes]


def paths_of(events: Sequence[Event]) -> list[str]:
    return [event.path for event in events if isinstance(event, Change)]


def taken(opened: Source, number: int, *, is_durable: bool) -> list[Event]:
    """Returns the first events of a source, and closes it."""
    found: list[Event] = []
    with closing(opened.follow(None)) as following:  # type: ignore[type-var]
        for (events, position), _ in zip(following, patience(f"{number} events"), strict=False):
            found += events
            if is_durable:
                opened.acknowledge(position)
            if len(found) >= number:
                break
    return found


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePubsub]:
    opened = FakePubsub()
    opened.answers["GetSubscription"] = lambda request: Subscription(name=NAME, topic="projects/some/topics/some")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", opened.host)
    monkeypatch.setattr(source, "_PAUSE_SECONDS", 0.001)
    with closing(opened):
        yield opened


def test_what_is_published_comes_and_what_is_durable_does_not_come_again(channel: Channel) -> None:
    channel.publish([*documents(2500), Message(b"junk", {})])
    found = taken(open_source(channel.source), 2501, is_durable=True)
    assert sorted(paths_of(found)) == sorted(f"users/u{one}" for one in range(2500))
    (letter,) = (one for one in found if isinstance(one, DeadLetter))
    assert (letter.code, letter.input) == ("malformed_message", '{"text":"junk"}')
    assert str(letter.source).startswith(f"{channel.source}:")
    channel.publish(documents(1, 9000))
    assert paths_of(taken(open_source(channel.source), 1, is_durable=True)) == ["users/u9000"]


def test_what_is_not_durable_is_released_at_the_end(pubsub_emulator: str, project: str) -> None:
    with closing(Channel(project, ack_deadline_seconds=600)) as channel:
        channel.publish(documents(300))
        for is_durable in (False, True):  # the server would keep them for ten minutes
            found = taken(open_source(channel.source), 300, is_durable=is_durable)
            assert len(set(paths_of(found))) == 300


def test_a_part_of_it_is_durable(pubsub_emulator: str, project: str) -> None:
    with closing(Channel(project, ack_deadline_seconds=600)) as channel:
        opened = open_source(channel.source)
        with closing(opened.follow(None)) as following:  # type: ignore[type-var]
            positions = []
            for place in range(3):
                channel.publish(documents(1, place))
                batches = zip(following, patience("a message"), strict=False)
                positions.append(next(position for (events, position), _ in batches if events))
            opened.acknowledge("of an earlier run:3")
            opened.acknowledge(positions[1])
            opened.acknowledge(positions[0])
        assert paths_of(taken(open_source(channel.source), 1, is_durable=True)) == ["users/u2"]


def test_it_tells_that_nothing_comes(channel: Channel) -> None:
    with closing(open_source(channel.source).follow(None)) as following:  # type: ignore[type-var]
        (one, first), (two, second) = next(following), next(following)
    assert (list(one), list(two)) == ([], [])
    assert first == second


@pytest.mark.slow
def test_a_lease_is_extended_for_as_long_as_it_takes(channel: Channel) -> None:
    channel.publish(documents(1))
    begin, found = time.monotonic(), []
    with closing(open_source(channel.source).follow(None)) as following:  # type: ignore[type-var]
        for events, _ in following:
            found += events
            if time.monotonic() - begin > 25:  # the subscription's deadline is 10 s
                break
    assert len(found) == 1


def test_no_more_is_pulled_than_can_be_held(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "Leases", partial(Leases, most_messages=100))
    most = 100 + source._PULLS * 100  # the emulator gives 100 messages a pull
    channel.publish(documents(3000))
    opened, found = open_source(channel.source), set()
    with closing(opened.follow(None)) as following:  # type: ignore[type-var]
        held = 0
        for (events, position), _ in zip(following, patience("3,000 messages"), strict=False):
            found |= set(paths_of(events))
            held += len(events)
            assert held <= most
            if not events:
                opened.acknowledge(position)
                held = 0
            if len(found) == 3000:
                break


def test_prepare_tells_what_the_subscription_is(channel: Channel) -> None:
    opened = open_source(channel.source)
    assert not opened.is_bounded
    opened.prepare(["users"])
    assert opened.retention_seconds == 7 * 86400
    assert isinstance(opened, source.PubsubSource)
    assert opened.topic == channel.topic


@pytest.mark.parametrize(
    "rest", ["", "sub", "projects/p/topics/some", "projects/p/subscriptions/x", "projects/P/subscriptions/some"]
)
def test_addresses_that_are_none(rest: str) -> None:
    with pytest.raises(UsageError, match="expected pubsub:projects/PROJECT/subscriptions/NAME, got"):
        open_source(f"pubsub:{rest}")


def test_a_subscription_that_is_not_there(pubsub_emulator: str, project: str) -> None:
    opened = open_source(f"pubsub:projects/{project}/subscriptions/none")
    create = f"subscriptions create none --topic=TOPIC --project={project}"
    with pytest.raises(UsageError, match=f"got NOT_FOUND: .*fix: gcloud pubsub {create} "):
        opened.prepare([])
    with pytest.raises(UsageError, match="got NOT_FOUND"):
        next(iter(opened.follow(None)))
    for read in (opened.splits, partial(opened.read, "")):
        with pytest.raises(UsageError, match="expected a source that ends, got a subscription; fix: --mode stream"):
            read()  # type: ignore[operator]


def test_a_subscription_that_is_not_pulled(pubsub_emulator: str, project: str) -> None:
    push = {"push_endpoint": "http://127.0.0.1:9/"}
    said = pytest.raises(UsageError, match="expected a subscription that is pulled, got one with a push_config")
    with closing(Channel(project, push_config=push)) as channel, said:
        open_source(channel.source).prepare([])


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
    with pytest.raises(UsageError, match=r"expected credentials, got none .*, or PUBSUB_EMULATOR_HOST=HOST:PORT"):
        open_source(f"pubsub:{NAME}").prepare([])


def test_no_permission(fake: FakePubsub) -> None:
    fake.answers["GetSubscription"] = lambda request: grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(UsageError, match=r"fix: grant roles/pubsub.subscriber and roles/pubsub.viewer to the account"):
        open_source(f"pubsub:{NAME}").prepare([])


# Faults ---------------------------------------------------------------------------------------------------------------


def test_a_server_that_is_away_for_a_while(fake: FakePubsub) -> None:
    faults = iter([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL] * 2)

    def pull(request: Any) -> Any:
        fault = next(faults, None)
        if fault is not None:
            return fault
        answer = PullResponse()
        data, attributes = documents(1)[0]
        answer.received_messages.add(ack_id="a", message={"data": data, "attributes": attributes})
        return answer

    refused = iter([grpc.StatusCode.UNAVAILABLE])
    fake.answers["Pull"] = pull
    fake.answers["Acknowledge"] = lambda request: next(refused, METHODS["Acknowledge"][2]())
    opened = open_source(f"pubsub:{NAME}")
    with closing(opened.follow(None)) as following:  # type: ignore[type-var]
        for events, position in following:
            opened.acknowledge(position)
            if events:
                break
        wait_until(lambda: len(fake.requests["Acknowledge"]) >= 2, "the second try to acknowledge")
    assert fake.requests["Acknowledge"][1].ack_ids[:1] == ["a"]


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED])
def test_a_subscription_that_is_taken_away(fake: FakePubsub, code: grpc.StatusCode) -> None:
    fake.answers["Pull"] = lambda request: code
    with pytest.raises(UsageError, match=f"expected to pull, got {code.name}"):
        taken(open_source(f"pubsub:{NAME}"), 1, is_durable=True)


def test_a_server_that_does_not_answer(fake: FakePubsub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_PULL_SECONDS", 0.05)
    fake.answers["Pull"] = lambda request: fake.ended.wait() and PullResponse()
    with closing(open_source(f"pubsub:{NAME}").follow(None)) as following:  # type: ignore[type-var]
        assert next(following)[0] == []
        wait_until(lambda: len(fake.requests["Pull"]) > 2, "the pulls")


# Leases ---------------------------------------------------------------------------------------------------------------


def leases_of(fake: FakePubsub, deadline_seconds: float, **settings: Any) -> Leases:
    return Leases(Client(f"pubsub:{NAME}", NAME), deadline_seconds, **settings)


def test_leases_are_extended_until_they_are_acknowledged(fake: FakePubsub) -> None:
    held = leases_of(fake, 0.05)
    with closing(held):
        held.hold(["a", "b"], 10).number = 1
        held.hold(["c"], 10)
        wait_until(lambda: len(fake.requests["ModifyAckDeadline"]) >= 4, "extensions")
        held.acknowledge(1)
        wait_until(lambda: bool(fake.requests["Acknowledge"]), "the acknowledgement")
        number = len(fake.requests["ModifyAckDeadline"])
        wait_until(lambda: len(fake.requests["ModifyAckDeadline"]) > number + 1, "more extensions")
    assert fake.requests["Acknowledge"][0].ack_ids == ["a", "b"]
    *_, extended, released = fake.requests["ModifyAckDeadline"]
    assert (extended.ack_ids, released.ack_ids, released.ack_deadline_seconds) == (["c"], ["c"], 0)


def test_leases_are_not_extended_for_ever(fake: FakePubsub) -> None:
    held = leases_of(fake, 0.0, most_seconds=0)
    with closing(held):
        held.hold(["a"], 10)
        held.hold(["b"], 10).number = 1
        held.acknowledge(1)
        wait_until(lambda: bool(fake.requests["Acknowledge"]), "the acknowledgement")
        assert fake.requests["ModifyAckDeadline"] == []


@pytest.mark.parametrize("limits", [{"most_messages": 2}, {"most_bytes": 10}])
def test_there_is_room_again_when_something_is_acknowledged(fake: FakePubsub, limits: dict[str, int]) -> None:
    held, found = leases_of(fake, 10, **limits), []
    assert held.wait_for_room()
    held.hold(["a", "b"], 10).number = 1
    waiting = threading.Thread(target=lambda: found.append(held.wait_for_room()))
    waiting.start()
    assert found == []
    held.acknowledge(1)
    waiting.join()
    assert found == [True]
    held.close()
    assert not held.wait_for_room()


def test_many_are_acknowledged_in_calls_that_the_server_takes(fake: FakePubsub) -> None:
    held = leases_of(fake, 10)
    held.hold([f"a{one}" for one in range(2500)], 10).number = 1
    held.acknowledge(1)
    held.close()
    assert [len(request.ack_ids) for request in fake.requests["Acknowledge"]] == [1000, 1000, 500]


# Publishing -----------------------------------------------------------------------------------------------------------


def test_publishing_outlasts_a_server_that_is_away(fake: FakePubsub) -> None:
    refused = iter([grpc.StatusCode.UNAVAILABLE] * 3)
    fake.answers["Publish"] = lambda request: next(refused, METHODS["Publish"][2]())
    pauses: list[float] = []
    opened = publisher.Publisher("projects/some/topics/some", sleep=pauses.append)
    assert opened.publish(documents(2500)) == 2500
    opened.close()
    came = {message.data for request in fake.requests["Publish"] for message in request.messages}
    assert len(came) == 2500
    assert len(pauses) == 3
    assert set(pauses) <= {0.1, 0.2, 0.4}  # each call's own, longer each time: which one is refused is chance


def test_publishing_gives_up_after_a_time(fake: FakePubsub) -> None:
    fake.answers["Publish"] = lambda request: grpc.StatusCode.UNAVAILABLE
    now = [0.0]
    opened = publisher.Publisher(
        "projects/some/topics/some",
        clock=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )
    with closing(opened), pytest.raises(BoilerBeamError, match="expected to publish, got UNAVAILABLE"):
        opened.publish(documents(1))
    assert 280 < now[0] <= 300


def test_large_messages_go_in_calls_that_the_server_takes(fake: FakePubsub) -> None:
    opened = publisher.Publisher("projects/some/topics/some")
    with closing(opened):
        assert opened.publish(Message(b"x" * (4 << 20), {}) for _ in range(5)) == 5
    assert sorted(len(request.messages) for request in fake.requests["Publish"]) == [1, 2, 2]
