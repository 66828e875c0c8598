"""Row paths: copies, contested paths (the smallest id wins, S11), invalid paths, and who may see a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import aggregate, reference, root, view_property
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine import backfill
from boiler_beam.events import DeadLetter
from boiler_beam.oracle import compute
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.testing import check_aggregate
from boiler_beam.values import decode_fields
from tests.helpers.executors import Outcome, embedded, partitioned, placeless
from tests.helpers.histories import Event, ListSource, changes
from tests.helpers.town import VIEWS, Guest, Inbox, Profile, Room, Spread

NICKS = compile_plan([Profile])
INBOX = compile_plan([Inbox])


def outcomes(plan: Plan, table: list[Event]) -> list[Outcome]:
    return [embedded(plan, changes(table)), partitioned(plan, changes(table)), partitioned(plan, changes(table), 1)]


def told(letters: list[DeadLetter]) -> list[tuple[str, str | None, str]]:
    return sorted((letter.code, letter.path, placeless(letter.message)) for letter in letters)


def guest(number: int, **fields: Any) -> Event:
    return f"guests/{number}", 1, {"name": f"n{number}", "level": "new", **fields}


def test_s11_the_smallest_id_wins_a_contested_path() -> None:
    table = [guest(2, nick="a"), guest(1, nick="a"), guest(3, nick="c")]
    for outcome in outcomes(NICKS, table):
        assert {path: decode_fields(fields)["topics"] for path, fields in outcome.rows.items()} == {
            "nicks/a/about/profile": ["1"], "nicks/c/about/profile": ["3"],
        }  # fmt: skip
        message = "Profile: expected a row path of its own for '2', got one that a row with a smaller id wants, too"
        assert told(outcome.letters) == [("contested_path", "nicks/a/about/profile", message)]
    (letter,) = compute(NICKS, changes(table)).dead_letters
    assert (letter.code, letter.path) == ("contested_path", "nicks/a/about/profile")


BAD = [
    ("", "an id that Firestore takes: not empty, without '/', not '.', '..' or '__...__', got ''"),
    ("x/y", "an id that Firestore takes: not empty, without '/', not '.', '..' or '__...__', got 'x/y'"),
    ("..", "an id that Firestore takes: not empty, without '/', not '.', '..' or '__...__', got '..'"),
    ("__a__", "an id that Firestore takes: not empty, without '/', not '.', '..' or '__...__', got '__a__'"),
    ("é" * 751, f"an id of at most 1500 bytes, got '{'é' * 751}'"),
]


@pytest.mark.parametrize(("nick", "problem"), BAD, ids=["empty", "slash", "dots", "underscores", "long"])
def test_what_makes_no_path_is_a_dead_letter_and_the_other_copies_stand(nick: str, problem: str) -> None:
    for outcome in outcomes(NICKS, [guest(1, nick=nick, level="old")]):
        assert list(outcome.rows) == ["nicks/n1/about/profile"]
        assert told(outcome.letters) == [
            ("bad_path", "nicks//about/profile", f"Profile.paths of '1': expected nick to be {problem}")
        ]
        assert not outcome.unknown


def test_s6_a_copy_whose_getter_raises_is_left_alone_and_the_others_are_written() -> None:
    for outcome in outcomes(NICKS, [guest(1, nick="bad", level="old")]):
        assert list(outcome.rows) == ["nicks/n1/about/profile"]
        assert outcome.unknown == {"nicks/bad/about/profile"}
        message = "Profile.topics of '1' raised ValueError: bad"
        assert told(outcome.letters) == [("getter_raised", "nicks/bad/about/profile", message)]


def inbox(members: list[str], *guests: Event) -> list[Event]:
    return [("rooms/1", 1, {"members": members}), *guests]


def test_s6_paths_that_raise_leave_all_copies_alone() -> None:
    table = inbox(["guests/1", "guests/2"], guest(1), guest(2, name="boom"))
    for outcome in outcomes(INBOX, table):
        assert not outcome.rows
        assert outcome.unknown == {"guests//inbox/1"}
        (letter,) = outcome.letters
        assert told([letter]) == [("getter_raised", "guests/{guest}/inbox/1", "Inbox.paths raised ValueError: boom")]
        assert letter.message.endswith(': raise ValueError("boom"))')


def test_too_many_copies() -> None:
    guests = [guest(number) for number in range(4)]
    for outcome in outcomes(INBOX, inbox([f"guests/{number}" for number in range(4)], *guests)):
        assert not outcome.rows
        (letter,) = outcome.letters
        assert letter.message == "Inbox.paths: expected at most 3 copies, got more; fix: raise max_paths="
        assert letter.code == "too_many_paths"


def after(sink: MemorySink, table: list[Event], plan: Plan = INBOX) -> tuple[set[str], Any]:
    report = backfill(plan, [ListSource(changes(table))], sink, lambda letter: None)
    return {row.path for view in plan.views for row in sink.current_rows(view.target)}, report.views[0]


def test_copies_that_are_no_longer_yielded_are_pruned_and_those_that_cannot_be_told_stay() -> None:
    sink = MemorySink()
    both = {"guests/1/inbox/1", "guests/2/inbox/1"}
    assert after(sink, inbox(["guests/1", "guests/2"], guest(1), guest(2)))[0] == both
    paths, report = after(sink, inbox(["guests/1", "guests/3"], guest(1), guest(3, name="boom")))
    assert paths == both
    assert (report.tainted, report.deleted) == (1, 0)
    paths, report = after(sink, [("rooms/1", 2, {"members": 7}), guest(1)])
    assert paths == both
    paths, report = after(sink, inbox(["guests/1", "guests/3"], guest(1), guest(3)))
    assert paths == {"guests/1/inbox/1", "guests/3/inbox/1"}
    assert (report.inserted, report.deleted) == (1, 1)


class Counted(bb.ViewModel, path="guests/{guest}/counted/{id}"):
    """A view that shows how often its getters ran."""

    ran: list[str] = []  # noqa: RUF012

    class Store(bb.Store):
        room: Room = root(Room)
        members: dict[str, Guest] = reference("room.members")

    store: Store

    def paths(self) -> list[dict[str, str]]:
        return [{"guest": one} for one in self.store.members]

    @view_property
    def shared(self) -> str:
        self.ran.append("shared")
        return self.store.room.topic

    @view_property
    def mine(self) -> str:
        self.ran.append("mine")
        return f"{self.shared} {self.at['guest']}"

    @view_property
    def derived(self) -> str:
        self.ran.append("derived")
        return self.mine.upper()


def test_getters_that_do_not_read_at_run_once_for_all_copies() -> None:
    Counted.ran.clear()
    rows = embedded(compile_plan([Counted]), changes(inbox(["guests/1", "guests/2"], guest(1), guest(2)))).rows
    assert {path: decode_fields(fields)["derived"] for path, fields in rows.items()} == {
        "guests/1/counted/1": "T 1", "guests/2/counted/1": "T 2",
    }  # fmt: skip
    assert Counted.ran.count("shared") == 1
    assert Counted.ran.count("derived") == 2


def pathless(paths: Callable[[Any], Any], **methods: Any) -> type[bb.ViewModel]:
    body = {
        "Store": type("Store", (bb.Store,), {"room": root(Room)}),
        "name": view_property(lambda self: ""),
        "paths": paths,
    }
    made = type("View", (bb.ViewModel,), {**body, **methods}, path="rows/{place}/x/{id}")
    made.__module__ = __name__
    return made


RAISED: list[tuple[str, type[bb.ViewModel], str]] = [
    ("text", pathless(lambda self: ["a"]), "View.paths: expected to yield {'place': ...}, got 'a'"),
    ("another name", pathless(lambda self: [{"plce": "a"}]), "View.paths: expected to yield {'place': ...}, got {'plce': 'a'}"),
    ("nothing", pathless(lambda self: None), "View.paths raised TypeError: 'NoneType' object is not iterable"),
    ("at", pathless(lambda self: [self.at]), "View.paths raised AttributeError: self.at is known while a copy of the row is rendered, not in paths()"),
    ("a user", pathless(lambda self: [{"place": 7}], viewers=lambda self: [bb.Ref("users/u1")]), "View.viewers raised TypeError: expected a user id, 'anyone', 'signed in' or role(...), got Ref('users/u1'); fix: yield its doc_id"),
    ("nobody", pathless(lambda self: [{"place": "a"}], viewers=lambda self: [""]), "View.viewers raised ValueError: expected a user id, got an empty text"),
    ("a crowd", pathless(lambda self: [{"place": "a"}], editors=lambda self: map(str, range(1001))), "View.editors raised ValueError: expected at most 1,000 user ids, got more; fix: yield role(name, of=...)"),
]  # fmt: skip


@pytest.mark.parametrize(("view", "message"), [case[1:] for case in RAISED], ids=[case[0] for case in RAISED])
def test_what_paths_and_viewers_may_not_yield(view: type[bb.ViewModel], message: str) -> None:
    for outcome in outcomes(compile_plan([view]), [("rooms/1", 1, {})]):
        assert [placeless(letter.message) for letter in outcome.letters] == [message]
        assert " (tests/semantics/test_paths.py:" in outcome.letters[0].message, "where the method is"
        assert outcome.unknown == {"rows//x/1"}


def test_only_says_what_it_lacks() -> None:
    class Slim(bb.ViewModel, collection="slim"):
        class Store(bb.Store):
            room: Room = root(Room)
            members: dict[str, Guest] = reference("room.members", only=("name",))

        store: Store

        @view_property
        def nicks(self) -> list[str]:
            return [one.nick for one in self.store.members.values()]

    for outcome in outcomes(compile_plan([Slim]), inbox(["guests/1"], guest(1))):
        (letter,) = outcome.letters
        assert placeless(letter.message) == (
            "Slim.nicks raised AttributeError: Guest.nick was read over the edge members, whose only= lacks it: add 'nick'"
        )


def test_a_path_field_is_read_only() -> None:
    plan = compile_plan(VIEWS)
    document_type = next(one for one in plan.document_types if one.base.__name__ == "Message")
    message = document_type.decode("rooms/1/messages/2", 1, b'{"author": "guests/1"}')
    assert message.room.path == "rooms/1"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="immutable type: 'Message'"):
        message.room = None  # type: ignore[attr-defined]


def test_laws_of_an_aggregate() -> None:
    check_aggregate(Spread(), st.integers(-1000, 1000))


class Last(Spread):
    def add(self, state: Any, value: Any) -> Any:
        return [state[0] + 1, value, value]


class InPlace(Spread):
    def add(self, state: Any, value: Any) -> Any:
        state[0] += 1
        return state


class Forgetful(Spread):
    def retract(self, state: Any, value: Any) -> Any:
        return [state[0] - 1, state[1], state[2]]


class Unmerged(Spread):
    def merge(self, state: Any, other: Any) -> Any:
        return state


class Unstorable(Spread):
    def result(self, state: Any) -> Any:
        return {1, 2}


LAWS = [
    (Last(), "gave another state than|left a trace"),
    (InPlace(), r"add\(\) changed the state that it was given"),
    (Forgetful(), r"retract\(\) of .* left a trace"),
    (Unmerged(), r"merge\(\) of the states of"),
    (Unstorable(), "Firestore has no type for set"),
]


@pytest.mark.parametrize(("custom", "broken"), LAWS, ids=[type(one).__name__ for one, _ in LAWS])
def test_a_broken_law_is_told(custom: aggregate.Custom, broken: str) -> None:
    with pytest.raises((AssertionError, TypeError), match=broken):
        check_aggregate(custom, st.integers(-1000, 1000))
