"""Rows are a pure function of the newest valid versions of documents, and every executor computes the same rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from boiler_beam.oracle import compute
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.plan.explain import explain
from boiler_beam.steps.newest import NewestVersions
from tests.conftest import examples
from tests.helpers import shop, town
from tests.helpers.executors import Outcome, embedded, on_beam, partitioned, placeless, told
from tests.helpers.histories import changes, lines
from tests.helpers.random_views import views
from tests.helpers.strategies import histories

PLAN, TOWN = compile_plan(shop.VIEWS), compile_plan(town.VIEWS)


both_plans = pytest.mark.parametrize(("plan", "is_town"), [(PLAN, False), (TOWN, True)], ids=["shop", "town"])


def assert_right(outcome: Outcome, plan: Plan, table: list[Any]) -> None:
    """Checks that rows and tainted rows equal the oracle's (S5)."""
    truth = compute(plan, changes(table))
    assert outcome.rows == truth.rows
    assert outcome.unknown == truth.unknown


def assert_alike(one: Outcome, other: Outcome) -> None:
    """Checks that two executors compute the same rows, and the same tainted rows."""
    assert one.rows == other.rows
    assert one.unknown == other.unknown
    assert one.tainted == other.tainted
    assert one.possible_members == other.possible_members
    assert one.absent == other.absent


@both_plans
@given(data=st.data())
def test_s4_executors_compute_what_the_oracle_does(plan: Plan, is_town: bool, data: st.DataObject) -> None:
    table = data.draw(histories(is_town=is_town))
    note(f"table = {table!r}")
    one, many = embedded(plan, changes(table)), partitioned(plan, changes(table))
    assert_right(one, plan, table)
    assert_right(many, plan, table)
    assert_alike(many, one)


def test_s6_a_contested_path_is_unknown_where_a_getter_raised_though_an_invalid_document_may_want_it() -> None:
    table = [
        ("guests/1", 1, {"name": "boom"}),
        ("guests/1/comments/1", 1, {"stars": 1, "by": "guests/1"}),
        ("rooms/1/messages/1/comments/1", 1, {"stars": "x"}),
    ]
    for outcome in (embedded(TOWN, changes(table)), partitioned(TOWN, changes(table))):
        assert "latest/1" in outcome.unknown
        assert_right(outcome, TOWN, table)


@both_plans
@given(data=st.data())
def test_s5_nothing_is_tainted_where_no_document_is_invalid(plan: Plan, is_town: bool, data: st.DataObject) -> None:
    table = data.draw(histories(is_invalid=False, is_town=is_town))
    outcome = embedded(plan, changes(table))
    assert not outcome.tainted
    assert not outcome.possible_members


@given(st.data())
def test_s4_whatever_the_view(data: st.DataObject) -> None:
    plan = compile_plan([data.draw(views())])
    table = data.draw(histories(is_town=True))
    note(explain(plan))
    note(f"table = {table!r}")
    one, many = embedded(plan, changes(table)), partitioned(plan, changes(table))
    assert_right(one, plan, table)
    assert_alike(many, one)
    assert codes(many, "claim") == codes(one, "claim")
    assert codes(many, "render") == codes(one, "render")


def readings(table: list[Any], path: str, version: int) -> Iterator[list[Any]]:
    """Returns the history without an invalid document, and with a corrected version of it."""
    yield [event for event in table if event[0] != path]
    if len({repr(event) for event in table if event[:2] == (path, version)}) > 1:
        return  # at equal versions the greater encoding wins (S1), and the correction changes the encoding
    fixed: dict[str, Any] = {
        "tags": {"name": "red"}, "items": {"label": "a"}, "people": {"name": "Bo"}, "orders": {"status": "open"},
        "guests": {"name": "Ann"}, "rooms": {"topic": "u"}, "messages": {"sent": 1}, "notes": {"text": "p"},
        "comments": {"stars": 1}, "config": {"factor": 9, "featured": []},
    }  # fmt: skip
    values = fixed[path.split("/")[-2]]
    yield [(*event[:2], event[2] | values) if event[:2] == (path, version) and event[2] else event for event in table]


@both_plans
@given(data=st.data())
def test_s5_rows_that_hang_on_an_invalid_document_are_tainted(plan: Plan, is_town: bool, data: st.DataObject) -> None:
    table = data.draw(histories(is_town=is_town))
    note(f"table = {table!r}")
    truth, outcome = compute(plan, changes(table)), embedded(plan, changes(table))
    versions = NewestVersions(plan, lambda letter: None)
    versions.add_all(changes(table))
    for documents in versions.types:
        for path, (version, _) in documents.invalid.items():
            for reading in readings(table, path, version):
                other = compute(plan, changes(reading))
                for row in told(plan, truth.unknown | other.unknown, truth.rows | other.rows):
                    assert truth.rows.get(row) == other.rows.get(row) or outcome.is_tainted(plan, row), row


@both_plans
@settings(max_examples=examples(10, 500))
@given(st.data(), st.randoms(use_true_random=False), st.integers(1, 7), st.sampled_from([1, 300]))
def test_s1_order_duplicates_partitions_and_memory_change_nothing(
    plan: Plan, is_town: bool, data: st.DataObject, shuffler: random.Random, partitions: int, limit_bytes: int
) -> None:
    table = data.draw(histories(is_invalid=False, is_town=is_town))
    note(f"table = {table!r}")
    again = [*table, *shuffler.sample(table, len(table) // 2)]
    shuffler.shuffle(again)
    mixed, one = partitioned(plan, changes(again), partitions, limit_bytes), embedded(plan, changes(table))
    assert mixed.rows == one.rows
    assert codes(mixed, "claim") == codes(one, "claim")


def codes(outcome: Outcome, stage: str) -> list[tuple[str, str | None]]:
    """Returns the dead letters of a stage."""
    return sorted((letter.code, letter.path) for letter in outcome.letters if letter.stage == stage)


@pytest.mark.beam
@both_plans
@settings(max_examples=examples(3, 30))
@given(data=st.data())
def test_s4_beam_computes_what_the_embedded_engine_does(
    plan: Plan, is_town: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = data.draw(histories(is_town=is_town))
    note(f"table = {table!r}")
    folder: Path = tmp_path_factory.mktemp("beam")
    beam, one = on_beam(plan, lines(table), folder), embedded(plan, changes(table))
    assert beam.rows == one.rows


S2 = [
    # the case, versions in the order of their arrival -> the name in the row
    ("an invalid version never advances a document", [("tags/1", 1, {"name": "a"}), ("tags/1", 2, {"name": 7})], None),
    ("a newer valid one does", [("tags/1", 2, {"name": 7}), ("tags/1", 3, {"name": "c"})], "c"),
    ("an older one stays behind", [("tags/1", 3, {"name": "c"}), ("tags/1", 2, {"name": "b"})], "c"),
    ("an older deletion, too", [("tags/1", 3, {"name": "c"}), ("tags/1", 2, None)], "c"),
    ("at one version the deletion wins", [("tags/1", 3, None), ("tags/1", 3, {"name": "c"})], ""),
    ("deleted and made again", [("tags/1", 3, None), ("tags/1", 4, {"name": "d"})], "d"),
    ("the greater encoding wins", [("tags/1", 3, {"name": "d"}), ("tags/1", 3, {"name": "c"})], "d"),
]


@pytest.mark.parametrize(("table", "name"), [case[1:] for case in S2], ids=[case[0] for case in S2])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_s2_which_version_stands(table: list[Any], name: str | None, is_reversed: bool) -> None:
    outcome = embedded(PLAN, changes(table[::-1] if is_reversed else table))
    if name is None:
        assert list(outcome.tainted) == ["tag_cards/1"]
    elif name == "":
        assert outcome.rows == {}
    else:
        assert list(outcome.rows) == ["tag_cards/1"]


def test_s1_a_conflict_is_a_dead_letter() -> None:
    outcome = embedded(PLAN, changes([("tags/1", 3, {"name": "d"}), ("tags/1", 3, {"name": "c"})]))
    (letter,) = outcome.letters
    assert (letter.code, letter.stage, letter.version, letter.input) == (
        "version_conflict",
        "newest",
        3,
        '{"name":"c"}',
    )


def test_s6_a_row_whose_getter_raises_is_left_alone() -> None:
    table = [
        ("people/1", 1, {"name": "Ann"}),
        ("items/1", 1, {"label": "boom", "price": 1.0}),
        ("orders/1", 1, {"owner": "people/1", "items": ["items/1"]}),
    ]
    for outcome in (embedded(PLAN, changes(table)), partitioned(PLAN, changes(table))):
        assert outcome.unknown == {"order_cards/1"}
        (letter,) = [letter for letter in outcome.letters if letter.stage == "render"]
        assert letter.path == "order_cards/1"
        assert letter.code == "getter_raised"
        assert placeless(letter.message) == "OrderCard.contents raised ValueError: boom"
        assert letter.message.endswith(': raise ValueError("boom"))')


def test_s10a_a_function_that_raises_makes_the_document_absent_there() -> None:
    table = [("people/1", 1, {"name": "Ann"}), ("orders/1", 1, {"owner": "people/1", "divisor": 0})]
    for outcome in (embedded(PLAN, changes(table)), partitioned(PLAN, changes(table))):
        assert b'"numOrders":0' in outcome.rows["person_cards/1"]
        messages = {placeless(letter.message) for letter in outcome.letters}
        assert messages == {"PersonCard: where= of orders raised ZeroDivisionError: integer division or modulo by zero"}


def outcomes(table: list[Any]) -> list[Outcome]:
    return [embedded(PLAN, changes(table)), partitioned(PLAN, changes(table)), partitioned(PLAN, changes(table), 1)]


def row(outcome: Outcome, path: str) -> Any:
    return json.loads(outcome.rows[path])


def test_s10_a_document_reached_by_two_ways_counts_once() -> None:
    table = [
        ("tags/1", 1, {"name": "red"}),
        ("items/1", 1, {"label": "a", "price": 1.0, "tag": "tags/1"}),
        ("items/2", 1, {"label": "b", "price": 2.0, "tag": "tags/1"}),
        ("people/1", 1, {"name": "Ann"}),
        ("orders/1", 1, {"owner": "people/1", "items": ["items/1", "items/2", "items/1"], "slots": {"l": "items/1"}}),
    ]
    for outcome in outcomes(table):
        assert row(outcome, "tag_cards/1") == {"numOrders": 1, "prices": 3.0, "slotted": ["1"]}
        assert row(outcome, "person_cards/1")["meanPrice"] == 1.5
        assert row(outcome, "person_cards/1")["first"] == ["b", "a"]
        assert row(outcome, "order_cards/1")["contents"] == [["1=a", "2=b"], ["l=a"], [], []]
        assert row(outcome, "item_cards/1") == {"numOrders": 1, "numReports": 0, "owners": ["Ann"]}


S5 = [
    ("a root", ("tags/1", 2, {"name": 7}), {"order_cards/1", "tag_cards/1"}),
    (
        "a required reference",
        ("people/1", 2, {"name": 7}),
        {"order_cards/1", "person_cards/1", "team_cards/x", "item_cards/1"},
    ),
    (
        "a referrer",
        ("orders/1", 2, {"owner": "people/1", "divisor": "x", "items": ["items/1"]}),
        {"order_cards/1", "person_cards/1", "team_cards/x", "item_cards/1", "tag_cards/1"},
    ),
]


@pytest.mark.parametrize(("event", "tainted"), [case[1:] for case in S5], ids=[case[0] for case in S5])
def test_s5_which_rows_an_invalid_document_taints(event: Any, tainted: set[str]) -> None:
    table = [
        ("tags/1", 1, {"name": "red"}),
        ("items/1", 1, {"label": "a", "price": 1.0, "tag": "tags/1"}),
        ("people/1", 1, {"name": "Ann", "team": "x"}),
        ("orders/1", 1, {"owner": "people/1", "items": ["items/1"]}),
        ("config/shop", 1, {"factor": 1}),
        event,
    ]
    for outcome in outcomes(table):
        assert outcome.tainted.keys() == tainted
        assert len(outcome.letters) == 1
