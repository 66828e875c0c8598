"""Keyed steps of a stream, one by one: what they send, as their docstrings say it."""

from __future__ import annotations

from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, root, view_property
from boiler_beam.events import Change, DeadLetter, EncodedRow
from boiler_beam.plan import compile_plan
from boiler_beam.steps.distributed import WireContribution
from boiler_beam.steps.emission import Emitted, emissions, emit, is_deleted, uncertain
from boiler_beam.steps.keyed import KeyedView, Step, steps_of
from boiler_beam.steps.keyed.documents import DocumentHead, take_version
from boiler_beam.steps.keyed.joins import PathCount
from boiler_beam.steps.keyed.messages import (
    CandidateDelta,
    DistinctDelta,
    DocumentState,
    FirstValues,
    MembershipDelta,
    Message,
    RankedValuesDelta,
    SubscriptionDelta,
    ValueCountDelta,
)
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.row import Copy
from tests.helpers import town
from tests.helpers.histories import changes
from tests.helpers.network import StoredCell


class Item(bb.DomainModel, collection="items"):
    price: int


class Line(bb.DomainModel, collection="lines"):
    item: Ref[Item]


class Order(bb.DomainModel, collection="orders"):
    lines: list[Ref[Line]]


class Receipt(bb.ViewModel, collection="receipts"):
    class Store(bb.Store):
        order: Order = root(Order)
        lines: dict[str, Line] = reference("order.lines")
        items: dict[str, Item] = reference("lines.item")

    store: Store
    total = aggregate.sum("items", of="price")
    prices = aggregate.count_distinct("items", of="price")
    highest = aggregate.max("items", of="price")

    @view_property
    def number(self) -> int:
        return len(self.store.lines)


VIEW = KeyedView(compile_plan([Receipt]))
ITEMS, LINES = VIEW.by_name["items"], VIEW.by_name["lines"]
TOTAL, PRICES, HIGHEST = (VIEW.view.aggregate_indexes[name] for name in ("total", "prices", "highest"))


class Sent:
    """Takes what a step sends."""

    def __init__(self, label: str, view: KeyedView | None = None) -> None:
        self.messages: list[Message] = []
        self.letters: list[DeadLetter] = []
        self.step: Step = steps_of(view or VIEW, self)[label]
        self.cell = StoredCell(self.step.number_of_logs)

    def count_documents(self, path: str, number: int) -> None:
        pass

    def send(self, message: Message) -> None:
        self.messages.append(message)

    def emit(self, row: EncodedRow) -> None:
        raise AssertionError("no row is rendered here")

    def leave_unchanged(self, path: str) -> None:
        raise AssertionError("no row is rendered here")

    def refuse(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def take(self, key: Key, message: Change | Message) -> list[Any]:
        """What the step sends on a message."""
        self.step.take(self.cell, key, message)
        taken, self.messages = self.messages, []
        return taken

    def empty_since(self) -> int | None:
        return self.step.empty_since(self.step.heads.read(self.cell), self.cell)


def state(sequence: int, price: int, fields: bytes | None = None) -> DocumentState:
    return DocumentState(sequence, WireContribution(((TOTAL, price),)), fields, sequence)


def test_s10_a_document_that_two_paths_lead_to_is_had_once() -> None:
    sent, key = Sent("items/PathCount"), Key("o1", "items/i1")

    def candidate(weight: int, one: DocumentState) -> list[Any]:
        taken = sent.take(key, CandidateDelta(ITEMS.index, "o1", "items/i1", weight, one, 7))
        return [[(value, times) for _, value, times in message.values] for message in taken]

    cheap, dear = state(1, 5), state(2, 9)
    assert candidate(1, cheap) == [[(5, 1)]]
    assert candidate(1, cheap) == [], "the second path"
    assert candidate(-1, cheap) == [], "one is left"
    assert candidate(1, dear) == [[(5, -1), (9, 1)]], "the newer state is current, while the old one still leaves"
    assert candidate(-1, cheap) == []
    assert candidate(-1, dear) == [[(9, -1)]]
    assert sent.cell.head is None
    assert candidate(-1, dear) == [], "it leaves before it comes"
    assert candidate(1, dear) == []
    assert sent.cell.head is None


def test_s10_a_path_may_leave_before_it_comes_without_the_fields() -> None:
    """What is taken back carries no fields, and is never what a row has."""
    sent = Sent("items/PathCount")

    def candidate(weight: int, sequence: int, fields: bytes | None) -> bytes | None:
        message = CandidateDelta(ITEMS.index, "o1", "items/i1", weight, state(sequence, 5, fields), 7)
        sent.take(Key("o1", "items/i1"), message)
        head: PathCount = sent.step.heads.read(sent.cell)
        return None if head.sent is None else head.sent.fields

    assert candidate(-1, 1, None) is None
    assert candidate(2, 1, b"{}") == b"{}"
    assert candidate(1, 1, b"{}") == b"{}"
    assert candidate(-1, 2, None) == b"{}", "that of a newer state, which is not there yet"
    assert candidate(2, 2, b"[]") == b"[]"
    assert candidate(-1, 1, None) == b"[]", "a path to the older state is left"
    assert candidate(-1, 2, None) == b"{}"


def test_a_join_answers_and_takes_back() -> None:
    sent, key = Sent("lines/Join"), Key("lines/l1")

    def subscribe(weight: int, version: int) -> list[Any]:
        return sent.take(key, SubscriptionDelta(LINES.index, "lines/l1", "o1", weight, version))

    (answer,) = subscribe(1, 7)
    assert (answer.row, answer.weight, answer.old) == ("o1", 1, None)
    assert answer.new.fields is None, "missing is an answer, too (S8)"
    (line,) = changes([("lines/l1", 8, {"item": "items/i1"})])
    subscription, came = sent.take(key, line)
    assert isinstance(subscription, SubscriptionDelta)
    assert (subscription.key, subscription.weight) == ("items/i1", 1)
    assert (came.old, came.new.sequence, came.new.fields) == (answer.new.sequence, 8, bytes(line.fields))
    unsubscription, left = subscribe(-1, 9)
    assert (unsubscription.key, unsubscription.weight) == ("items/i1", -1)
    assert (left.weight, left.old, left.new) == (1, 8, None), "it leaves: the row may be forgotten later (S3)"
    assert sent.empty_since() is None, "the document is there"
    assert sent.take(key, changes([("lines/l1", 9, None)])[0]) == []
    assert sent.empty_since() == 9


def test_s9_a_sequence_is_never_below_the_version_nor_the_last_one() -> None:
    letters: list[Any] = []
    head = DocumentHead()
    history = [
        ("items/i1", 5, {"price": 1}),
        ("items/i1", 5, {"price": 2}),
        ("items/i1", 5, None),
        ("items/i1", 40, {"price": 3}),
    ]
    sequences = []
    for change in changes(history):
        take_version(ITEMS, head, change, 0, letters.append)
        sequences.append(head.sequence)
    assert sequences == [5, 6, 7, 40]
    assert [letter.code for letter in letters] == ["version_conflict"]


def test_s3_what_is_older_than_the_horizon_is_refused_where_nothing_is_known() -> None:
    letters: list[Any] = []
    old, new = changes([("items/i1", 5, {"price": 1}), ("items/i1", 10, {"price": 2})])
    head = DocumentHead()
    assert not take_version(ITEMS, head, old, 10, letters.append)
    assert [letter.code for letter in letters] == ["too_old"]
    assert take_version(ITEMS, head, new, 10, letters.append)
    assert (list(head.keys), head.state(ITEMS).version) == (["items/i1"], 10)
    assert not take_version(ITEMS, head, new, 10, letters.append), "a duplicate"


def test_a_document_is_sent_again_only_where_a_row_depends_on_what_changed() -> None:
    """No getter reads an item: its price counts, and nothing else."""
    assert not ITEMS.planned.carries_fields
    head = DocumentHead()
    history = changes([
        ("items/i1", 1, {"price": 1, "name": "a"}), ("items/i1", 2, {"price": 1, "name": "b"}),
        ("items/i1", 3, {"price": 2, "name": "b"}),
    ])  # fmt: skip
    assert [take_version(ITEMS, head, change, 0, print) for change in history] == [True, False, True]


class PriceCount(bb.ViewModel, collection="price_counts"):
    class Store(bb.Store):
        items: dict[str, Item] = group(Item, by=("price", "doc_id"))

    store: Store
    number = aggregate.count("items")


def test_a_member_of_a_group_by_several_fields_is_sent_again_only_where_its_key_changed() -> None:
    """What was sent is read back from bytes, where a tuple is a list."""
    view = KeyedView(compile_plan([PriceCount]))
    sent = Sent("items/Documents", view)
    history = changes([("items/i1", version, {"price": price}) for version, price in ((1, 1), (2, 1), (3, 2))])
    found = [[(one.row, one.member) for one in sent.take(Key("items/i1"), change)] for change in history]
    assert found == [[("1,i1", (1, [1, "i1"]))], [], [("1,i1", (-1, [1, "i1"])), ("2,i1", (1, [2, "i1"]))]]


def test_s15_where_a_rollback_forgets_what_was_written_an_equal_row_is_emitted_again() -> None:
    """The sink decides whether it changed: it may hold what came between, and was rolled back. Time tells which is newer."""
    first = emit(None, 7, b"{}", 0, 50)
    assert first is not None
    again = emit(first, 9, b"{}", 0, 60)
    assert again is not None
    assert (first.version, first.seq, again.version, again.seq) == (7, 50, 9, 60)
    third = emit(again, 8, b"{}", 0, 55)
    assert third is not None
    assert (third.version, third.seq) == (9, 61), "never below itself"
    assert emit(None, 7, None, 0, 50) is None


def test_s6_s16_what_is_emitted_of_a_row_s_copies() -> None:
    paths = compile_plan([town.Profile]).views[0].paths
    emitted: dict[str, Emitted] = {}

    def told(*copies: Copy, version: int) -> list[tuple[str, bytes | None, int]]:
        found = emissions(emitted, paths, copies, version, epoch=0)
        return [(path, fields, one.version) for path, _, one, fields in found]

    one, other = "nicks/a/about/profile", "nicks/b/about/profile"
    assert told(Copy(one, b"{}"), Copy(other, b"{}"), version=1) == [(one, b"{}", 1), (other, b"{}", 1)]
    assert told(Copy(one, b"{}"), Copy(other, None), version=2) == [], "the other one is unknown: it stays"
    assert told(Copy(paths.wildcard_of(one), None), version=2) == [], "all copies are unknown: they stay"
    assert told(Copy(one, b"[]"), version=3) == [(one, b"[]", 3), (other, None, 3)]
    assert emitted.keys() == {one, other}, "what stood for unknown copies is forgotten"
    emitted[one] = uncertain(emitted[one])
    assert told(Copy(one, b"[]"), version=4) == [(one, b"[]", 4)], "the sink holds something else"
    assert told(version=5) == [(one, None, 5)]
    assert told(version=6) == []
    assert all(map(is_deleted, emitted.values()))
    unseen = "nicks/c/about/profile"
    assert told(Copy(unseen, None), version=7) == []
    assert not is_deleted(emitted[unseen]), "nobody knows what the sink holds there"
    assert told(version=8) == [(unseen, None, 8)]


@pytest.mark.parametrize(
    ("before", "weight", "sent"), [(0, 1, 1), (1, 1, 0), (3, -2, 0), (2, -2, -1), (-1, 1, 0), (-1, 2, 1)]
)
def test_a_value_counts_once(before: int, weight: int, sent: int) -> None:
    step, key = Sent("prices/Distinct"), Key("o1", b"1")
    if before:
        step.take(key, ValueCountDelta(PRICES, "o1", b"1", before, 6))
    taken = step.take(key, ValueCountDelta(PRICES, "o1", b"1", weight, 7))
    assert taken == ([DistinctDelta(PRICES, "o1", sent, 7)] if sent else [])
    assert (step.cell.head is None) is (before + weight == 0)


def test_a_ranking_sends_its_first_values_when_they_change() -> None:
    step, told = Sent("highest/Ranking"), []
    for value, weight, version in ((3, 1, 10), (7, 1, 4), (5, 1, 5), (7, -1, 30)):
        message = RankedValuesDelta(HIGHEST, "o1", f"items/{value}", [(value, weight)], version)
        for found in step.take(Key("o1"), message):
            assert isinstance(found, FirstValues)
            told.append((found.values, found.sequence, found.version))
    assert told == [([3], 10, 10), ([7], 11, 4), ([5], 30, 30)]


def test_values_go_to_the_steps_that_count_or_order_them() -> None:
    sent = Sent("items/PathCount")
    one = DocumentState(1, WireContribution(((TOTAL, 5), (PRICES, 5), (HIGHEST, 5))), None, 1)
    taken = sent.take(Key("o1", "items/i1"), CandidateDelta(ITEMS.index, "o1", "items/i1", 1, one, 7))
    counted, ranked, member = taken
    assert (type(counted), counted.aggregate_index, counted.weight) == (ValueCountDelta, PRICES, 1)
    assert (type(ranked), ranked.aggregate_index, ranked.values) == (RankedValuesDelta, HIGHEST, [(5, 1)])
    assert (type(member), member.values) == (MembershipDelta, [(TOTAL, 5, 1)])
