"""The embedded engine: whatever the batches, states and kills, what stands is what the oracle computes (S4, S13, S14, S20)."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from boiler_beam.engine.follow import Settings
from boiler_beam.engine.state import SqliteState, sqlite
from boiler_beam.oracle import Truth, compute
from boiler_beam.plan import Plan, compile_plan
from tests.helpers import shop, town
from tests.helpers.engine import Batches, WatchedSink, cut, followed
from tests.helpers.executors import told
from tests.helpers.histories import changes
from tests.helpers.proofs import EMBEDDED, assert_right, prove
from tests.helpers.random_views import published, sources, view_of
from tests.helpers.strategies import histories

PLANS = {"shop": compile_plan(shop.VIEWS), "town": compile_plan(town.VIEWS)}
both_worlds = pytest.mark.parametrize("world", PLANS)
seeds = st.integers(0, 999)


@pytest.mark.parametrize("executor", EMBEDDED)
@given(source=sources(), table=histories(is_town=True), seed=seeds)
def test_any_view_any_history(executor: str, source: str, table: list[Any], seed: int) -> None:
    """The profile's number of histories for each way: 4 * 25 by `make check`, 4 * 500 by `make check-all`."""
    prove(executor, source, table, seed)


@given(texts=st.lists(sources(), min_size=2, max_size=3), table=histories(is_town=True), seed=seeds)
def test_views_that_come_go_and_change_places(texts: list[str], table: list[Any], seed: int) -> None:
    """Whatever plan a view is in, the state says what it knows (S22), be its log rewritten always or never."""
    order, sink = random.Random(seed), WatchedSink()
    rewritten = mock.patch.object(sqlite, "REWRITTEN_FROM_BYTES", order.choice([-1, 1_000, 1 << 40]))
    places = enumerate(texts)
    views = [published(view_of(one.replace("out/", f"out{n}/").replace("any/", f"any{n}/"))) for n, one in places]
    with tempfile.TemporaryDirectory() as folder, rewritten:
        for life in range(3):
            if life:  # the first one reads all collections
                views = order.sample(views, order.randint(1, len(views))) if order.random() < 0.5 else views[::-1]
            plan = compile_plan(views)
            state = SqliteState(str(Path(folder, "state.db")))
            source = Batches(f"part {life}", cut(changes(table[life::3]), order))
            outcome, _ = followed(plan, [source], sink, state, Settings(coalesce_seconds=0, prune="all"))
            state.close()
    assert_right(plan, outcome, table)


@both_worlds
@given(data=st.data(), executor=st.sampled_from(list(EMBEDDED)), seed=seeds)
def test_a_whole_plan(world: str, data: st.DataObject, executor: str, seed: int) -> None:
    table = data.draw(histories(is_town=world == "town"))
    note(f"table = {table!r}")
    assert_right(PLANS[world], EMBEDDED[executor](PLANS[world], table, random.Random(seed)), table)


class Snapshot(Batches):
    """Looks that nothing is written while it is read."""

    def __init__(self, batches: list[list[Any]], sink: WatchedSink) -> None:
        super().__init__("snapshot", batches)
        self.sink = sink

    def follow(self, position: str | None) -> Iterator[Any]:
        for batch in super().follow(position):
            yield batch
            assert not self.sink.history


class Stream(Batches):
    """Looks at what stands when it begins."""

    def __init__(self, plan: Plan, sink: WatchedSink, truth: Truth) -> None:
        super().__init__("stream", [], is_bounded=False)
        self.plan, self.sink, self.truth = plan, sink, truth

    def follow(self, position: str | None) -> Iterator[Any]:
        held = {row.path: row.fields or b"" for row in self.sink.history}
        assert len(held) == len(self.sink.history), "each row once"
        assert told(self.plan, self.truth.unknown, held) == told(self.plan, self.truth.unknown, self.truth.rows)
        yield from super().follow(position)


@both_worlds
@given(data=st.data(), seed=seeds)
def test_gating_no_row_before_the_snapshot_is_in_then_each_row_once(world: str, data: st.DataObject, seed: int) -> None:
    plan, order = PLANS[world], random.Random(seed)
    table = data.draw(histories(is_town=world == "town"))
    sink, truth = WatchedSink(), compute(plan, changes(table))
    followed(plan, [Snapshot(cut(changes(table), order), sink), Stream(plan, sink, truth)], sink)
