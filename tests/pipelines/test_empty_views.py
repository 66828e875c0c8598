"""A view without rows although there are roots, by command line: a failure of a backfill, a warning of a stream."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import programs
from tests.pipelines.test_streams import environment

VIEWS = """
import boiler_beam as bb
from boiler_beam import document, group, reference, root, view_property


class Author(bb.DomainModel, collection="authors"):
    name: str


class Rates(bb.DomainModel, collection="config"):
    factor: int


class Book(bb.DomainModel, collection="books"):
    title: str
    author: bb.Ref[Author] | None = None
    is_hidden: bool = False
    shelf: str | None = None


class Titled(bb.ViewModel, collection="titled"):
    class Store(bb.Store):
        book: Book = root(Book, where=lambda book: not book.is_hidden)

    store: Store

    @view_property
    def title(self) -> str:
        return {"good": "Good"}[self.store.book.title]


class Signed(bb.ViewModel, collection="signed"):
    class Store(bb.Store):
        book: Book = root(Book, where=lambda book: not book.is_hidden)
        author: Author = reference("book.author")

    store: Store

    @view_property
    def by(self) -> str:
        return self.store.author.name


class Shelf(bb.ViewModel, path="shelves/{name}/of/{id}"):
    class Store(bb.Store):
        books: dict[str, Book] = group(Book, by="shelf")
        rates: Rates | None = document(Rates, "config/rates", optional=True)

    store: Store

    def paths(self):
        if any(book.title == "bad" for book in self.store.books.values()):
            raise ValueError("bad")
        return [{"name": book.title} for book in self.store.books.values() if book.title != "none"]

    @view_property
    def size(self) -> int:
        return len(self.store.books)


class Priced(bb.ViewModel, collection="priced"):
    class Store(bb.Store):
        book: Book = root(Book)
        rates: Rates = document(Rates, "config/rates")

    store: Store

    @view_property
    def factor(self) -> int:
        return self.store.rates.factor
"""
AUTHOR = ("authors/a1", {"name": "Ann"})


def book(number: int, **fields: Any) -> tuple[str, Any]:
    return f"books/b{number}", {"title": "good", **fields}


FAILED = "{view}: none of its rows could be made: {number} failed in a getter or paths()"
INVALID_ONE = "{view}: none of its rows could be made: the only document that would make one is invalid"
INVALID = "{view}: none of its rows could be made: the {number} documents that would make some are invalid"
LACKS = "{view}: none of its rows could be made: {number} lack a required document (e.g. {what}, is not there)"
FIX = "; fix: run boiler-beam why for one of them"
EMPTY: dict[str, tuple[str, list[tuple[str, Any]], str]] = {
    "all getters raise": ("Titled", [book(1, title="x"), book(2, title="y")], FAILED.format(view="Titled", number=2)),
    "but for what is hidden": (
        "Titled", [book(1, title="x"), book(2, isHidden=True)], FAILED.format(view="Titled", number=1)
    ),
    "paths() raises": ("Shelf", [book(1, title="bad", shelf="s")], FAILED.format(view="Shelf", number=1)),
    "no path of paths() is one": ("Shelf", [book(1, title="a/b", shelf="s")], FAILED.format(view="Shelf", number=1)),
    "all roots are invalid": ("Titled", [book(1, title=7), book(2, title=8)], INVALID.format(view="Titled", number=2)),
    "every reference leads nowhere": (
        "Signed", [book(1, author="a7"), book(2, author="a8")],
        LACKS.format(view="Signed", number=2, what="authors/a7, which books/b1 names as author"),
    ),
    "the one document for all is not there": (
        "Priced", [book(1)], LACKS.format(view="Priced", number=1, what="config/rates, which every row reads as rates")
    ),
}  # fmt: skip
AS_IT_SHOULD_BE: dict[str, tuple[str, list[tuple[str, Any]]]] = {
    "no roots": ("Titled", [AUTHOR]),
    "all are hidden": ("Titled", [book(1, isHidden=True, title="x")]),
    "nobody names an author": ("Signed", [book(1), book(2)]),
    "some name none": ("Signed", [book(1), book(2, author="a7")]),
    "no key": ("Shelf", [book(1)]),
    "paths() gives nothing": ("Shelf", [book(1, title="none", shelf="s")]),
    "a root is invalid and the others are hidden": ("Titled", [book(1, title=7), book(2, isHidden=True)]),
    "one row is made": ("Titled", [book(1), book(2, title="x")]),
}
EXECUTORS = {"in one process": [], "on Beam": ["--runner", "DirectRunner"]}
executors = pytest.mark.parametrize(
    "executor", [pytest.param(one, marks=[pytest.mark.beam] * ("Beam" in one)) for one in EXECUTORS]
)


def run(folder: Path, view: str, documents: list[tuple[str, Any]], *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "lib.py").write_text(VIEWS)
    lines = [{"path": path, "version": number, "fields": one} for number, (path, one) in enumerate(documents, start=1)]
    (folder / "documents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "pipelines.main", "--views", f"lib:{view}", "--source", "file:documents.jsonl"]
    return programs.run([*command, "--sink", "jsonl:rows.jsonl", *more], folder, environment())


def said(done: subprocess.CompletedProcess[str], word: str) -> list[str]:
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{word}: ")]
    return [line.removeprefix(f"{word}: ") for line in lines]


@executors
@pytest.mark.parametrize(("view", "documents", "message"), EMPTY.values(), ids=EMPTY.keys())
def test_a_backfill_fails(executor: str, view: str, documents: Any, message: str, tmp_path: Path) -> None:
    done = run(tmp_path, view, documents, *EXECUTORS[executor])
    if executor == "on Beam":
        message = re.sub(r" \(e\.g\..*\)", "", message)
    assert (done.returncode, said(done, "error")) == (1, [message + FIX]), done.stdout + done.stderr
    assert re.match(r"\d documents, \d changes, 0 rows, \d dead letters, [\d.]+ seconds$", done.stdout.splitlines()[-1])
    assert (tmp_path / "rows.jsonl").exists()


def test_a_failure_is_more_than_a_dead_letter_or_what_was_not_pruned(tmp_path: Path) -> None:
    run(tmp_path, "Titled", [book(number) for number in range(20)])
    assert run(tmp_path, "Titled", [book(1, title="x")], "--strict").returncode == 1


@executors
@pytest.mark.parametrize(("view", "documents"), AS_IT_SHOULD_BE.values(), ids=AS_IT_SHOULD_BE.keys())
def test_a_view_that_is_as_it_should_be(executor: str, view: str, documents: Any, tmp_path: Path) -> None:
    done = run(tmp_path, view, documents, *EXECUTORS[executor])
    assert (done.returncode, said(done, "error")) == (0, []), done.stdout + done.stderr
    note = f"{view}: no document makes a row; fix: if one should, run boiler-beam check"
    assert said(done, "note") == [note] * (", 0 rows, " in done.stdout)


def test_a_stream_of_roots_that_are_all_invalid(tmp_path: Path) -> None:
    done = run(tmp_path, "Priced", [book(1, title=7), ("config/rates", {"factor": 2})], "--mode", "stream")
    assert said(done, "warning") == [INVALID_ONE.format(view="Priced") + FIX]


def test_the_other_views_are_written(tmp_path: Path) -> None:
    done = run(tmp_path, "Titled,Priced", [book(1, title="x"), ("config/rates", {"factor": 2})])
    assert (done.returncode, said(done, "error")) == (1, [FAILED.format(view="Titled", number=1) + FIX])
    assert [json.loads(line)["path"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == ["priced/b1"]


def test_old_rows_that_stand_do_not_hide_it(tmp_path: Path) -> None:
    assert run(tmp_path, "Titled", [book(1)]).returncode == 0
    done = run(tmp_path, "Titled", [book(1, title="x")])
    assert (done.returncode, said(done, "error")) == (1, [FAILED.format(view="Titled", number=1) + FIX])
    assert [json.loads(line)["path"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == ["titled/b1"]


@pytest.mark.parametrize(("view", "documents", "message"), EMPTY.values(), ids=EMPTY.keys())
def test_a_stream_warns(view: str, documents: Any, message: str, tmp_path: Path) -> None:
    done = run(tmp_path, view, documents, "--mode", "stream")
    if message.startswith(INVALID.format(view="Titled", number=2)):
        message = ""  # whether where= would hide them nobody knows
    assert done.returncode == 0
    assert said(done, "warning") == ([message + FIX] if message else [])
    assert [line for line in done.stdout.splitlines() if line.startswith("warning: ")] == (
        [f"warning: {message}{FIX}"] if message else []
    )


@pytest.mark.parametrize(("view", "documents"), AS_IT_SHOULD_BE.values(), ids=AS_IT_SHOULD_BE.keys())
def test_a_stream_does_not_warn(view: str, documents: Any, tmp_path: Path) -> None:
    done = run(tmp_path, view, documents, "--mode", "stream")
    assert (done.returncode, said(done, "warning")) == (0, []), done.stdout + done.stderr


@pytest.mark.beam
@pytest.mark.parametrize("case", ["all getters raise", "paths() raises"])
def test_a_stream_on_beam_warns(case: str, tmp_path: Path) -> None:
    view, documents, message = EMPTY[case]
    done = run(tmp_path, view, documents, "--mode", "stream", "--runner", "DirectRunner")
    assert (done.returncode, said(done, "warning")) == (0, [message + FIX]), done.stdout + done.stderr
    assert f"warning: {message}{FIX}" in done.stdout
    assert said(run(tmp_path, "Titled", [book(1)], "--mode", "stream", "--runner", "DirectRunner"), "warning") == []


def test_a_stream_that_goes_on_knows_it_still_and_when_it_is_over(tmp_path: Path) -> None:
    more = ("--mode", "stream", "--state", "sqlite:state.db")
    message = FAILED.format(view="Titled", number=1) + FIX
    assert said(run(tmp_path, "Titled", [book(1, title="x")], *more), "warning") == [message]
    again = run(tmp_path, "Titled", [book(1, title="x")], *more)
    assert (said(again, "warning"), again.stdout.splitlines()[-1].split(", ")[1]) == ([message], "0 changes")
    with (tmp_path / "documents.jsonl").open("a") as file:
        file.write(json.dumps({"path": "books/b2", "version": 9, "fields": {"title": "good"}}) + "\n")
    text = (tmp_path / "documents.jsonl").read_text()
    command = [sys.executable, "-m", "pipelines.main", "--views", "lib:Titled", "--source", "file:documents.jsonl"]
    (tmp_path / "documents.jsonl").write_text(text)
    done = programs.run([*command, "--sink", "jsonl:rows.jsonl", *more], tmp_path, environment())
    assert (done.returncode, said(done, "warning")) == (0, []), done.stderr
