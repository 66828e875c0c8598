"""What a backfill writes: stamps, unchanged rows, generations, what may be pruned (rules 2 and 3, S13, S14)."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import root, view_property
from boiler_beam.connectors import BackfillWriter, Source
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine import Report, backfill
from boiler_beam.events import DeadLetter, Stamp
from boiler_beam.plan import Plan, compile_plan
from tests.helpers.histories import change


class Note(bb.DomainModel, collection="notes"):
    text: str


def plan_of(revision: int = 1) -> Plan:
    class Card(bb.ViewModel, collection="cards", revision=revision):
        class Store(bb.Store):
            note: Note = root(Note)

        store: Store

        @view_property
        def text(self) -> str:
            return self.store.note.text

    return compile_plan([Card])


class Table(Source):
    scheme = "table"

    def __init__(self, table: list[Any]) -> None:
        super().__init__("")
        self.table = table

    def splits(self) -> list[str]:
        return ["all"]

    def read(self, split: str) -> Any:
        return (one if isinstance(one, DeadLetter) else change(*one) for one in self.table)


def run(sink: MemorySink, table: list[Any], revision: int = 1, **options: Any) -> Report:
    return backfill(plan_of(revision), [Table(table)], sink, lambda letter: None, **options)


def notes(numbers: range, version: int = 5, text: Any = "x") -> list[Any]:
    return [(f"notes/{number}", version, {"text": text}) for number in numbers]


def test_s13_rows_carry_generation_read_time_and_zero() -> None:
    sink = MemorySink()
    run(sink, [*notes(range(2)), ("notes/9", 8, None)])
    assert {row.stamp for row in sink.written.values()} == {Stamp(1, 8, 0)}
    run(sink, notes(range(2), 9, "y"), read_time=30)
    assert {row.stamp for row in sink.written.values()} == {Stamp(1, 30, 0)}


def test_s14_unchanged_rows_are_not_written() -> None:
    sink = MemorySink()
    run(sink, notes(range(3)))
    (view,) = run(sink, [*notes(range(2)), ("notes/2", 9, {"text": "y"})]).views
    assert (view.inserted, view.updated, view.unchanged, view.deleted) == (0, 1, 2, 0)
    assert [row.stamp.version for row in sink.written.values()] == [5, 5, 9]


def test_s13_a_changed_view_takes_the_next_generation_and_is_written_again() -> None:
    sink = MemorySink()
    run(sink, notes(range(3)))
    (view,) = run(sink, notes(range(3)), revision=2).views
    assert (view.updated, view.unchanged) == (3, 0)
    assert {row.stamp for row in sink.written.values()} == {Stamp(2, 5, 0)}
    assert sink.controls()["Card"].generation == 2


def test_rule_3_newer_rows_win() -> None:
    sink = MemorySink()
    run(sink, notes(range(2), 9))
    (view,) = run(sink, notes(range(1), 5, "older"), prune="all").views
    assert (view.newer, view.updated, view.deleted, view.kept, view.kept_newer) == (1, 0, 0, 1, 1)
    assert [row.stamp.version for row in sink.written.values()] == [9, 9]


@pytest.mark.parametrize(
    ("before", "after", "prune", "deleted", "kept"),
    [
        (10, 0, "safe", 10, 0),  # ten rows may always go
        (11, 0, "safe", 0, 11),
        (100, 80, "safe", 20, 0),  # a fifth may
        (100, 79, "safe", 0, 21),
        (100, 0, "all", 100, 0),
        (100, 99, "none", 0, 1),
    ],
)
def test_what_is_pruned(before: int, after: int, prune: str, deleted: int, kept: int) -> None:
    sink = MemorySink()
    run(sink, notes(range(before)))
    report = run(sink, notes(range(after)), prune=prune, read_time=6)
    (view,) = report.views
    assert (view.deleted, view.kept) == (deleted, kept)
    assert bool(report.refusals) is (prune == "safe" and kept > 0)
    assert len(sink.written) == before - deleted


def test_nothing_is_pruned_where_a_root_document_is_dead() -> None:
    sink = MemorySink()
    run(sink, notes(range(3)))
    report = run(sink, [*notes(range(1)), ("notes/2", 7, {"text": 7})])
    (view,) = report.views
    assert (view.unchanged, view.tainted, view.deleted, view.kept) == (1, 1, 0, 1)
    assert report.refusals == ["Card: 1 row was not computed, and a document that makes rows is dead or unreadable"]
    assert len(sink.written) == 3


@pytest.mark.parametrize(
    ("path", "deleted", "kept", "tainted"), [(None, 0, 1, 0), ("notes/2", 0, 0, 1), ("others/2", 1, 0, 0)]
)
def test_nothing_is_pruned_where_an_unreadable_input_may_be_a_root_document(
    path: str | None, deleted: int, kept: int, tainted: int
) -> None:
    sink = MemorySink()
    run(sink, notes(range(3)))
    torn = DeadLetter(stage="read", code="malformed_line", message="torn", path=path)
    (view,) = run(sink, [*notes(range(2)), torn]).views
    assert (view.deleted, view.kept, view.tainted, len(sink.written)) == (deleted, kept, tainted, 3 - deleted)


def test_a_deleted_document_deletes_its_row() -> None:
    sink = MemorySink()
    run(sink, notes(range(3)))
    (view,) = run(sink, [*notes(range(2)), ("notes/2", 7, None)]).views
    assert (view.deleted, view.unchanged) == (1, 2)
    assert sorted(sink.written) == ["cards/0", "cards/1"]


@pytest.mark.parametrize("number", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_dead_letters(number: int) -> None:
    letters: list[Any] = []
    report = backfill(plan_of(), [Table(notes(range(number), text=None))], MemorySink(), letters.append)
    assert (report.dead_letters, len(letters), report.documents, report.rows) == (2 * number, 2 * number, 0, 0)
    counts = Counter(letter.code for letter in letters)
    assert counts == {"invalid_document": number, "row_tainted": number}, "each document, and each row without it"


class Choosy(MemorySink):
    """Takes no row that says `no`, and deletes none that is called 9."""

    @contextmanager
    def backfill(self, views: Any) -> Any:
        with super().backfill(views) as writer:
            yield _Choosy(writer)


class _Choosy(BackfillWriter):
    def __init__(self, writer: BackfillWriter) -> None:
        self.writer, self.letters = writer, list[DeadLetter]()

    def refuse(self, path: str) -> None:
        self.letters.append(DeadLetter(stage="write", code="row_refused", message="no", path=path))

    def write(self, view: Any, row: Any) -> None:
        self.refuse(row.path) if b"no" in row.fields else self.writer.write(view, row)

    def delete(self, view: Any, path: str, stamp: Stamp) -> None:
        self.refuse(path) if path == "cards/9" else self.writer.delete(view, path, stamp)

    def commit(self, controls: Any) -> list[DeadLetter]:
        self.writer.commit(controls)
        return self.letters


def test_what_the_sink_refuses_is_neither_written_nor_deleted() -> None:
    sink = Choosy()
    (view,) = (first := run(sink, [*notes(range(3)), *notes(range(3, 5), text="no"), *notes(range(9, 11))])).views
    assert (view.inserted, view.updated, view.refused, first.rows, first.dead_letters) == (5, 0, 2, 5, 2)
    (view,) = (second := run(sink, [*notes(range(1)), *notes(range(1, 4), 6, "no")])).views
    assert (view.inserted, view.updated, view.unchanged, view.refused) == (0, 0, 1, 4)
    assert (view.deleted, view.kept, second.rows, second.refusals) == (1, 1, 1, [])


def test_a_row_beyond_a_mebibyte_is_a_dead_letter_and_the_old_row_stands() -> None:
    sink, letters = MemorySink(), []
    run(sink, notes(range(1)))
    large = Table(notes(range(1), 6, "x" * (1 << 20)))
    (view,) = backfill(plan_of(), [large], sink, letters.append).views
    assert (view.tainted, view.updated) == (1, 0)
    assert [(letter.code, letter.path) for letter in letters] == [("row_too_large", "cards/0")]
    assert sink.written["cards/0"].fields == b'{"text":"x"}'
