"""The streaming pipeline: for any view and history its rows equal the oracle's, also with consistency `commit` (S19)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from tests.conftest import examples
from tests.helpers import shop, town
from tests.helpers.executors import streamed_on_beam, told
from tests.helpers.histories import changes, lines
from tests.helpers.proofs import prove
from tests.helpers.random_views import sources
from tests.helpers.strategies import histories

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

PLANS = {"shop": compile_plan(shop.VIEWS), "town": compile_plan(town.VIEWS)}
consistencies = st.sampled_from(["eventual", "commit"])


@pytest.mark.parametrize("world", PLANS)
@settings(max_examples=examples(2, 10))
@given(data=st.data(), consistency=consistencies, order=st.integers(0, 99).map(random.Random))
def test_a_history_in_any_order(
    world: str, data: st.DataObject, consistency: str, order: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = PLANS[world]
    table = data.draw(histories(is_town=world == "town"))
    note(f"table = {table!r}")
    again = [*table, *order.sample(table, len(table) // 2)]
    order.shuffle(again)
    truth = compute(plan, changes(table))
    outcome = streamed_on_beam(plan, lines(again), tmp_path_factory.mktemp("beam"), consistency=consistency)
    assert told(plan, truth.unknown, outcome.rows) == told(plan, truth.unknown, truth.rows)


@settings(max_examples=examples(3, 50))
@given(sources(), histories(is_town=True), st.integers(0, 999))
def test_any_view_any_history(source: str, table: list[Any], seed: int) -> None:
    prove("beam", source, table, seed)


def test_a_second_run_takes_the_next_generation_and_prunes(tmp_path: Path) -> None:
    plan = compile_plan([shop.TagCard])
    table = [("tags/1", 1, {"name": "red"}), ("tags/2", 1, {"name": "blue"})]
    assert set(streamed_on_beam(plan, lines(table), tmp_path).rows) == {"tag_cards/1", "tag_cards/2"}
    assert set(streamed_on_beam(plan, lines(table[:1]), tmp_path).rows) == {"tag_cards/1"}
    text = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [line for line in text if '"generation":2' in line and "tag_cards/1" in line]


def test_s6_a_row_that_can_not_be_told_is_not_pruned(tmp_path: Path) -> None:
    plan = compile_plan([shop.OrderCard])
    table = [
        ("people/1", 1, {"name": "Ann"}),
        ("items/1", 1, {"label": "a", "price": 1.0}),
        ("orders/1", 1, {"owner": "people/1", "items": ["items/1"]}),
    ]
    before = streamed_on_beam(plan, lines(table), tmp_path).rows["order_cards/1"]
    boom = [*table, ("items/1", 2, {"label": "boom", "price": 1.0})]
    after = streamed_on_beam(plan, lines(boom[1:2] + boom[3:] + boom[:1] + boom[2:3]), tmp_path)
    assert after.rows["order_cards/1"] == before
