"""The embedded engine: whatever the batches, states and kills, what stands is what the oracle computes (S4, S13, S14, S20)."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from boiler_beam.engine.follow import Settings
from boiler_beam.engine.state import SqliteState, stored
from boiler_beam.oracle import Truth, compute
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.plan.explain import explain
from tests.helpers import shop, town
from tests.helpers.engine import Batches, WatchedSink, cut, followed, lived
from tests.helpers.executors import Outcome, told
from tests.helpers.histories import changes
from tests.helpers.random_views import views
from tests.helpers.strategies import histories

PLANS = {"shop": compile_plan(shop.VIEWS), "town": compile_plan(town.VIEWS)}
both_worlds = pytest.mark.parametrize("world", PLANS)
seeds = st.integers(0, 999).map(random.Random)


def assert_right(plan: Plan, outcome: Outcome, table: list[Any]) -> None:
    truth = compute(plan, changes(table))
    assert told(plan, truth.unknown, outcome.rows) == told(plan, truth.unknown, truth.rows)


@given(st.data(), seeds)
def test_any_view_any_history_any_batches(data: st.DataObject, order: random.Random) -> None:
    plan = compile_plan([data.draw(views())])
    table = data.draw(histories(is_town=True))
    note(explain(plan))
    note(f"table = {table!r}")
    outcome, _ = followed(plan, [Batches("all", cut(changes(table), order))])
    assert_right(plan, outcome, table)


@given(st.data(), seeds)
def test_any_view_any_history_hardly_any_memory(data: st.DataObject, order: random.Random) -> None:
    plan = compile_plan([data.draw(views())])
    table = data.draw(histories(is_town=True))
    note(explain(plan))
    note(f"table = {table!r}")
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SqliteState(str(Path(folder, "state.db")))) as state,
        mock.patch.object(stored, "_HOT", 1),
    ):
        outcome, _ = followed(plan, [Batches("all", cut(changes(table), order))], state=state)
    assert_right(plan, outcome, table)


@given(st.data(), seeds, st.integers(0, 4))
def test_any_view_any_history_any_kills(data: st.DataObject, order: random.Random, deaths: int) -> None:
    plan = compile_plan([data.draw(views())])
    table = data.draw(histories(is_town=True))
    note(explain(plan))
    note(f"table = {table!r}")
    again = [*table, *order.sample(table, len(table) // 2)]
    with tempfile.TemporaryDirectory() as folder:
        source = Batches("all", cut(changes(again), order))
        outcome, _ = lived(plan, [source], Path(folder, "state.db"), order, deaths)
    assert_right(plan, outcome, table)


@both_worlds
@given(data=st.data(), order=seeds, deaths=st.integers(0, 3))
def test_a_snapshot_and_a_stream(world: str, data: st.DataObject, order: random.Random, deaths: int) -> None:
    plan = PLANS[world]
    table = data.draw(histories(is_town=world == "town"))
    note(f"table = {table!r}")
    place = order.randint(0, len(table))
    snapshot = Batches("snapshot", cut(changes(table[:place]), order))
    stream = Batches("stream", cut(changes(table[place:]), order), is_bounded=False)
    with tempfile.TemporaryDirectory() as folder:
        outcome, _ = lived(plan, [snapshot, stream], Path(folder, "state.db"), order, deaths)
    assert_right(plan, outcome, table)


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
@given(data=st.data(), order=seeds)
def test_gating_no_row_before_the_snapshot_is_in_then_each_row_once(
    world: str, data: st.DataObject, order: random.Random
) -> None:
    plan = PLANS[world]
    table = data.draw(histories(is_town=world == "town"))
    sink, truth = WatchedSink(), compute(plan, changes(table))
    followed(plan, [Snapshot(cut(changes(table), order), sink), Stream(plan, sink, truth)], sink)


@both_worlds
@given(data=st.data(), order=seeds, deaths=st.integers(0, 3))
def test_whole_commits(world: str, data: st.DataObject, order: random.Random, deaths: int) -> None:
    """S19: however late changes come within what is allowed, the rows end at the oracle's."""
    plan = PLANS[world]
    table = data.draw(histories(is_town=world == "town"))
    note(f"table = {table!r}")
    shuffled = sorted(table, key=lambda event: event[1] + 2 * order.random())
    settings = Settings(coalesce_seconds=0, lateness_seconds=2e-6)
    with tempfile.TemporaryDirectory() as folder:
        source = Batches("all", cut(changes(shuffled), order))
        outcome, _ = lived(plan, [source], Path(folder, "state.db"), order, deaths, settings)
    assert_right(plan, outcome, table)
