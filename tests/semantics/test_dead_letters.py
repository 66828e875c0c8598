"""Dead letters: each cause gives one, and every executor gives the same.

A stream also sees rows in between, of some of the documents, and tells what is wrong with those.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import aggregate, document, group, reference, referrers, root, view_property
from boiler_beam.engine.state import SqliteState
from boiler_beam.events import DeadLetter
from boiler_beam.plan import Plan, compile_plan
from tests.conftest import examples
from tests.helpers import shop, town
from tests.helpers.engine import Batches, Letters, cut, followed
from tests.helpers.executors import embedded, on_beam, partitioned, streamed_on_beam
from tests.helpers.histories import changes, lines
from tests.helpers.network import streamed
from tests.helpers.random_views import views
from tests.helpers.strategies import histories

Letter = tuple[str, str | None, int | None, str]
Table = list[Any]

PLANS = {"shop": compile_plan(shop.VIEWS), "town": compile_plan(town.VIEWS)}
both_worlds = pytest.mark.parametrize("world", PLANS)
orders = st.integers(0, 99).map(random.Random)


def told(letters: Sequence[DeadLetter], *stages: str) -> list[Letter]:
    """Returns the content of dead letters, sorted, for some stages or all."""
    some = [letter for letter in letters if not stages or letter.stage in stages]
    return sorted((one.code, one.path, one.version, one.message) for one in some)  # type: ignore[type-var]


def once(letters: Sequence[DeadLetter]) -> None:
    """Checks that no two dead letters are equal."""
    found = [(one.code, one.path, one.version, one.message, one.input) for one in letters]
    assert len(set(found)) == len(found), f"{len(found) - len(set(found))} of {found} came twice"


def each_once(table: Table) -> Table:
    """Returns only the last version of each document, so that there are no dead letters of superseded versions."""
    return list({event[0]: event for event in table}.values())


def follow(plan: Plan, table: Table, order: random.Random) -> Sequence[DeadLetter]:
    return followed(plan, [Batches("all", cut(changes(table), order))])[0].letters


def follow_at_once(plan: Plan, table: Table, order: random.Random) -> Sequence[DeadLetter]:
    return followed(plan, [Batches("all", [changes(order.sample(table, len(table)))])])[0].letters


AT_ONCE: dict[str, Callable[[Plan, Table, random.Random], Sequence[DeadLetter]]] = {
    "partitions": lambda plan, table, order: partitioned(plan, changes(table), order.randint(1, 4)).letters,
    "stream": follow_at_once,
}
"""Executors that compute each row once, from all documents."""
STEP_BY_STEP: dict[str, Callable[[Plan, Table, random.Random], Sequence[DeadLetter]]] = {
    "stream": follow,
    "machines": lambda plan, table, order: streamed(plan, changes(table), order).letters,
}
"""Executors that also compute intermediate rows, and report their problems."""
OF_DOCUMENTS = ("read", "decode", "newest", "document")


@pytest.mark.parametrize("executor", AT_ONCE)
@both_worlds
@given(data=st.data(), order=orders)
def test_of_documents_and_rows(executor: str, world: str, data: st.DataObject, order: random.Random) -> None:
    plan, table = PLANS[world], each_once(data.draw(histories(is_invalid=False, is_town=world == "town")))
    note(f"table = {table!r}")
    letters = AT_ONCE[executor](plan, table, order)
    assert told(letters) == told(embedded(plan, changes(table)).letters)
    once(letters)


@both_worlds
@given(data=st.data(), order=orders)
def test_a_stream_tells_what_was_wrong_after_any_of_its_batches(
    world: str, data: st.DataObject, order: random.Random
) -> None:
    """Two rows contest a path, for example, until the getter of one raises.

    A row whose getter raises stays as it is (S6), and keeps its claim. So there may be a contest for its path later, which a
    backfill does not tell, because it has never known that row.
    """
    plan, table = PLANS[world], each_once(data.draw(histories(is_invalid=False, is_town=world == "town")))
    batches = cut(changes(table), order)
    note(f"batches = {batches!r}")
    wanted = {
        one
        for number in range(len(batches))
        for one in told(embedded(plan, [change for batch in batches[: number + 1] for change in batch]).letters)
    }
    found = set(told(followed(plan, [Batches("all", batches)])[0].letters))
    assert found >= wanted
    raising = {message.partition(".")[0] for code, _, _, message in wanted if code == "getter_raised"}
    for code, _, _, message in found - wanted:
        assert code == "contested_path"
        assert message.partition(":")[0] in raising  # the view


def test_a_row_whose_getter_raises_keeps_its_claim() -> None:
    history = changes(
        [
            ("rooms/1/messages/1/comments/2", 1, {"stars": 3, "by": "guests/2"}),
            ("guests/2", 2, {"name": "boom"}),
            ("guests/1/comments/2", 3, {"stars": 0}),
        ]
    )
    letters = followed(PLANS["town"], [Batches("all", [[one] for one in history])])[0].letters
    assert [one.path for one in letters if one.code == "contested_path"] == ["latest/2"]


@pytest.mark.parametrize("executor", AT_ONCE)
@given(data=st.data(), order=orders)
def test_whatever_the_view(executor: str, data: st.DataObject, order: random.Random) -> None:
    plan, table = compile_plan([data.draw(views())]), each_once(data.draw(histories(is_invalid=False, is_town=True)))
    note(f"table = {table!r}")
    assert told(AT_ONCE[executor](plan, table, order)) == told(embedded(plan, changes(table)).letters)


def assert_told(letters: Sequence[DeadLetter], wanted: Sequence[DeadLetter]) -> None:
    """The dead letters of documents are equal; those of rows contain at least these."""
    assert told(letters, *OF_DOCUMENTS) == told(wanted, *OF_DOCUMENTS)
    assert set(told(letters)) >= set(told(wanted))


@pytest.mark.parametrize("executor", STEP_BY_STEP)
@both_worlds
@given(data=st.data(), order=orders)
def test_step_by_step(executor: str, world: str, data: st.DataObject, order: random.Random) -> None:
    plan, table = PLANS[world], each_once(data.draw(histories(is_invalid=False, is_town=world == "town")))
    note(f"table = {table!r}")
    assert_told(STEP_BY_STEP[executor](plan, table, order), embedded(plan, changes(table)).letters)


@pytest.mark.parametrize("executor", ["stream", "machines"])
@both_worlds
@given(data=st.data(), order=orders)
def test_of_every_version_of_a_document(executor: str, world: str, data: st.DataObject, order: random.Random) -> None:
    """Invalid and contradicting versions, twice each: a repeated version gives no further dead letter."""
    plan, table = PLANS[world], data.draw(histories(is_town=world == "town"))
    table = [event for event in table for _ in range(2)]
    note(f"table = {table!r}")
    batch = embedded(plan, changes(table)).letters
    letters = follow(plan, table, order) if executor == "stream" else streamed(plan, changes(table)).letters
    assert told(letters, "decode", "newest") == told(batch, "decode", "newest")
    once([letter for letter in letters if letter.stage in ("decode", "newest")])
    once(batch)


@pytest.mark.beam
@both_worlds
@settings(max_examples=examples(2, 30))
@given(data=st.data())
def test_on_beam(world: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    plan, table = PLANS[world], each_once(data.draw(histories(is_invalid=False, is_town=world == "town")))
    note(f"table = {table!r}")
    wanted = embedded(plan, changes(table)).letters
    assert told(on_beam(plan, lines(table), tmp_path_factory.mktemp("batch")).letters) == told(wanted)
    assert_told(streamed_on_beam(plan, lines(table), tmp_path_factory.mktemp("stream")).letters, wanted)


# One table with a cause of each kind, in every executor --------------------------------------------------------------


class Flags(bb.DomainModel, collection="config"):
    limit: int

    @property
    def inverse(self) -> float:
        return 1 / self.limit


class Author(bb.DomainModel, collection="authors"):
    name: str
    friends: list[str] = bb.field(default_factory=list)

    @property
    def known(self) -> dict[str, bb.Ref[Author]]:
        return {one: bb.Ref(f"authors/{int(one)}") for one in self.friends}


class Lean(bb.DomainModel, collection="authors"):
    """Another model of the same documents, which gives its own dead letters."""

    name: str


class Book(bb.DomainModel, collection="books"):
    title: str
    pages: int
    author: bb.Ref[Author] | None = None
    shelf: str | None = None

    @property
    def letter(self) -> str | None:
        return None if self.shelf is None else self.shelf[0]


class AuthorCard(bb.ViewModel, path="names/{name}"):
    class Store(bb.Store):
        author: Author = root(Author)
        friends: dict[str, Author] = reference("author.known")
        books: dict[str, Book] = referrers(Book, by="author", where=lambda book: 6 // book.pages)
        flags: Flags | None = document(Flags, "config/flags", optional=True, where=lambda flags: flags.inverse)

    store: Store

    length = aggregate.sum("books", of=lambda book: 100 // (book.pages - 2))

    def paths(self) -> list[dict[str, str]]:
        return [{"name": self.store.author.name}]

    @view_property
    def friends(self) -> list[str]:
        return sorted(self.store.friends)


class LeanCard(bb.ViewModel, collection="lean_cards"):
    class Store(bb.Store):
        author: Lean = root(Lean)

    store: Store

    @view_property
    def name(self) -> str:
        return self.store.author.name


class ShelfCard(bb.ViewModel, collection="shelf_cards"):
    class Store(bb.Store):
        books: dict[str, Book] = group(Book, by="letter")
        authors: dict[str, Author] = reference("books.author")
        friends: dict[str, Author] = reference("authors.known")
        flags: Flags | None = document(Flags, "config/flags", optional=True)

    store: Store

    length = aggregate.sum("books", of=lambda book: 100 // (book.pages - 3))

    @view_property
    def friends(self) -> list[str]:
        return sorted(self.store.friends)

    @view_property
    def longest(self) -> float:
        return 1 / max(book.pages - 3 for book in self.store.books.values())


CAUSES = compile_plan([AuthorCard, LeanCard, ShelfCard])
TABLE: Table = [
    ("config/flags", 1, {"limit": 0}),  # the where= of a fixed document raises
    ("config/other", 1, {"shape": "another"}),  # no view reads it
    ("authors/1", 1, {"name": "Ann", "friends": ["2"]}),
    ("authors/2", 2, {"name": "Bo", "friends": ["x"]}),  # a property in the path to other documents raises
    ("authors/3", 3, {"name": "Ann"}),  # a contested path: of three, two lose it
    ("authors/4", 4, {"name": "Ann"}),
    ("authors/5", 5, {"name": "a/b"}),  # no path
    ("authors/6", 6, {"name": 7}),  # invalid for two models
    ("books/1", 7, {"title": "A", "pages": 0, "author": "authors/1"}),  # where= raises
    ("books/2", 8, {"title": "B", "pages": 2, "author": "authors/2"}),  # of= raises
    ("books/3", 9, {"title": "C", "pages": 3, "author": "authors/2", "shelf": "s1"}),  # of=, and the getter of its row
    ("books/4", 10, {"title": "D", "pages": 5, "author": "authors/2", "shelf": "t1"}),
    ("books/5", 11, {"title": "E", "pages": 3, "shelf": ""}),  # by= raises, so of= is not called
    ("books/6", 12, {"title": "F", "pages": "many"}),  # invalid
]
RAISED = ["AuthorCard: where= of flags", "AuthorCard: known of friends", "AuthorCard: where= of books"]
RAISED += ["AuthorCard: aggregate length", "ShelfCard: aggregate length", "ShelfCard: by= of books"]
RAISED += ["ShelfCard: known of friends"]
"""A raising `known` is reported for the author, once for each view, not for each row that reaches it."""

TAINTED = {"names/Ann", "names/Bo", "names/{name}", "lean_cards/6"}
"""The rows that `authors/6` may belong to; only executors that write rows report them."""


def test_a_cause_of_each_kind_is_told_once() -> None:
    letters = embedded(CAUSES, changes(TABLE)).letters
    counts: dict[str, int] = {}
    for letter in letters:
        counts[letter.code] = counts.get(letter.code, 0) + 1
    raised = [letter.message.partition(" raised ")[0] for letter in letters if letter.code == "function_raised"]
    assert sorted(raised) == sorted(RAISED)
    assert counts == {
        "invalid_document": 3, "function_raised": 7, "contested_path": 2, "bad_path": 1, "getter_raised": 1,
    }  # fmt: skip
    once(letters)


@pytest.mark.parametrize("executor", [*AT_ONCE, "machines"])
@given(order=orders)
def test_each_executor_tells_these(executor: str, order: random.Random) -> None:
    wanted, run = told(embedded(CAUSES, changes(TABLE)).letters), {**STEP_BY_STEP, **AT_ONCE}[executor]
    assert told(run(CAUSES, order.sample(TABLE, len(TABLE)), order)) == wanted


@pytest.mark.beam
@pytest.mark.parametrize("consistency", ["eventual", pytest.param("commit", marks=pytest.mark.slow)])
def test_beam_tells_these(consistency: str, tmp_path: Path) -> None:
    wanted = told(embedded(CAUSES, changes(TABLE)).letters)
    batch, stream = tmp_path / "batch", tmp_path / "stream"
    batch.mkdir()
    stream.mkdir()
    found = on_beam(CAUSES, lines(TABLE), batch).letters
    assert told([one for one in found if one.code != "row_tainted"]) == wanted
    assert {one.path for one in found if one.code == "row_tainted"} == TAINTED
    assert told(streamed_on_beam(CAUSES, lines(TABLE), stream, consistency=consistency).letters) == wanted


# A row that fails again ----------------------------------------------------------------------------------------------

AGAIN: Table = [
    ("authors/2", 1, {"name": "Bo"}),
    ("books/3", 2, {"title": "C", "pages": 3, "shelf": "s1"}),
    ("books/3", 3, {"title": "C2", "pages": 3, "shelf": "s1"}),  # fails as before
    ("books/3", 4, {"title": "C2", "pages": 4, "shelf": "s1"}),  # well
    ("books/3", 5, {"title": "C2", "pages": 3, "shelf": "s1"}),  # fails anew
    ("books/3", 6, None),
    ("books/3", 7, {"title": "C3", "pages": 3, "shelf": "s1"}),  # another row, which fails
]


@pytest.mark.parametrize("executor", ["stream", "machines"])
def test_a_row_that_fails_again_as_before_is_no_other_dead_letter(executor: str) -> None:
    plan, batches = compile_plan([ShelfCard]), [[one] for one in changes(AGAIN)]
    if executor == "stream":
        letters = followed(plan, [Batches("all", batches)])[0].letters
    else:
        letters = streamed(plan, changes(AGAIN), RenderAlways()).letters
    assert [letter.code for letter in letters if letter.stage == "render"] == ["getter_raised"] * 3


class RenderAlways(random.Random):
    """Delivers all messages in order, and renders each row then."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0 if start != 6 else 1 << 60

    def random(self) -> float:
        return 0.0


def test_what_was_told_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """A row that fails again, and a repeated invalid version of a document."""
    plan, letters = compile_plan([ShelfCard]), Letters()
    invalid = ("books/6", 1, {"title": "F", "pages": "many"})
    for number, events in enumerate([[AGAIN[1], invalid], [AGAIN[2], invalid]]):
        with closing(SqliteState(str(tmp_path / "state.db"))) as state:
            followed(plan, [Batches(f"part {number}", [changes(events)])], state=state, letters=letters)
    assert sorted(one.code for one in letters.letters) == ["function_raised"] * 2 + [
        "getter_raised",
        "invalid_document",
    ]


class Again(Batches):
    """A touch or a replay asks for another rendering."""

    is_replay = True


def shelves(revision: int) -> Plan:
    body = {**vars(ShelfCard), "__module__": __name__}
    return compile_plan([type("ShelfCard", (bb.ViewModel,), body, collection="shelf_cards", revision=revision)])


def test_what_is_refused_once_more_is_told_once_more_where_somebody_tried_to_fix_it(tmp_path: Path) -> None:
    """A replay, and another version of the view, which is rebuilt."""
    letters, invalid = Letters(), changes([("books/6", 1, {"title": "F", "pages": "many"})])
    lives: list[tuple[int, Batches]] = [
        (1, Batches("one", [invalid])),
        (1, Batches("two", [invalid])),
        (1, Again("three", [invalid])),
        (2, Batches("four", [[]])),
    ]
    counts = []
    for revision, source in lives:
        with closing(SqliteState(str(tmp_path / "state.db"))) as state:
            followed(shelves(revision), [source], state=state, letters=letters)
        counts.append(len(letters.letters))
    assert counts == [1, 1, 2, 3]
