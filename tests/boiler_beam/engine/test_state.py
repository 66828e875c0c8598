"""A state in a file: its log is rewritten when most of it no longer counts; it can be looked at while it is used."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.connectors import open_sink
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.state import SqliteState, sqlite
from boiler_beam.engine.state.base import StateUpdate
from boiler_beam.errors import UsageError
from boiler_beam.events import Change
from boiler_beam.plan import compile_plan
from tests.helpers import town
from tests.helpers.histories import changes

PLAN = compile_plan(town.VIEWS)


def guests(version: int, number: int = 3) -> list[Change]:
    table: list[Any] = [(f"guests/{one}", version, {"name": f"Ann {version}", "nick": "a"}) for one in range(number)]
    return changes([*table, ("rooms/1", version, {"members": ["guests/1", "guests/2"], "topic": f"{version}"})])


def commit(state: SqliteState, engine: IncrementalEngine, batch: list[Change]) -> None:
    engine.observe(batch)
    for view in engine.views:
        list(view.rows.take_dirty())
    state.facts["newest"] = batch[-1].version
    state.commit(StateUpdate(), engine)


def opened(path: Path) -> tuple[SqliteState, IncrementalEngine]:
    state, engine = SqliteState(str(path)), IncrementalEngine(PLAN, lambda letter: None)
    state.open(engine)
    return state, engine


def known(engine: IncrementalEngine) -> Any:
    """All that a program must find again."""
    documents = [{path: one.record(path) for path in (*one.documents, *one.deleted)} for one in engine.versions.types]
    rows = [{row: (one.version, one.emitted) for row, one in view.rows.records.items()} for view in engine.views]
    paths = [{path: (one.emitted, one.fields) for path, one in view.rows.claimed.items()} for view in engine.views]
    return documents, rows, paths


@pytest.mark.parametrize("rewritten_from", [-1, 0, 1 << 40])
def test_s20_a_program_that_is_started_again_finds_what_was_committed(
    tmp_path: Path, rewritten_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "REWRITTEN_FROM_BYTES", rewritten_from)
    state, engine = opened(tmp_path / "state.db")
    with closing(state):
        for version in range(1, 20):
            commit(state, engine, guests(version))
        commit(state, engine, changes([("guests/0", 20, None)]))
        before = known(engine)
    again, other = opened(tmp_path / "state.db")
    again.close()
    assert known(other) == before


def test_the_log_does_not_grow_with_the_number_of_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "REWRITTEN_FROM_BYTES", 0)
    state, engine = opened(tmp_path / "state.db")
    sizes = []
    with closing(state):
        for version in range(1, 200):
            commit(state, engine, guests(version))
            sizes.append(state.database.execute("SELECT sum(length(batch)) FROM log").fetchone()[0])
    assert max(sizes[100:]) <= max(sizes[:100]) * 1.1


def test_what_the_state_holds_is_shown_while_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state, engine = opened(path)
    with closing(state):
        commit(state, engine, guests(7))
        with closing(SqliteState(str(path), is_read_only=True)) as other:
            assert other.facts["newest"] == 7
            assert other.views.keys() == {view.name for view in PLAN.views}
        commit(state, engine, guests(8))


def test_a_batch_that_is_damaged_is_a_problem(tmp_path: Path) -> None:
    state, engine = opened(tmp_path / "state.db")
    with closing(state):
        commit(state, engine, guests(7))
        assert list(state.problems()) == []
        state.database.execute("UPDATE log SET batch = x'c1'")
        assert [line.partition(":")[0] for line in state.problems()] == ["log"]


def test_s3_what_was_deleted_before_the_horizon_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state, engine = opened(path)
    with closing(state):
        commit(state, engine, guests(7))
        commit(state, engine, changes([("guests/0", 8, None), ("guests/1", 90, None)]))
    with closing(SqliteState(str(path))) as state:
        assert state.compact(50) > 0
    again, other = opened(path)
    again.close()
    deleted = {path for one in other.versions.types for path in one.deleted}
    assert deleted == {"guests/1"}
    assert again.facts["horizon"] == 50


def test_a_state_is_no_file_of_rows_nor_the_reverse(tmp_path: Path) -> None:
    path, rows = tmp_path / "state.db", tmp_path / "rows.db"
    state, engine = opened(path)
    with closing(state):
        commit(state, engine, guests(1))
    with open_sink(f"sqlite:{rows}").stream([PLAN.views[0].target]):
        pass
    before = path.read_bytes(), rows.read_bytes()
    with (
        pytest.raises(UsageError, match="expected a file of rows, got the state of a stream; fix: name another file"),
        open_sink(f"sqlite:{path}").stream([PLAN.views[0].target]),
    ):
        raise AssertionError("it was opened")
    with pytest.raises(UsageError, match="expected a state, got: a database of something else"):
        SqliteState(str(rows))
    assert (path.read_bytes(), rows.read_bytes()) == before
