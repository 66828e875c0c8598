"""The embedded engine's stream: generations, rebuilt views, pruning, and what it refuses (S13, S14, S16, S18, S20-S22)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

import boiler_beam as bb
from boiler_beam import aggregate, group, reference, root, view_property
from boiler_beam.connectors import Control, open_sink
from boiler_beam.engine import backfill
from boiler_beam.engine.follow import Settings, follow
from boiler_beam.engine.incremental import IncrementalEngine, ViewEngine
from boiler_beam.engine.state import SqliteState, State
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter, EncodedRow, Stamp
from boiler_beam.plan import Plan, compile_plan
from tests.helpers.engine import EAGER, Batches, Killed, Letters, WatchedSink, followed
from tests.helpers.histories import ListSource, changes

Table = list[tuple[str, int, Any]]


class Author(bb.DomainModel, collection="authors"):
    name: str


class Book(bb.DomainModel, collection="books"):
    title: str
    author: Ref


Ref = bb.Ref[Author]


def card(*, is_loud: bool = False, revision: int = 1) -> type[bb.ViewModel]:
    """A view, in two versions of its code."""

    class BookCard(bb.ViewModel, collection="book_cards", revision=revision):
        class Store(bb.Store):
            book: Book = root(Book)
            author: Author = reference("book.author")

        store: Store

        if is_loud:

            @view_property
            def headline(self) -> str:
                return f"{self.store.book.title.upper()}!"

        else:

            @view_property
            def headline(self) -> str:
                return f"{self.store.book.title} by {self.store.author.name}"

    return BookCard


class Shelf(bb.ViewModel, collection="shelves"):
    class Store(bb.Store):
        books: dict[str, Book] = group(Book, by="author")

    store: Store
    num_books = aggregate.count("books")


class Names(bb.ViewModel, collection="names"):
    class Store(bb.Store):
        author: Author = root(Author)

    store: Store

    @view_property
    def name(self) -> str:
        return self.store.author.name


class Person(bb.DomainModel, collection="people"):
    age: int


class MendedPerson(bb.DomainModel, collection="people"):
    age: int | str


BOOKS: Table = [
    ("authors/a1", 1, {"name": "Ann"}),
    ("books/b1", 2, {"title": "one", "author": "authors/a1"}),
    ("books/b2", 3, {"title": "two", "author": "authors/a1"}),
]


def batches(name: str, table: Table, *, is_bounded: bool = True) -> Batches:
    return Batches(name, [[change] for change in changes(table)], is_bounded=is_bounded)


def run(plan: Plan, path: Path, sink: WatchedSink, *sources: Batches, settings: Settings = EAGER) -> Any:
    state = SqliteState(str(path))
    try:
        return followed(plan, sources, sink, state, settings)
    finally:
        state.close()


def fields(sink: WatchedSink) -> dict[str, str]:
    return {path: (row.fields or b"").decode() for path, row in sink.written.items()}


def test_s20_it_goes_on_where_it_was(tmp_path: Path) -> None:
    plan, sink = compile_plan([card(), Shelf]), WatchedSink()
    run(plan, tmp_path / "state.db", sink, batches("one", BOOKS))
    writes = sink.writes
    _, report = run(plan, tmp_path / "state.db", sink, batches("one", BOOKS))
    assert (report.changes, report.documents, sink.writes) == (0, 3, writes)
    more = [*BOOKS, ("books/b1", 9, {"title": "uno", "author": "authors/a1"})]
    _, report = run(plan, tmp_path / "state.db", sink, batches("one", more))
    assert (report.changes, sink.writes - writes) == (1, 1)
    assert fields(sink)["book_cards/b1"] == '{"headline":"uno by Ann"}'
    assert report.rows == {"BookCard": 2, "Shelf": 1}


def test_s20_what_was_committed_and_not_sent_is_sent_before_anything_is_read(tmp_path: Path) -> None:
    plan, sink = compile_plan([Names]), WatchedSink()
    for _ in range(2):
        sink.lives = 1
        with pytest.raises(Killed):
            run(plan, tmp_path / "state.db", sink, batches("one", BOOKS))
    assert not sink.history
    sink.lives = 1 << 60
    read: list[dict[str, str]] = []

    class Looking(Batches):
        def follow(self, position: str | None) -> Iterator[Any]:
            read.append(fields(sink))
            return super().follow(position)

    run(plan, tmp_path / "state.db", sink, Looking("two", []))
    assert read == [{"names/a1": '{"name":"Ann"}'}]


def test_s13_a_changed_view_is_rebuilt_from_the_state_in_a_new_generation(tmp_path: Path) -> None:
    path, sink = tmp_path / "state.db", WatchedSink()
    run(compile_plan([card(), Shelf]), path, sink, batches("one", BOOKS))
    shelf = sink.written["shelves/authors%2Fa1"]
    run(compile_plan([card(is_loud=True), Shelf]), path, sink, batches("one", BOOKS))
    assert fields(sink)["book_cards/b1"] == '{"headline":"ONE!"}'
    assert {row.stamp.generation for row in sink.history if row.path == "book_cards/b1"} == {1, 2}
    assert sink.written["shelves/authors%2Fa1"] == shelf, "the other view goes on as it was"


def test_s13_revision_rebuilds_and_writes_rows_that_are_equal(tmp_path: Path) -> None:
    path, sink = tmp_path / "state.db", WatchedSink()
    run(compile_plan([card()]), path, sink, batches("one", BOOKS))
    run(compile_plan([card(revision=2)]), path, sink, batches("one", BOOKS))
    assert [row.stamp.generation for row in sink.history] == [1, 1, 2, 2]


def test_s13_a_view_is_not_rebuilt_because_others_come_or_change_places(tmp_path: Path) -> None:
    path, sink = tmp_path / "state.db", WatchedSink()
    run(compile_plan([card(), Names]), path, sink, batches("one", BOOKS))
    writes = sink.writes
    run(compile_plan([Names, card()]), path, sink, batches("one", BOOKS))
    run(compile_plan([Shelf, Names, card()]), path, sink, batches("one", BOOKS))
    assert [row.path for row in sink.history[writes:]] == ["shelves/authors%2Fa1"]


def test_s13_rows_of_the_first_moment_are_rebuilt_too(tmp_path: Path) -> None:
    path, sink = tmp_path / "state.db", WatchedSink()
    first: Table = [(path, 0, fields) for path, _, fields in BOOKS]
    run(compile_plan([card()]), path, sink, batches("one", first))
    run(compile_plan([card(revision=2)]), path, sink, batches("one", first))
    assert [(row.stamp.generation, row.fields is None) for row in sink.history] == [(1, False)] * 2 + [(2, False)] * 2


def test_s13_others_go_on_while_the_rows_of_a_changed_view_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sink = tmp_path / "state.db", WatchedSink()
    run(compile_plan([card(), Shelf]), path, sink, batches("one", BOOKS), batches("two", [], is_bounded=False))
    monkeypatch.setattr("boiler_beam.engine.generations._CHUNK", 1)
    ticks = iter(range(1_000_000))
    state = SqliteState(str(path))
    stream = batches("two", [("books/b3", 7, {"title": "three", "author": "authors/a1"})], is_bounded=False)
    plan = compile_plan([card(is_loud=True), Shelf])
    follow(plan, [stream], sink, None, state, EAGER, clock=lambda: float(next(ticks)))
    state.close()
    shelf = [row.stamp.version for row in sink.history if row.path.startswith("shelves")][-1]
    assert shelf == 7
    assert fields(sink)["book_cards/b1"] == '{"headline":"one by Ann"}', "its rows are not all written yet"
    run(plan, path, sink, batches("two", [], is_bounded=False))
    assert fields(sink)["book_cards/b3"] == '{"headline":"THREE!"}'
    assert fields(sink)["book_cards/b1"] == '{"headline":"ONE!"}'


def test_s2_a_fixed_model_takes_what_was_invalid_from_the_state(tmp_path: Path) -> None:
    def ages(model: Any) -> type[bb.ViewModel]:
        class Ages(bb.ViewModel, collection="ages"):
            class Store(bb.Store):
                person = root(model)

            @view_property
            def age(self) -> Any:
                return self.store.person.age

        return Ages

    path, sink = tmp_path / "state.db", WatchedSink()
    table: Table = [("people/1", 1, {"age": 7}), ("people/1", 2, {"age": "eight"})]
    outcome, _ = run(compile_plan([ages(Person)]), path, sink, batches("one", table))
    assert fields(sink) == {"ages/1": '{"age":7}'}
    assert [letter.code for letter in outcome.letters] == ["invalid_document"]
    run(compile_plan([ages(MendedPerson)]), path, sink, batches("one", table))
    assert fields(sink) == {"ages/1": '{"age":"eight"}'}


@pytest.mark.parametrize("is_turned", [False, True])
def test_s2_an_invalid_version_is_forgotten_where_a_valid_one_is_not_older(tmp_path: Path, is_turned: bool) -> None:
    table: Table = [("authors/a1", 1, {"name": 7}), ("authors/a1", 1, {"name": "Ann"})]
    run(
        compile_plan([Names]), tmp_path / "state.db", WatchedSink(), batches("one", table[::-1] if is_turned else table)
    )
    state = SqliteState(str(tmp_path / "state.db"))
    assert state.facts.get("invalid authors", 0) == 0
    state.close()


def test_s13_a_new_state_takes_the_next_generation_and_prunes_what_it_does_not_compute(tmp_path: Path) -> None:
    plan, sink = compile_plan([card()]), WatchedSink()
    run(plan, tmp_path / "one.db", sink, batches("one", BOOKS))
    _, report = run(plan, tmp_path / "two.db", sink, batches("one", BOOKS[:2]))
    assert {path: row.stamp.generation for path, row in sink.written.items()} == {"book_cards/b1": 2}
    assert report.deleted == {"BookCard": 1}
    assert report.refusals == []


def test_s13_the_first_state_can_not_go_on_when_another_one_took_over(tmp_path: Path) -> None:
    plan, sink = compile_plan([card()]), WatchedSink()
    run(plan, tmp_path / "one.db", sink, batches("one", BOOKS))
    run(plan, tmp_path / "two.db", sink, batches("one", BOOKS))
    before = list(sink.history)
    with pytest.raises(UsageError, match="expected BookCard of generation 1, which this state feeds, got 2 of another"):
        run(plan, tmp_path / "one.db", sink, batches("one", BOOKS))
    assert sink.history == before


def test_s13_another_sink_is_given_all_rows(tmp_path: Path) -> None:
    plan, path = compile_plan([card(), Shelf]), tmp_path / "state.db"
    run(plan, path, WatchedSink(), batches("one", BOOKS))
    other = WatchedSink()
    _, report = run(plan, path, other, batches("one", BOOKS))
    assert len(other.written) == 3
    assert report.rows == {"BookCard": 2, "Shelf": 1}


@pytest.mark.parametrize("prune", ["safe", "all", "none"])
def test_s13_pruning_is_refused_where_it_is_not_safe(tmp_path: Path, prune: Any) -> None:
    many: Table = [(f"authors/a{number}", 1, {"name": "x"}) for number in range(60)]
    plan, sink, settings = compile_plan([Names]), WatchedSink(), Settings(coalesce_seconds=0, prune=prune)
    run(plan, tmp_path / "one.db", sink, batches("one", many))
    _, report = run(plan, tmp_path / "two.db", sink, batches("one", many[:40]), settings=settings)
    refused = ["Names: 20 of 60 rows would go, more than 12"] if prune == "safe" else []
    assert report.refusals == refused
    assert len(sink.written) == (40 if prune == "all" else 60)
    if prune == "safe":
        _, report = run(plan, tmp_path / "two.db", sink, settings=Settings(coalesce_seconds=0, prune="all"))
        assert (len(sink.written), report.deleted) == (40, {"Names": 20})


def test_s13_an_invalid_root_keeps_what_it_may_have_made(tmp_path: Path) -> None:
    plan, sink = compile_plan([Names]), WatchedSink()
    run(
        plan,
        tmp_path / "one.db",
        sink,
        batches("one", [("authors/a1", 1, {"name": "Ann"}), ("authors/a2", 1, {"name": "Bo"})]),
    )
    dead: Table = [("authors/a1", 2, {"name": 7}), ("authors/a2", 2, {"name": "Bo"})]
    _, report = run(plan, tmp_path / "two.db", sink, batches("one", dead))
    assert report.refusals == ["Names: 1 row was not computed, and a document that makes rows is dead or unreadable"]
    assert set(sink.written) == {"names/a1", "names/a2"}
    _, report = run(plan, tmp_path / "two.db", sink, batches("fixed", [("authors/a1", 3, None)]))
    assert report.refusals == []
    assert set(sink.written) == {"names/a2"}


@pytest.mark.parametrize("path", [None, "authors/a2", "books/b1"])
def test_s13_an_unreadable_root_keeps_what_it_may_have_made(tmp_path: Path, path: str | None) -> None:
    plan, sink = compile_plan([Names]), WatchedSink()
    table: Table = [(f"authors/a{number}", 1, {"name": "Ann"}) for number in (1, 2)]
    run(plan, tmp_path / "one.db", sink, batches("one", table))
    torn = DeadLetter(stage="read", code="malformed_line", message="m", path=path)
    for source in (Batches("one", [[torn, *changes(table[:1])]]), Batches("two", [])):  # the state remembers it
        run(plan, tmp_path / "two.db", sink, source)
        assert set(sink.written) == ({"names/a1"} if path == "books/b1" else {"names/a1", "names/a2"})


class Copies(bb.ViewModel, path="to/{who}/copies/{id}"):
    class Store(bb.Store):
        author: Author = root(Author)

    store: Store

    def paths(self) -> Iterator[dict[str, str]]:
        if not self.store.author.name:
            raise ValueError("no name")
        for who in self.store.author.name:
            yield {"who": who}

    @view_property
    def name(self) -> str:
        return self.store.author.name


def test_s6_copies_that_can_not_be_told_are_not_pruned_and_are_when_they_can(tmp_path: Path) -> None:
    plan, sink = compile_plan([Copies]), WatchedSink()
    run(plan, tmp_path / "one.db", sink, batches("one", [("authors/a1", 1, {"name": "xy"})]))
    assert set(sink.written) == {"to/x/copies/a1", "to/y/copies/a1"}
    run(plan, tmp_path / "two.db", sink, batches("one", [("authors/a1", 2, {"name": ""})]))
    assert set(sink.written) == {"to/x/copies/a1", "to/y/copies/a1"}
    run(plan, tmp_path / "two.db", sink, batches("two", [("authors/a1", 3, {"name": "y"})]))
    assert set(sink.written) == {"to/y/copies/a1"}


class Fragile(bb.ViewModel, collection="fragile"):
    class Store(bb.Store):
        author: Author = root(Author)

    store: Store

    @view_property
    def ratio(self) -> float:
        return 1 / len(self.store.author.name)


def test_s6_a_row_that_can_not_be_told_is_not_pruned(tmp_path: Path) -> None:
    plan, sink = compile_plan([Fragile]), WatchedSink()
    run(plan, tmp_path / "one.db", sink, batches("one", [("authors/a1", 1, {"name": "Ann"})]))
    run(plan, tmp_path / "two.db", sink, batches("one", [("authors/a1", 2, {"name": ""})]))
    assert sink.written["fragile/a1"].stamp.generation == 1
    run(plan, tmp_path / "two.db", sink, batches("two", [("authors/a1", 3, None)]))
    assert not sink.written


def test_s6_a_row_that_can_no_longer_be_told_is_not_pruned_in_another_sink(tmp_path: Path) -> None:
    plan, one, other = compile_plan([Fragile]), WatchedSink(), WatchedSink()
    table: Table = [("authors/a1", 1, {"name": "Ann"}), ("authors/a1", 2, {"name": ""})]
    run(plan, tmp_path / "other.db", other, batches("other", table[:1]))
    run(plan, tmp_path / "one.db", one, batches("one", table))
    assert set(one.written) == {"fragile/a1"}
    run(plan, tmp_path / "one.db", other, batches("one", table))
    assert set(other.written) == {"fragile/a1"}
    run(plan, tmp_path / "one.db", other, batches("two", [("authors/a1", 3, None)]))
    assert not other.written


def test_s20_rows_are_on_the_disk_before_a_durable_state_forgets_them(tmp_path: Path) -> None:
    plan, table = (
        compile_plan([Names]),
        changes([("authors/a1", 1, {"name": "Ann"}), ("authors/a2", 2, {"name": "Bo"})]),
    )
    durable = SqliteState(str(tmp_path / "state.db"))
    flushed: dict[State, list[int]] = {durable: [], State(): []}
    for number, state in enumerate(flushed):
        rows = tmp_path / f"{number}.jsonl"

        def flush(opened: int, rows: Path = rows, state: State = state) -> None:
            if os.fstat(opened).st_ino == rows.stat().st_ino:
                flushed[state].append(len(rows.read_bytes().splitlines()))

        with mock.patch("boiler_beam.connectors.jsonl.os.fsync", flush):
            follow(plan, [Batches("one", [[one] for one in table])], open_sink(f"jsonl:{rows}"), None, state, EAGER)
        assert len(rows.read_bytes().splitlines()) == 2
        state.close()
    assert list(flushed.values()) == [[1, 2], []], "a state in memory computes all rows again"


def test_s16_a_backfill_in_between_makes_the_last_emissions_unknown(tmp_path: Path) -> None:
    plan, path = compile_plan([Names]), tmp_path / "state.db"
    uri, table = f"jsonl:{tmp_path}/rows.jsonl", [("authors/a1", 1, {"name": "Ann"})]

    def live(source: Batches) -> list[EncodedRow]:
        state = SqliteState(str(path))
        follow(plan, [source], open_sink(uri), None, state, EAGER)
        state.close()
        return list(open_sink(uri).current_rows(plan.views[0].target))

    assert [row.stamp for row in live(batches("one", table))] == [(1, 1, 1)]
    other = [*table, ("authors/a1", 5, {"name": "Bo"})]
    backfill(plan, [ListSource(changes(other))], open_sink(uri), lambda letter: None)
    assert open_sink(uri).controls()["Names"].backfilled == 5
    (row,) = live(batches("one", [*table, ("authors/a1", 3, {"name": "Ann"})]))
    assert row.stamp == Stamp(1, 5, 5), "equal to what was given before, but not to what stands"
    assert row.fields == b'{"name":"Ann"}'
    state = SqliteState(str(path))
    epoch = state.views["Names"].epoch
    state.close()
    live(batches("one", table))
    state = SqliteState(str(path))
    assert state.views["Names"].epoch == epoch, "one backfill is one reason"
    state.close()


def test_s16_a_touch_gives_a_row_again_and_a_deletion_too(tmp_path: Path) -> None:
    engine = IncrementalEngine(compile_plan([Names]), lambda letter: None)
    (first,) = engine.take(changes([("authors/a1", 1, {"name": "Ann"})]))
    rows = engine.views[0].rows
    rows.touch("names/a1", 9, is_held_back=False)
    (again,) = rows.take_dirty()
    assert (again.fields, again.stamp) == (first.fields, Stamp(1, 9, 9))
    assert list(rows.take_dirty()) == []
    rows.touch("names/a2", 9, is_held_back=False)
    (gone,) = rows.take_dirty()
    assert (gone.path, gone.fields, gone.stamp) == ("names/a2", None, Stamp(1, 9, 9))
    assert rows.rows_added == 1


class Handle(bb.ViewModel, path="handles/{name}"):
    class Store(bb.Store):
        author: Author = root(Author)

    store: Store

    def paths(self) -> Iterator[dict[str, str]]:
        yield {"name": self.store.author.name}

    @view_property
    def author(self) -> str:
        return self.store.author.doc_id


def test_s16_a_touch_of_a_path_that_several_rows_may_want() -> None:
    engine = IncrementalEngine(compile_plan([Handle]), lambda letter: None)
    table = [("authors/a1", 1, {"name": "Ann"}), ("authors/a2", 2, {"name": "Ann"})]
    (first,) = engine.take(changes(table))
    rows = engine.views[0].rows
    for path in ("handles/Ann", "handles/Bob"):
        rows.touch(path, 9, is_held_back=False)
    again, gone = sorted(rows.take_dirty())
    assert (again.path, again.fields, again.stamp.version) == ("handles/Ann", first.fields, 9)
    assert (gone.path, gone.fields, gone.stamp.version) == ("handles/Bob", None, 9)
    assert list(rows.take_dirty()) == []


def test_s22_an_unbounded_source_needs_a_snapshot_to_begin_with(tmp_path: Path) -> None:
    plan, path, sink = compile_plan([Names]), tmp_path / "state.db", WatchedSink()
    stream = batches("two", BOOKS[:1], is_bounded=False)
    with pytest.raises(UsageError, match="expected a snapshot to begin with, got an empty state and no bounded source"):
        run(plan, path, sink, stream)
    assert not sink.controls()
    run(plan, path, sink, stream, settings=Settings(coalesce_seconds=0, from_empty=True))
    run(plan, path, sink, stream)
    assert fields(sink) == {"names/a1": '{"name":"Ann"}'}


def test_s22_a_view_that_adds_a_collection_needs_a_snapshot_of_it(tmp_path: Path) -> None:
    path, sink = tmp_path / "state.db", WatchedSink()
    run(compile_plan([Names]), path, sink, batches("one", BOOKS))
    with pytest.raises(
        UsageError, match=r"expected one with the documents of books, got one whose views \(Names\) did not read them"
    ):
        run(compile_plan([Names, card()]), path, sink, batches("one", BOOKS))
    run(compile_plan([Names, card()]), path, sink, batches("one", BOOKS), batches("again", BOOKS))
    assert fields(sink)["book_cards/b2"] == '{"headline":"two by Ann"}'
    assert [row.stamp.generation for row in sink.history if row.path == "names/a1"] == [1]


def test_s22_a_view_that_is_gone_leaves_the_state_and_one_that_comes_is_made_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, sink = tmp_path / "state.db", WatchedSink()
    run(compile_plan([card(), Names]), path, sink, batches("one", BOOKS))
    assert not caplog.messages
    run(compile_plan([card()]), path, sink, batches("one", BOOKS))
    assert caplog.messages == [
        "Names: in the state, but not in --views: its state is removed, its rows stay in the sink"
    ]
    run(compile_plan([Names, Shelf, card()]), path, sink, batches("one", BOOKS))
    assert fields(sink)["shelves/authors%2Fa1"] == '{"numBooks":2}'
    assert sink.written["names/a1"].stamp.generation == 2
    more = [*BOOKS, ("authors/a1", 8, {"name": "Amy"}), ("books/b3", 9, {"title": "x", "author": "authors/a1"})]
    run(compile_plan([Names, Shelf, card()]), path, sink, batches("one", more))
    assert fields(sink)["names/a1"] == '{"name":"Amy"}'
    assert fields(sink)["book_cards/b1"] == '{"headline":"one by Amy"}'
    assert fields(sink)["shelves/authors%2Fa1"] == '{"numBooks":3}'


@pytest.mark.parametrize("is_durable", [True, False])
def test_s21_a_step_that_raises_undoes_its_own_change_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_durable: bool
) -> None:
    take = ViewEngine.take

    def broken(view: ViewEngine, deltas: Any) -> None:
        take(view, deltas)
        if any(delta.path == "books/b2" for some in deltas for delta in some):
            raise RuntimeError("a bug")

    monkeypatch.setattr(ViewEngine, "take", broken)
    plan, sink, letters = compile_plan([Shelf]), WatchedSink(), Letters()
    state: State = SqliteState(str(tmp_path / "state.db")) if is_durable else State()
    invalid: Table = [("books/b0", 1, {"title": 7})]
    _, report = followed(plan, [Batches("one", [changes([*invalid, *BOOKS])])], sink, state, letters=letters)
    state.close()
    assert fields(sink) == {"shelves/authors%2Fa1": '{"numBooks":1}'}
    assert report.documents == 1
    assert [(letter.code, letter.path) for letter in letters.letters] == [
        ("invalid_document", "books/b0"),
        ("step_raised", "books/b2"),
    ]
    assert letters.letters[1].message == "a step raised RuntimeError: a bug"


def test_s19_a_restarted_program_knows_what_it_let_go(tmp_path: Path) -> None:
    plan, path, sink = compile_plan([Names]), tmp_path / "state.db", WatchedSink()
    settings = Settings(coalesce_seconds=0, lateness_seconds=10e-6, from_empty=True)
    stream: Table = [(f"authors/a{version}", version, {"name": "x"}) for version in (100, 200)]
    run(plan, path, sink, Batches("one", [changes(stream)], is_bounded=False), settings=settings)
    assert set(sink.written) == {"names/a100"}
    state = SqliteState(str(path))
    assert [one.version for one in state.waiting()] == [200]
    state.close()
    late: Table = [("authors/a189", 189, {"name": "x"}), ("authors/a190", 190, {"name": "x"})]
    _, report = run(plan, path, sink, batches("two", late, is_bounded=False), settings=settings)
    assert (set(sink.written), report.late) == ({"names/a100", "names/a189"}, 1)
    run(plan, path, sink, batches("three", []), settings=settings)
    assert set(sink.written) == {f"names/a{version}" for version in (100, 189, 190, 200)}
    state = SqliteState(str(path))
    assert list(state.waiting()) == []
    state.close()


def test_s1_the_time_of_a_deletion_waits_with_it(tmp_path: Path) -> None:
    path, gone = tmp_path / "state.db", Change("authors/a1", 100, msgspec.Raw(b"null"), event_time=105)
    settings = Settings(coalesce_seconds=0, lateness_seconds=10e-6, from_empty=True)
    run(compile_plan([Names]), path, WatchedSink(), Batches("one", [[gone]], is_bounded=False), settings=settings)
    state = SqliteState(str(path))
    assert list(state.waiting()) == [gone]
    state.close()


def test_s3_older_than_the_horizon_is_refused(tmp_path: Path) -> None:
    path, sink, plan = tmp_path / "state.db", WatchedSink(), compile_plan([Names])
    run(plan, path, sink, batches("one", [("authors/a1", 5, {"name": "Ann"}), ("authors/a1", 6, None)]))
    state = SqliteState(str(path))
    assert state.compact(7) == 2  # the document, and its row
    state.close()
    late: Table = [("authors/a1", 4, {"name": "Ann"}), ("authors/a2", 8, {"name": "Bo"})]
    outcome, _ = run(plan, path, sink, batches("two", late))
    assert [(letter.code, letter.path) for letter in outcome.letters] == [("too_old", "authors/a1")]
    assert set(sink.written) == {"names/a2"}


def test_s3_what_goes_of_a_row_is_forgotten_and_the_horizon_never_falls(tmp_path: Path) -> None:
    plan, path = compile_plan([Copies]), tmp_path / "state.db"
    run(
        plan, path, WatchedSink(), batches("one", [("authors/a1", 5, {"name": "xy"}), ("authors/a1", 6, {"name": "y"})])
    )
    state = SqliteState(str(path))
    assert [state.compact(horizon) for horizon in (6, 7, 7, 3)] == [0, 1, 0, 0]
    assert state.facts["horizon"] == 7
    state.close()
    state = SqliteState(str(path))
    assert state.facts["horizon"] == 7
    state.close()


class Endless(Batches):
    """Gives batches until somebody asks it to end."""

    def __init__(self, table: Table) -> None:
        super().__init__("endless", [[change] for change in changes(table)], is_bounded=False)

    def follow(self, position: str | None) -> Iterator[Any]:
        yield from super().follow(position)
        while True:
            yield [], str(len(self.batches))


@pytest.mark.parametrize("seconds", [0, 1_000])
def test_it_ends_when_it_is_asked_to_and_all_that_was_read_is_written(tmp_path: Path, seconds: float) -> None:
    plan, sink, state = compile_plan([Names]), WatchedSink(), SqliteState(str(tmp_path / "state.db"))
    seen: list[int] = []

    def should_stop() -> bool:
        seen.append(1)
        return len(seen) > 40

    table: Table = [(f"authors/a{number}", 1, {"name": "x"}) for number in range(10)]
    follow(
        plan,
        [Endless(table)],
        sink,
        None,
        state,
        Settings(coalesce_seconds=seconds, from_empty=True),
        should_stop=should_stop,
    )
    state.close()
    assert len(sink.written) == 10


def test_changes_within_the_window_are_one_write(tmp_path: Path) -> None:
    table: Table = [("authors/a1", number, {"name": f"n{number}"}) for number in range(1, 10)]
    plan = compile_plan([Names])
    for seconds, writes in ((0.0, 9), (3.0, 3), (100.0, 1)):
        sink, ticks = WatchedSink(), iter(range(1_000_000))
        state = SqliteState(str(tmp_path / f"{seconds}.db"))
        settings = Settings(coalesce_seconds=seconds)
        follow(plan, [batches("one", table)], sink, None, state, settings, clock=lambda t=ticks: float(next(t)))
        state.close()
        assert sink.writes == writes


def test_dead_letters_go_out_with_the_transaction(tmp_path: Path) -> None:
    plan, sink, letters = compile_plan([Names]), WatchedSink(), Letters()
    bad = DeadLetter(stage="read", code="malformed_line", message="m", source="s", input="{")
    source = Batches("one", [[bad, *changes(BOOKS[:1])]])
    followed(plan, [source], sink, letters=letters)
    assert letters.letters == [bad]
    assert set(sink.written) == {"names/a1"}


def test_the_sink_knows_who_feeds_it(tmp_path: Path) -> None:
    plan, sink = compile_plan([Names]), WatchedSink()
    run(plan, tmp_path / "state.db", sink, batches("one", BOOKS))
    control = sink.controls()["Names"]
    state = SqliteState(str(tmp_path / "state.db"))
    assert control == Control(generation=1, fingerprint=plan.views[0].fingerprint, holder=state.identity)
    state.close()
