"""Listening to the emulator, which sends all documents at each change: only changes are yielded."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from boiler_beam.connectors import open_source
from boiler_beam.connectors.firestore import listen
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.protos import ListenRequest, ListenResponse
from boiler_beam.connectors.firestore.watch import TargetLost, consistent_time
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Complete
from tests.boiler_beam.connectors.firestore.test_watch import ADD, CURRENT, NO_CHANGE, REMOVE, counted, there, told
from tests.helpers.firestore import put
from tests.helpers.proxy import Call, GrpcProxy, TcpProxy

MANY = 3000
"""The most batches to read, with empty ones: some minutes."""


@pytest.fixture
def client(firestore_emulator: str, project: str) -> Iterator[Client]:
    client = Client(project)
    yield client
    client.close()


class Listener:
    """One life of a program that listens."""

    def __init__(self, uri: str, position: str | None, *collections: str) -> None:
        self.source = open_source(uri).following()
        self.source.prepare(collections)
        self.position = position
        self.events: list[Any] = []
        self.batches = self.source.follow(position)

    def until(self, is_so: Callable[[list[Any]], bool]) -> list[Any]:
        """Returns the events until a condition holds, as (path, is deleted) and (pattern, "complete")."""
        begin = len(self.events)
        for events, position in itertools.islice(self.batches, MANY):
            self.position = position
            for one in events:
                is_end = isinstance(one, Complete)
                self.events.append(
                    (one.pattern, "complete") if is_end else (one.path, "gone" if one.is_deleted else "there")
                )
            if is_so(self.events[begin:]):
                return sorted(self.events[begin:])
        raise AssertionError(f"it did not come: {self.events[begin:]}")

    def until_told(self, *expected: tuple[str, str]) -> None:
        assert self.until(lambda events: len(events) >= len(expected)) == sorted(expected)

    def until_consistent(self) -> None:
        """Whether all existing documents were yielded."""
        before = self.position
        assert self.until(lambda events: self.position != before) == []

    def end(self) -> str:
        """Ends the listener; returns the last position."""
        self.batches.close()  # type: ignore[attr-defined]
        self.source.client.close()  # type: ignore[attr-defined]
        assert self.position is not None
        return self.position


@contextmanager
def listening(uri: str, position: str | None, *collections: str) -> Iterator[Listener]:
    listener = Listener(uri, position, *collections)
    try:
        yield listener
    finally:
        listener.end()


def test_it_says_what_it_is(client: Client) -> None:
    source = open_source(client.uri)
    assert (source.is_bounded, source.following().is_bounded, source.following().has_snapshot) == (True, False, True)


def test_changes_and_deletions(client: Client) -> None:
    put(client, {"users/a": {}, "users/b": {}, "rooms/r/messages/m": {}, "old/o/messages/m": {}, "x/x/users/x": {}})
    with listening(client.uri, None, "users", "rooms/{room}/messages") as listener:
        listener.until_told(
            ("users/a", "there"), ("users/b", "there"), ("users", "complete"),
            ("rooms/r/messages/m", "there"), ("rooms/{room}/messages", "complete"),
        )  # fmt: skip
        put(client, {"users/b": {"a": 1}, "old/o/messages/m": {"a": 1}, "rooms/r/messages/n": {}})
        listener.until_told(("users/b", "there"), ("rooms/r/messages/n", "there"))
        put(client, {"users/a": None, "rooms/r/messages/m": None})
        listener.until_told(("users/a", "gone"), ("rooms/r/messages/m", "gone"))
        put(client, {"users/a": {}})
        listener.until_told(("users/a", "there"))


def test_a_deletion_has_the_time_at_which_it_was_seen(client: Client) -> None:
    """A deletion's version is newer than the deleted document, and older than a document created later (S1)."""
    (first,) = put(client, {"users/a": {}})
    source = open_source(client.uri).following()
    source.prepare(["users"])
    batches = source.follow(None)
    versions: list[int] = []

    def next_of(path: str) -> None:
        for events, _ in itertools.islice(batches, MANY):
            found = [one.version for one in events if not isinstance(one, Complete) and one.path == path]
            if found:
                versions.extend(found)
                return

    next_of("users/a")
    put(client, {"users/a": None})
    next_of("users/a")
    (again,) = put(client, {"users/a": {}})
    next_of("users/a")
    assert versions[0] == first < versions[1] < versions[2] == again
    batches.close()  # type: ignore[attr-defined]


def test_who_comes_back_finds_what_was_deleted_meanwhile(client: Client) -> None:
    """After a long interruption all documents are yielded, and then `Complete`, for the engine to find deletions (S22)."""
    put(client, {f"users/{name}": {} for name in "abc"})
    with listening(client.uri, None, "users") as listener:
        listener.until(lambda events: ("users", "complete") in events)
        listener.until_consistent()
        position = listener.position
    put(client, {"users/a": None, "users/b": {"b": 2}, "users/d": {}})
    with listening(client.uri, position, "users") as listener:
        assert json.loads(position or "")["users"]["token"]
        listener.until_told(
            ("users/b", "there"), ("users/c", "there"), ("users/d", "there"), ("users", "complete")
        )  # fmt: skip
        put(client, {"users/c": None})
        listener.until_told(("users/c", "gone"))
    with listening(client.uri, position, "users", "orders") as listener:  # a collection that is new has its snapshot
        listener.until_told(("orders", "complete"), ("users/b", "there"), ("users/d", "there"), ("users", "complete"))


def test_a_connection_that_is_cut_is_made_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the changes during the interruption are yielded."""
    put(client, {f"users/{name}": {} for name in "abc"})
    with TcpProxy(client.emulator) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(client.uri, None, "users") as listener:
            listener.until(lambda events: ("users", "complete") in events)
            listener.until_consistent()
            proxy.down()
            put(client, {"users/a": None, "users/b": {"b": 2}})
            for _ in range(5):  # empty batches: the engine goes on with its work
                assert next(listener.batches)[0] == []
            proxy.up()
            listener.until_told(("users/a", "gone"), ("users/b", "there"))
            for name in "xyz":
                proxy.cut()
                put(client, {f"users/{name}": {}})
                listener.until_told((f"users/{name}", "there"))
    assert proxy.connections >= 5


def answering(client: Client, *of_each_call: Iterable[Any] | grpc.StatusCode) -> GrpcProxy:
    """A server whose first Listen calls answer otherwise than the emulator."""
    proxy = GrpcProxy(client.emulator)

    def rule(call: Call) -> Iterable[bytes] | grpc.StatusCode | None:
        if call.method != "Listen" or call.number >= len(of_each_call):
            return None
        said = of_each_call[call.number]
        if isinstance(said, grpc.StatusCode):
            return said
        return (answer.SerializeToString() for answer in said)

    proxy.rule = rule
    return proxy


def lost(code: grpc.StatusCode) -> list[Any]:
    return [told(ADD, 1), told(REMOVE, 1, code=code.value[0])]


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, 2),
        (lost(grpc.StatusCode.INVALID_ARGUMENT), 2),
        ([told(ADD, 1), counted(1, 7)], 2),
        (grpc.StatusCode.UNAVAILABLE, 3),  # the second one goes on from the position, which the emulator can't
        (lost(grpc.StatusCode.RESOURCE_EXHAUSTED), 3),
    ],
    ids=["token refused", "target refused", "deletions forgotten", "unavailable", "exhausted"],
)
def test_who_can_not_go_on_from_its_position_reads_anew(
    client: Client, monkeypatch: pytest.MonkeyPatch, said: Any, calls: int
) -> None:
    put(client, {"users/a": {}, "users/b": {}})
    with listening(client.uri, None, "users") as listener:
        listener.until(lambda events: ("users", "complete") in events)
        listener.until_consistent()
        position = listener.position
    put(client, {"users/a": None})
    with answering(client, said) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(client.uri, position, "users") as listener:
            listener.until_told(("users/b", "there"), ("users", "complete"))
            put(client, {"users/b": None})
            listener.until_told(("users/b", "gone"))
    assert proxy.calls["Listen"] == calls


def test_what_comes_just_before_a_break_is_not_lost(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known document is not sent again."""
    (version,) = put(client, {"users/a": {}})
    real = listen._Stream

    class Breaking:
        def __init__(self, *asked: Any) -> None:
            monkeypatch.setattr(listen, "_Stream", real)

        def some(self, seconds: float) -> Iterator[Any]:
            yield there("users/a", version + 1, 1, root=client.root)
            raise TargetLost(grpc.StatusCode.UNAVAILABLE.value[0], "both at once")

        def close(self) -> None:
            """It is."""

    monkeypatch.setattr(listen, "_Stream", Breaking)
    with listening(client.uri, None, "users") as listener:
        listener.until_told(("users/a", "there"), ("users", "complete"), ("users/a", "there"))


def test_a_server_that_forgot_deletions_is_read_anew(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one run the watch knows which documents were deleted."""
    put(client, {"users/a": {}, "users/b": {}})

    def forgetful() -> Iterator[ListenResponse]:
        yield told(ADD, 1)
        put(client, {"users/a": None})
        yield counted(1, 1)

    with answering(client, forgetful()) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(client.uri, None, "users") as listener:
            listener.until_told(
                ("users/a", "there"), ("users/b", "there"), ("users", "complete"), ("users/a", "gone")
            )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, UsageError, "expected to listen to users, got PERMISSION_DENIED"),
        (lost(grpc.StatusCode.PERMISSION_DENIED), BoilerBeamError, "expected to listen to users, got: said the server"),
        (grpc.StatusCode.FAILED_PRECONDITION, BoilerBeamError, "expected to listen to users, got FAILED_PRECONDITION"),
    ],
)
def test_what_does_not_pass_is_told(
    client: Client, monkeypatch: pytest.MonkeyPatch, said: Any, error: type[Exception], message: str
) -> None:
    with answering(client, said) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(client.uri, None, "users") as listener, pytest.raises(error, match=message):
            listener.until(lambda events: False)


def test_it_asks_for_what_came_after_the_snapshot(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Billed reads: each document once in the snapshot, and then each change."""
    put(client, {"users/a": {}, "users/b": {}})
    asked: list[Any] = []
    with GrpcProxy(client.emulator) as proxy:

        def rule(call: Call) -> None:
            if call.method == "Listen":
                request = next(call.requests)
                asked.append(ListenRequest.FromString(request).add_target)
                call.requests = itertools.chain([request], call.requests)

        proxy.rule = rule  # type: ignore[assignment]
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        with listening(client.uri, None, "users") as listener:
            listener.until(lambda events: ("users", "complete") in events)
            read_time = json.loads(listener.position or "")["users"]["read_time"]
            assert listener.source.billed.reads == 3  # type: ignore[attr-defined]
            listener.until_consistent()
    (target,) = asked
    assert not target.resume_token
    assert target.read_time.seconds * 10**6 + target.read_time.nanos // 1000 == read_time


def test_batches_that_end_at_consistent_times(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes after such a time are in the next batch, also if all of them came at once."""
    put(client, {"users/a": {}})
    one, two = 2_000_000_000_000_001, 2_000_000_000_000_002

    left = iter(
        [
            told(ADD, 1), told(CURRENT, 1), told(NO_CHANGE, at=one, token=b"1"),
            there("users/b", one + 1, 1, root=client.root), told(NO_CHANGE, at=two, token=b"2"),
            there("users/c", two + 1, 1, root=client.root),
        ]
    )  # fmt: skip

    class AtOnce:
        def __init__(self, *asked: Any) -> None:
            """All messages are there."""

        def some(self, seconds: float) -> Iterator[Any]:
            yield from left

        def close(self) -> None:
            """It is."""

    monkeypatch.setattr(listen, "_Stream", AtOnce)
    source: Any = open_source(client.uri).following()
    source.prepare(["users"])
    source.has_whole_batches = True
    last, paths, found = "", list[str](), list[Any]()
    batches = source.follow(None)
    for events, position in itertools.islice(batches, MANY):
        paths += [event.path for event in events if not isinstance(event, Complete)]
        if position != last and consistent_time(position):
            found.append((paths, consistent_time(position), source.is_current))
            last, paths = position, []
        if "users/c" in paths:
            break
    batches.close()
    source.client.close()
    assert [found[0][0], *found[1:], paths] == [["users/a"], ([], one, True), (["users/b"], two, True), ["users/c"]]
    assert not found[0][2], "the snapshot comes before the call"
    assert not source.is_current
