"""Steps of a stream, one by one: what they send, as their docstrings say it."""

from __future__ import annotations

from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, reference, root
from boiler_beam.plan import compile_plan
from boiler_beam.steps.messages import Role
from boiler_beam.steps.stream import CountWays, Distinct, Down, DownCell, StreamPlan, Ways
from boiler_beam.steps.stream.messages import State
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


PLAN = StreamPlan(compile_plan([Receipt]))
ITEMS = next(number for number, (_, name) in enumerate(PLAN.places) if name == "items")


class Sent:
    """Takes what a step sends: of `shown` the old and new sequence, and what aggregates get."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def shown(self, edge: int, row: str, path: str, weight: int, old: Any, new: Any, parts: Any, *_: Any) -> None:
        self.messages.append([(value, times) for _, value, times in parts])

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


@pytest.mark.parametrize(
    ("before", "weight", "sent"), [(0, 1, 1), (1, 1, 0), (3, -2, 0), (2, -2, -1), (-1, 1, 0), (-1, 2, 1)]
)
def test_a_value_counts_once(before: int, weight: int, sent: int) -> None:
    out = Sent()
    after = Distinct(out).counted(before, ITEMS, 0, "o1", b'"Ann"', weight, 7)  # type: ignore[arg-type]
    assert after == before + weight
    assert out.take() == ([[(None, sent)]] if sent else [])
