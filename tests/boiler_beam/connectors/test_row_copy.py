"""A copy of rows that another sink holds: what a commit makes visible, and what the log says of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.connectors.sqlite import SqliteSink
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, Stamp, View
from boiler_beam.values import encode_fields

SEEN = View("Seen", "seen/{id}", ("a", "_viewers"))


@pytest.fixture(name="sink")
def _sink(tmp_path: Path) -> SqliteSink:
    return SqliteSink(str(tmp_path / "rows.db"))


def row(name: str, version: int = 1, **values: Any) -> EncodedRow:
    return EncodedRow(f"seen/{name}", Stamp(1, version, 0), encode_fields(values))


def log(sink: SqliteSink) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(sink.rest)) as database:
        return database.execute("SELECT number, path, was FROM _boiler_log ORDER BY number, path").fetchall()


def served(sink: SqliteSink) -> tuple[Any, ...]:
    with closing(sqlite3.connect(sink.rest)) as database:
        (found,) = database.execute("SELECT incarnation, number, oldest FROM _boiler_served").fetchall()
    return tuple(found)


def paths(sink: SqliteSink) -> list[str]:
    return sorted(one.path for one in sink.current_rows(SEEN))


def test_rows_are_visible_after_the_commit_and_the_first_one_has_no_history(sink: SqliteSink) -> None:
    with sink.copying(SEEN, "a1") as copy:
        copy.put(row("x", a=1))
        assert paths(sink) == []
        assert copy.commit(1000)
        assert (paths(sink), log(sink), served(sink)) == (["seen/x"], [], ("a1", 1000, 1000))
        copy.put(row("x", 2, a=2, _viewers=["ann"]))
        copy.put(row("y", a=1))
        copy.put(row("x", 3, a=3))
        assert copy.commit(1007)
        copy.delete("seen/y")
        copy.delete("seen/none")
        assert copy.commit(1009)
    expected = [(1007, "seen/x", ""), (1007, "seen/y", None), (1009, "seen/y", "")]
    assert (paths(sink), log(sink), served(sink)) == (["seen/x"], expected, ("a1", 1009, 1000))


def test_an_older_stamp_is_taken_because_the_copied_sink_decides(sink: SqliteSink) -> None:
    with sink.copying(SEEN, "a1") as copy:
        copy.put(row("x", 7, a=1))
        copy.commit(1000)
        copy.put(row("x", 3, a=2))
        copy.commit(1001)
    assert [one.stamp.version for one in sink.current_rows(SEEN)] == [3]


def test_what_is_equal_changes_nothing(sink: SqliteSink) -> None:
    with sink.copying(SEEN, "a1") as copy:
        copy.put(row("x", a=1))
        copy.commit(1000)
        copy.put(row("x", a=1))
        copy.keep({"seen/x"})
        assert not copy.commit(1005)
        assert served(sink)[1] == 1000


def test_a_view_without_rows_is_known_to_have_none(sink: SqliteSink) -> None:
    with sink.copying(SEEN, "a1") as copy:
        assert copy.commit(1000)
        assert served(sink) == ("a1", 1000, 1000)
        copy.put(row("x", a=1))
        assert copy.commit(1001)
    assert log(sink) == [(1001, "seen/x", None)]


def test_a_copy_that_is_opened_again_goes_on_and_has_none_of_what_was_not_committed(sink: SqliteSink) -> None:
    with sink.copying(SEEN, "a1") as copy:
        copy.put(row("x", a=1))
        copy.put(row("y", a=1))
        copy.commit(1000)
        copy.put(row("z", a=1))
    with sink.copying(SEEN, "a1") as copy:
        assert paths(sink) == ["seen/x", "seen/y"]
        copy.keep({"seen/x"})
        copy.commit(1100)
    assert (paths(sink), log(sink), served(sink)) == (["seen/x"], [(1100, "seen/y", "")], ("a1", 1100, 1000))


def test_a_number_that_is_not_greater_is_raised(sink: SqliteSink) -> None:
    with sink.copying(SEEN, "a1") as copy:
        copy.commit(1000)
        copy.put(row("x", a=1))
        copy.commit(990)
    assert served(sink) == ("a1", 1001, 1000)


def test_there_is_one_writer(sink: SqliteSink) -> None:
    with sink.copying(SEEN, "a1"), pytest.raises(UsageError, match="its only writer"), sink.copying(SEEN, "a1"):
        pass
