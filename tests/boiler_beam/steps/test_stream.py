"""Steps of the in-process engine, one by one: what they send, as their docstrings say it."""

from __future__ import annotations

from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, reference, root, view_property
from boiler_beam.plan import compile_plan
from boiler_beam.steps.stream import CountWays, Distinct, Down, DownCell, StreamPlan, Up, UpCell, Ways
from boiler_beam.steps.stream.memory import MemoryDocuments, MemoryWeights
from boiler_beam.steps.stream.messages import Role, State
from boiler_beam.steps.stream.row import emit
from tests.helpers.histories import changes


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

    @view_property
    def number(self) -> int:
        return len(self.store.lines)


PLAN = StreamPlan(compile_plan([Receipt]))
ITEMS = next(number for number, (_, name) in enumerate(PLAN.places) if name == "items")


class Sent:
    """Takes what a step sends: of `shown` the old and new sequence, and what aggregates get."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def shown(self, edge: int, row: str, path: str, weight: int, old: Any, new: Any, parts: Any, *_: Any) -> None:
        self.messages.append([(value, times) for _, value, times in parts])
        self.last = row, weight, old, new

    def take(self) -> list[Any]:
        taken, self.messages = self.messages, []
        return taken


def state(sequence: int, price: int) -> State:
    return State(sequence, Role(ITEMS, [(0, price)], [], []), b"", sequence)


def test_s10_a_document_that_two_ways_lead_to_is_had_once() -> None:
    sent, cell = Sent(), Ways()
    step = CountWays(PLAN, sent)  # type: ignore[arg-type]

    def candidate(weight: int, one: State) -> list[Any]:
        step.candidate(cell, ITEMS, "o1", "items/i1", weight, one, 7)
        return sent.take()

    cheap, dear = state(1, 5), state(2, 9)
    assert candidate(1, cheap) == [[(5, 1)]]
    assert candidate(1, cheap) == [], "the second way"
    assert candidate(-1, cheap) == [], "one is left"
    assert candidate(1, dear) == [[(5, -1), (9, 1)]], "the newer state stands, while the old one still leaves"
    assert candidate(-1, cheap) == []
    assert candidate(-1, dear) == [[(9, -1)]]
    assert not cell.states
    assert candidate(-1, dear) == [], "it leaves before it comes"
    assert candidate(1, dear) == []
    assert not cell.states


def test_s10_a_way_may_leave_before_it_comes_without_the_fields() -> None:
    """What is taken back carries no fields, and is never what a row has."""
    sent, cell = Sent(), Ways()
    step = CountWays(PLAN, sent)  # type: ignore[arg-type]

    def candidate(weight: int, sequence: int, fields: bytes) -> State | None:
        one = state(sequence, 5)
        step.candidate(cell, ITEMS, "o1", "items/i1", weight, State(sequence, one.role, fields, sequence), 7)
        return cell.told

    assert candidate(-1, 1, b"") is None
    told = candidate(2, 1, b"{}")
    assert told is not None
    assert told.fields == b"{}"
    assert candidate(1, 1, b"{}") == told
    assert candidate(-1, 2, b"") == told, "that of a newer state, which is not there yet"
    told = candidate(2, 2, b"[]")
    assert told is not None
    assert told.fields == b"[]"


def test_up_answers_and_takes_back() -> None:
    sent, lines = Sent(), ITEMS - 1
    step, cell = Up(PLAN, sent), UpCell(MemoryWeights(), MemoryDocuments())
    there = State(3, Role(lines, [], [], []), b"{}", 3)
    step.wanted(cell, lines, "lines/l1", "o1", 1, 7)
    row, weight, old, new = sent.last
    assert (row, weight, old, new.role) == ("o1", 1, None, None), "missing is an answer, too (S8)"
    step.lies(cell, lines, "lines/l1", "lines/l1", None, there, 8)
    assert sent.last == ("o1", 1, new, there)
    step.wanted(cell, lines, "lines/l1", "o1", -1, 9)
    assert sent.last == ("o1", 1, there, None), "it goes: the row may be forgotten later (S3)"
    assert list(cell.rows.items()) == []


def test_s9_a_sequence_is_never_below_the_version_nor_the_last_one() -> None:
    letters: list[Any] = []
    down, cell = Down(PLAN, Sent(), letters.append), DownCell()  # type: ignore[arg-type]
    (family,) = PLAN.plan.families_of("items/i1")
    history = [
        ("items/i1", 5, {"price": 1}),
        ("items/i1", 5, {"price": 2}),
        ("items/i1", 5, None),
        ("items/i1", 40, None),
    ]
    sequences = []
    for change in changes(history):
        down.observed(cell, family, change)
        sequences.append(cell.sequence)
    assert sequences == [5, 6, 7, 40]
    assert [letter.code for letter in letters] == ["version_conflict"]


def test_s15_where_a_rollback_forgets_what_was_written_an_equal_row_is_given_again() -> None:
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


@pytest.mark.parametrize(
    ("before", "weight", "sent"), [(0, 1, 1), (1, 1, 0), (3, -2, 0), (2, -2, -1), (-1, 1, 0), (-1, 2, 1)]
)
def test_a_value_counts_once(before: int, weight: int, sent: int) -> None:
    out = Sent()
    after = Distinct(out).counted(before, ITEMS, 0, "o1", b'"Ann"', weight, 7)  # type: ignore[arg-type]
    assert after == before + weight
    assert out.take() == ([[(None, sent)]] if sent else [])
