"""Cells in a table: small ones whole in memory, large ones item by item; whatever happens between, a dict."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.engine.state import table as module
from boiler_beam.engine.state.table import CREATE, Kind, StoredMap, StoredRanking, Table, space_of

items = st.sampled_from([f"i{number:02}" for number in range(12)])
operations = st.lists(
    st.one_of(
        st.tuples(st.just("set"), items, st.one_of(st.none(), st.integers(0, 9))),
        st.tuples(st.just("get"), items, st.none()),
        st.tuples(st.sampled_from(["all", "commit", "commit", "leave", "roll back"]), st.none(), st.none()),
    ),
    max_size=40,
)


@contextmanager
def opened(*, is_new: bool) -> Iterator[Table]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute(CREATE)
        yield Table(database, is_all_known=is_new)


@given(operations, st.booleans())
def test_a_stored_map_is_a_dict(operations: list[Any], is_new: bool) -> None:
    kind, model, committed = Kind(1, int), dict[str, int](), dict[str, int]()

    def made() -> StoredMap:
        return StoredMap(table, space_of(1, 1), b"cell", kind, 0)

    with pytest.MonkeyPatch.context() as small, opened(is_new=is_new) as table:
        small.setattr(module, "_SMALL", 3)
        stored = made()
        for what, item, value in operations:
            if what == "set":
                stored.set(item, value)
                model.pop(item, None)
                model |= {} if value is None else {item: value}
            elif what == "get":
                assert stored.get(item, "nothing") == model.get(item, "nothing")
            elif what == "all":
                assert list(stored.ranked()) == sorted(model.items())
                assert dict(stored.every()) == model
            else:
                if what == "commit":
                    table.write([], [])
                    table.settle()
                    committed = dict(model)
                else:  # the cell leaves the memory, when it is committed or when that is undone
                    if what == "leave":
                        table.write([], [])
                        table.settle()
                        committed = dict(model)
                    table.changed, table.is_all_known = [], False
                    stored, model = made(), dict(committed)
        assert dict(stored.every()) == model


def test_s12_the_first_of_a_large_ranking_are_read_without_the_others() -> None:
    with opened(is_new=False) as table:
        ranking = StoredRanking(table, space_of(1, 1), b"cell", Kind(2, tuple[int, Any], is_ranked=True), 0)
        for number in range(1_000):
            ranking.add(number.to_bytes(2, "big"), 1, number)
        table.write([], [])
        table.settle()
        ranking.add((0).to_bytes(2, "big"), -1, 0)
        ranking.add((1).to_bytes(2, "big"), -1, 1)
        ranking.add((1).to_bytes(2, "big"), 1, 1)
        ranking.add((7).to_bytes(2, "big"), 2, 7)
        before = table.number_of_reads
        assert list(ranking.first(3)) == [1, 2, 3]
        assert table.number_of_reads - before <= 2
        assert list(ranking.first(None)) == list(range(1, 1_000))
        for number in range(1, 1_000):
            ranking.add(number.to_bytes(2, "big"), -1 - 2 * (number == 7), number)
        table.write([], [])
        assert table.select("SELECT count(*) FROM cells") == [(0,)]
