"""The messages of a Listen call, as tables: the cloud's messages, which the emulator does not send."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from boiler_beam.connectors.firestore.protos import ListenResponse
from boiler_beam.connectors.firestore.query import queries_of
from boiler_beam.connectors.firestore.values import put_fields, put_micros
from boiler_beam.connectors.firestore.watch import TargetLost, Watch
from boiler_beam.events import Change, Complete

ROOT = "projects/p/databases/(default)/documents/"
NO_CHANGE, ADD, REMOVE, CURRENT, RESET = range(5)


def told(kind: int, *targets: int, at: int = 0, token: bytes = b"", code: int = 0) -> Any:
    answer = ListenResponse()
    change = answer.target_change
    change.SetInParent()
    change.target_change_type = kind
    change.target_ids.extend(targets)
    change.resume_token = token
    if at:
        put_micros(change.read_time, at)
    if code:
        change.cause.code, change.cause.message = code, "said the server"
    return answer


def there(path: str, version: int, *targets: int, root: str = ROOT) -> Any:
    answer = ListenResponse()
    document = answer.document_change.document
    document.name = root + path
    put_fields(document.fields, b'{"a":%d}' % version, ROOT)
    put_micros(document.update_time, version)
    answer.document_change.target_ids.extend(targets)
    return answer


def gone(path: str, at: int, *targets: int, kind: str = "document_delete") -> Any:
    answer = ListenResponse()
    change = getattr(answer, kind)
    change.document = ROOT + path
    put_micros(change.read_time, at)
    change.removed_target_ids.extend(targets)
    return answer


def counted(target: int, count: int) -> Any:
    answer = ListenResponse()
    answer.filter.target_id, answer.filter.count = target, count
    return answer


def told_as(events: list[Any]) -> list[Any]:
    return [
        (one.pattern, one.read_time) if isinstance(one, Complete) else (one.path, None if one.is_deleted else "there", one.version)
        for one in events
    ]  # fmt: skip


class Town:
    """Returns a watch of some collections whose snapshots were read."""

    def __init__(self, *collections: str, position: str | None = None, is_exact: bool = True, **documents: int) -> None:
        self.watch = Watch(queries_of(collections), position, lambda name: name[len(ROOT) :], is_exact=is_exact)
        for target in self.watch.needs_snapshot():
            some = [Change(f"users/{name}", version, b"{}") for name, version in documents.items()]  # type: ignore[arg-type]
            list(self.watch.snapshot(target, some))
            self.watch.settled(target, 100)
        self.ask()

    def ask(self) -> list[tuple[bytes, int]]:
        return [
            (one.add_target.resume_token, one.add_target.read_time.nanos // 1000)
            for one in self.watch.requests(ROOT[:-11], ROOT)
        ]

    def take(self, *answers: Any) -> list[Any]:
        return told_as([event for answer in answers for event in self.watch.take(answer)])

    def is_current(self, at: int, token: bytes = b"") -> None:
        numbers = list(self.watch.targets)
        begun = [answer for number in numbers for answer in (told(ADD, number), told(CURRENT, number, token=token))]
        assert self.take(*begun, told(NO_CHANGE, at=at)) == []


def test_changes_deletions_and_positions_at_consistent_times() -> None:
    town = Town("users", a=10, b=20)
    assert town.ask() == [(b"", 100)]
    town.is_current(110, b"t1")
    before = town.watch.position
    assert json.loads(before) == {"users": {"read_time": 110, "token": "dDE="}}
    assert town.take(there("users/a", 120, 1), there("users/a", 120, 1), gone("users/b", 121, 1)) == [
        ("users/a", "there", 120),
        ("users/b", None, 121),
    ]
    assert town.watch.position == before
    assert town.take(told(NO_CHANGE, 1, at=122), told(NO_CHANGE, at=123, token=b"t2")) == []
    assert json.loads(town.watch.position)["users"]["read_time"] == 123
    assert town.ask() == [(b"t2", 0)]
    assert list(town.watch.targets[1].known) == ["users/a"]


def test_no_position_until_all_targets_are_current() -> None:
    town = Town("users", "orders", a=10)
    before = town.watch.position
    town.take(told(ADD, 1), told(CURRENT, 1, token=b"x"), told(NO_CHANGE, at=110), told(ADD, 2))
    assert town.watch.position == before
    town.take(told(CURRENT, 2, token=b"y"), told(NO_CHANGE, at=111))
    assert {name: one["read_time"] for name, one in json.loads(town.watch.position).items()} == {
        "users": 111,
        "orders": 111,
    }


def test_after_a_reset_what_did_not_come_is_deleted() -> None:
    """The version of a deletion is the consistent time (S1)."""
    town = Town("users", a=10, b=20, c=30)
    town.is_current(110)
    assert town.take(told(RESET, 1, token=b"r"), there("users/a", 10, 1), there("users/b", 120, 1)) == [
        ("users/b", "there", 120)
    ]
    assert town.take(told(CURRENT, 1, at=121)) == []  # not consistent yet: a change of that time may follow
    assert town.take(told(NO_CHANGE, at=122)) == [("users/c", None, 122)]
    assert town.take(there("users/c", 125, 1)) == [("users/c", "there", 125)]


def test_who_comes_back_knows_nothing_and_tells_what_is_complete() -> None:
    """Without known documents the watch yields `Complete`, and the engine compares with its state (S22)."""
    first = Town("users", a=10)
    first.is_current(110, b"t")
    town = Town("users", position=first.watch.position)
    assert town.ask() == [(b"t", 0)]
    everything = town.take(
        told(ADD, 1), told(RESET, 1), there("users/a", 10, 1), told(CURRENT, 1), told(NO_CHANGE, at=130)
    )
    assert everything == [("users/a", "there", 10), ("users", 130)]
    assert town.take(told(RESET, 1), told(CURRENT, 1), told(NO_CHANGE, at=131)) == [("users/a", None, 131)]


def test_what_an_emulator_leaves_out_is_looked_up() -> None:
    """An omitted document may be written at that moment, so it is not a deletion (S1)."""
    town = Town("users", is_exact=False, a=10, b=20, c=30)
    town.is_current(110)
    told_so = (told(RESET, 1), there("users/a", 10, 1), told(CURRENT, 1), told(NO_CHANGE, at=122))
    assert town.take(*told_so) == []
    asked: list[str] = []

    def get(paths: Iterable[str]) -> list[Change]:
        asked.extend(paths)
        return [Change("users/b", 121, b"{}"), Change("users/c", 125, b"null")]  # type: ignore[arg-type]

    assert told_as(town.watch.looked_up(get)) == [("users/b", "there", 121), ("users/c", None, 125)]
    assert asked == ["users/b", "users/c"]
    assert town.watch.looked_up(get) == []
    assert town.take(there("users/b", 121, 1)) == []


def test_who_comes_back_to_an_emulator_takes_a_snapshot() -> None:
    """The emulator may omit a document, so a watch without known documents takes a snapshot (S22)."""
    position = Town("users", a=10).watch.position
    town = Town("users", position=position, is_exact=False)
    town.take(told(ADD, 1), told(RESET, 1), there("users/a", 10, 1), told(CURRENT, 1), told(NO_CHANGE, at=130))
    (target,) = town.watch.needs_snapshot()
    assert list(town.watch.snapshot(target, [Change("users/a", 10, b"{}"), Change("users/b", 5, b"{}")])) != []  # type: ignore[arg-type]
    assert told_as(town.watch.settled(target, 140)) == [("users", 140)]


def test_what_is_sent_again_is_not_billed_again() -> None:
    town = Town("users", a=10, b=20)
    town.is_current(110)
    town.take(told(RESET, 1), there("users/a", 10, 1), there("users/b", 120, 1), told(CURRENT, 1))
    assert town.watch.documents == 1


def test_a_stream_that_breaks_within_a_reset_deletes_nothing() -> None:
    town = Town("users", a=10, b=20)
    town.is_current(110, b"t1")
    town.take(told(RESET, 1, token=b"within"), there("users/a", 10, 1))
    assert town.ask() == [(b"t1", 0)]
    assert town.take(told(ADD, 1), told(CURRENT, 1), told(NO_CHANGE, at=120)) == []
    assert town.ask() == [(b"t1", 0)]


@pytest.mark.parametrize(("count", "is_lost"), [(2, False), (1, True)])
def test_a_number_of_documents_that_is_another_one(count: int, is_lost: bool) -> None:
    town = Town("users", a=10, b=20)
    town.is_current(110, b"t")
    town.take(counted(1, count))
    assert bool(town.watch.needs_snapshot()) == is_lost
    if is_lost:
        (target,) = town.watch.needs_snapshot()
        list(town.watch.snapshot(target, [Change("users/a", 10, b"{}")]))  # type: ignore[arg-type]
        assert told_as(town.watch.settled(target, 130)) == [("users/b", None, 130)]


def test_who_knows_nothing_can_not_compare_numbers() -> None:
    first = Town("users")
    first.is_current(110, b"t")
    town = Town("users", position=first.watch.position)
    town.take(told(ADD, 1), counted(1, 0))
    assert town.watch.needs_snapshot()


def test_the_others_of_a_group_count_and_are_not_told() -> None:
    town = Town("rooms/{room}/messages")
    town.is_current(110)
    found = town.take(
        there("rooms/r/messages/m", 111, 1), there("old/o/messages/m", 112, 1), gone("old/o/messages/m", 113, 1)
    )
    assert found == [("rooms/r/messages/m", "there", 111)]
    town.take(there("old/o/messages/n", 114, 1), counted(1, 2))
    assert not town.watch.needs_snapshot()


def test_a_document_that_leaves_is_deleted() -> None:
    town = Town("users", a=10)
    assert town.take(gone("users/a", 120, 1, kind="document_remove")) == [("users/a", None, 120)]


def test_a_target_that_the_server_ends() -> None:
    with pytest.raises(TargetLost, match="said the server") as lost:
        Town("users").take(told(REMOVE, 1, code=7))
    assert lost.value.code == 7
