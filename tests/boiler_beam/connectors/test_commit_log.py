"""Commit numbers of the `sqlite:` sink: each transaction is logged in the database, with the rows that it changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.connectors.base import Control
from boiler_beam.connectors.commit_log import Retention
from boiler_beam.connectors.sqlite import SqliteSink, indexed_value
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import EncodedRow, Stamp, View
from boiler_beam.values import encode_fields

PLAIN = View("Plain", "plain/{id}", ("a",), ("a",))
SEEN = View("Seen", "seen/{id}", ("a", "_viewers"))
CONTROL = Control(generation=1, fingerprint="f")


@pytest.fixture(name="sink")
def _sink(tmp_path: Path) -> SqliteSink:
    return SqliteSink(str(tmp_path / "rows.db"))


def row(path: str, version: int = 1, **values: Any) -> EncodedRow:
    return EncodedRow(path, Stamp(1, version, 0), encode_fields(values))


def gone(path: str, version: int) -> EncodedRow:
    return EncodedRow(path, Stamp(1, version, 0), None)


def select(sink: SqliteSink, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(sink.rest)) as database:
        return database.execute(query).fetchall()


def log(sink: SqliteSink) -> list[tuple[Any, ...]]:
    return select(sink, "SELECT number, view, path, was FROM _boiler_log ORDER BY number, path")


def served(sink: SqliteSink) -> tuple[Any, ...]:
    (found,) = select(sink, "SELECT incarnation, number, oldest, alive FROM _boiler_served")
    return found


def stream(sink: SqliteSink, *batches: Sequence[tuple[View, EncodedRow]]) -> None:
    with sink.stream([PLAIN, SEEN]) as writer:
        for batch in batches:
            writer.write(batch)


def test_each_transaction_of_a_stream_has_a_number_and_says_which_rows_it_changed(sink: SqliteSink) -> None:
    stream(sink, [(PLAIN, row("plain/1", 5)), (SEEN, row("seen/1", 5))], [(PLAIN, row("plain/2", 3))])
    assert log(sink) == [(1, "Plain", "plain/1", None), (1, "Seen", "seen/1", None), (2, "Plain", "plain/2", None)]
    assert served(sink)[1] == 2


def test_a_row_that_is_refused_as_old_is_not_logged(sink: SqliteSink) -> None:
    stream(sink, [(PLAIN, row("plain/1", 5))], [(PLAIN, row("plain/1", 4))], [(PLAIN, gone("plain/9", 9))])
    assert [number for number, *_ in log(sink)] == [1]
    assert served(sink)[1] == 1, "a transaction that changes nothing takes no number"


def test_the_log_says_who_might_see_a_row_before_it_was_changed(sink: SqliteSink) -> None:
    stream(
        sink,
        [(SEEN, row("seen/1", 1, _viewers=["u1"]))],
        [(SEEN, row("seen/1", 2, _viewers=["u2"]))],
        [(SEEN, gone("seen/1", 3))],
        [(PLAIN, row("plain/1", 1))],
        [(PLAIN, row("plain/1", 2))],
    )
    assert [was for *_, was in log(sink)] == [None, '["u1"]', '["u2"]', None, ""]


def test_a_transaction_that_fails_leaves_no_number(sink: SqliteSink) -> None:
    lost = View("Lost", "lost/{id}", ("a",))
    with sink.stream([PLAIN]) as writer, pytest.raises(BoilerBeamError, match="no such table"):
        writer.write([(PLAIN, row("plain/1")), (lost, row("lost/1"))])
    assert (served(sink)[1], log(sink), select(sink, 'SELECT path FROM "Plain"')) == (0, [], [])


def test_numbers_go_on_in_the_next_run_and_in_a_backfill(sink: SqliteSink) -> None:
    stream(sink, [(PLAIN, row("plain/1"))])
    name = served(sink)[0]
    with sink.backfill([PLAIN]) as writer:
        writer.write(PLAIN, row("plain/1", 7, a=1))
        writer.delete(PLAIN, "plain/2", Stamp(1, 7, 0))
        writer.commit({"Plain": CONTROL})
    stream(sink, [(PLAIN, row("plain/3"))])
    assert [(number, path) for number, _, path, _ in log(sink)] == [
        (1, "plain/1"), (2, "plain/1"), (2, "plain/2"), (3, "plain/3"),
    ]  # fmt: skip
    assert served(sink)[0] == name


def test_rows_of_a_new_view_have_no_history_in_a_backfill(sink: SqliteSink) -> None:
    with sink.backfill([PLAIN]) as writer:
        for number in range(3):
            writer.write(PLAIN, row(f"plain/{number}"))
        writer.commit({"Plain": CONTROL})
    assert log(sink) == []
    assert served(sink)[1:3] == (1, 1), "nothing before this number is known, so readers read all rows"


def test_old_commits_are_forgotten_by_age(sink: SqliteSink) -> None:
    sink.retention = Retention(seconds=10)
    seconds = iter(range(0, 10_000))
    sink.now = lambda: next(seconds) * 1_000_000
    stream(sink, *([(PLAIN, row("plain/1", version))] for version in range(1, 129)))
    numbers = [number for number, *_ in log(sink)]
    oldest = served(sink)[2]
    assert numbers == list(range(oldest + 1, 129)), "what is left is known without a gap"
    assert 100 < oldest < 128


def test_old_commits_are_forgotten_by_number(sink: SqliteSink) -> None:
    sink.retention = Retention(entries=100)
    stream(sink, *([(PLAIN, row(f"plain/{at}", version)) for at in range(10)] for version in range(1, 65)))
    assert 0 < len(log(sink)) <= 100
    assert min(number for number, *_ in log(sink)) == served(sink)[2] + 1


def test_more_rows_than_are_kept_are_not_logged(sink: SqliteSink) -> None:
    sink.retention = Retention(entries=5)
    stream(sink, [(PLAIN, row("plain/x"))], [(PLAIN, row(f"plain/{number}")) for number in range(6)])
    assert log(sink) == []
    assert served(sink)[1:3] == (2, 2)


def test_another_incarnation_after_an_older_copy_was_put_back(sink: SqliteSink) -> None:
    stream(sink, [(PLAIN, row("plain/1"))])
    before = served(sink)
    sink.renew()
    after = served(sink)
    assert after[0] != before[0]
    assert after[1:3] == before[1:3]


def test_a_writer_says_that_it_lives_and_that_it_ended(sink: SqliteSink) -> None:
    with sink.stream([PLAIN]) as writer:
        sink.now = lambda: 77_000_000
        assert served(sink)[3] is not None
        sink.now = lambda: 1 << 60
        assert writer.touches() == ()
        assert served(sink)[3] == 1 << 60
    assert served(sink)[3] is None


def test_a_property_that_is_indexed_has_an_index_that_finds_it(sink: SqliteSink) -> None:
    stream(sink, [(PLAIN, row("plain/1", a=1))])
    query = f'EXPLAIN QUERY PLAN SELECT path FROM "Plain" WHERE {indexed_value("a")} = 1 ORDER BY path'
    (found,) = select(sink, query)
    assert "_boiler_index Plain a" in found[3]
    with sink.stream([View("Plain", "plain/{id}", ("a",))]):
        pass
    assert select(sink, "SELECT name FROM sqlite_master WHERE name LIKE '_boiler_index%'") == []
