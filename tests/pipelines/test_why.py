"""`boiler-beam why` of a missing row, by command line: every reason, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import programs
from tests.pipelines.test_streams import environment

VIEWS = """
import boiler_beam as bb
from boiler_beam import aggregate, document, group, reference, referrers, root, view_property


class Author(bb.DomainModel, collection="authors"):
    name: str
    is_secret: bool = False


class Poet(Author):
    verse: str


class Rates(bb.DomainModel, collection="config"):
    factor: int


class Book(bb.DomainModel, collection="books"):
    title: str
    author: bb.Ref[Author] | None = None
    shelf: str | None = None
    is_hidden: bool = False

    @property
    def letter(self) -> str | None:
        return None if self.shelf is None else self.shelf[0]


class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        book: Book = root(Book, where=lambda book: not book.is_hidden and 1 / len(book.title))
        author: Author = reference("book.author", where=lambda author: not author.is_secret)

    store: Store

    @view_property
    def by(self) -> str:
        return {"T": self.store.author.name}[self.store.book.title]


class Verse(bb.ViewModel, collection="verses"):
    class Store(bb.Store):
        book: Book = root(Book)
        poet: Poet = reference("book.author", to=Poet)

    store: Store

    @view_property
    def by(self) -> str:
        return self.store.poet.name


class Priced(bb.ViewModel, collection="priced"):
    class Store(bb.Store):
        book: Book = root(Book)
        rates: Rates = document(Rates, "config/rates")

    store: Store

    @view_property
    def factor(self) -> int:
        return self.store.rates.factor


class Shelf(bb.ViewModel, collection="shelves"):
    class Store(bb.Store):
        books: dict[str, Book] = group(Book, by="letter", where=lambda book: not book.is_hidden)

    store: Store
    num = aggregate.count("books")


class Copy(bb.ViewModel, path="readers/{reader}/copies/{id}"):
    class Store(bb.Store):
        book: Book = root(Book)

    store: Store

    def paths(self):
        if self.store.book.title == "boom":
            raise ValueError("boom")
        return [{"reader": one} for one in self.store.book.title.split("+") if one != "none"]

    @view_property
    def title(self) -> str:
        if self.at["reader"] == "bad":
            raise ValueError("bad")
        return self.store.book.title


class Name(bb.ViewModel, path="names/{name}"):
    class Store(bb.Store):
        author: Author = root(Author)

    store: Store

    def paths(self):
        yield {"name": self.store.author.name}

    @view_property
    def id(self) -> str:
        return self.store.author.doc_id
"""
ANN = ("authors/a1", {"name": "Ann"})
CARD, INVALID = "cards/b1", "Expected `str`, got `int` - at `$.title`"
UNKNOWN = "row: unknown, because a document or getter that it needs failed; the row in the sink stays"


def book(**fields: Any) -> tuple[str, Any]:
    return "books/b1", {"title": "T", "author": "a1", **fields}


CASES: dict[str, tuple[str, list[tuple[str, Any]], list[str]]] = {
    "no such root": (CARD, [ANN], ["no row: its root books/b1 is in none of the sources, which have no document of books"]),
    "another root": (CARD, [("books/b2", {"title": "T"})], ["no row: its root books/b1 is in none of the sources"]),
    "a deleted root": (CARD, [book(), ("books/b1", None)], ["no row: its root books/b1 was deleted at version 2"]),
    "an invalid root": (
        CARD, [book(title=7)],
        [UNKNOWN, f"dead letter invalid_document of books/b1 at file:documents.jsonl:1: Book: {INVALID}"],
    ),
    "a root that is hidden": (CARD, [book(isHidden=True)], ["no row: its root books/b1 is refused by where= of book"]),
    "where= raises": (
        CARD, [book(title="")],
        [
            "no row: its root books/b1 is not shown: where= of book raised ZeroDivisionError: division by zero "
            "(lib.py:32: book: Book = root(Book, where=lambda book: not book.is_hidden and 1 / len(book.title)))"
        ],
    ),
    "a required document is missing": (
        CARD, [book(author="a7"), ANN],
        ["no row: authors/a7, which books/b1 names as author, is required, and is in none of the sources"],
    ),
    "it was deleted": (
        CARD, [book(), ANN, ("authors/a1", None)],
        ["no row: authors/a1, which books/b1 names as author, is required, and was deleted at version 3"],
    ),
    "it is hidden": (
        CARD, [book(), ("authors/a1", {"name": "Ann", "isSecret": True})],
        ["no row: authors/a1, which books/b1 names as author, is required, and is refused by where= of author"],
    ),
    "it is of another class": (
        "verses/b1", [book(), ANN],
        ["no row: authors/a1, which books/b1 names as poet, is required, and is of class Author, not Poet"],
    ),
    "it is invalid": (
        CARD, [book(), ("authors/a1", {"name": 7})],
        [
            UNKNOWN,
            "dead letter invalid_document of authors/a1 at file:documents.jsonl:2: "
            "Author: Expected `str`, got `int` - at `$.name`",
        ],
    ),
    "nobody names one": (CARD, [book(author=None), ANN], ["no row: books/b1 names no author, which is required"]),
    "the one for all rows is missing": (
        "priced/b1", [book()],
        [
            "no row: config/rates, which every row reads as rates, is required, and is in none of the sources, "
            "which have no document of config"
        ],
    ),
    "a getter raised": (
        CARD, [book(title="U"), ANN],
        [
            UNKNOWN,
            "dead letter getter_raised: Card.by raised KeyError: 'U' "
            '(lib.py:39: return {"T": self.store.author.name}[self.store.book.title])',
        ],
    ),
    "a member of no group": (
        "shelves/s", [book(shelf="t1")], ["no row: no document of books has the key 's' (letter)"]
    ),
    "the members are hidden": (
        "shelves/s", [book(shelf="s1", isHidden=True)],
        ["no row: its group has no member that is shown: books/b1: is refused by where= of books"],
    ),
    "by= raises": (
        "shelves/s", [book(shelf="")],
        [
            "no row: no document of books has the key 's' (letter); it is unknown of books/b1: by= of books raised "
            "IndexError: string index out of range (lib.py:27: return None if self.shelf is None else self.shelf[0])"
        ],
    ),
    "paths() gives nothing": ("readers/r/copies/b1", [book(title="none")], ["no row: paths() gives nothing"]),
    "paths() gives others": (
        "readers/r/copies/b1", [book(title="x+y")],
        ["no row: paths() gives readers/x/copies/b1, readers/y/copies/b1, and not this one"],
    ),
    "paths() gives no path": (
        "readers/r/copies/b1", [book(title="a/b")],
        [
            "no row: what paths() gives makes no path",
            "dead letter bad_path: Copy.paths: expected reader to be an id that Firestore takes: not empty, without '/', "
            "not '.', '..' or '__...__', got 'a/b'",
        ],
    ),
    "paths() raised": (
        "readers/r/copies/b1", [book(title="boom")],
        [
            UNKNOWN,
            'dead letter getter_raised: Copy.paths raised ValueError: boom (lib.py:82: raise ValueError("boom"))',
        ],
    ),
    "a getter raised for this copy": (
        "readers/bad/copies/b1", [book(title="bad+r")],
        [UNKNOWN, 'dead letter getter_raised: Copy.title raised ValueError: bad (lib.py:88: raise ValueError("bad"))'],
    ),
    "nothing makes it": ("names/Bo", [book()], ["no row: no document is there that makes one, of authors"]),
    "all go elsewhere": ("names/Bo", [ANN], ["no row: paths() gives names/Ann, and not this one"]),
}  # fmt: skip


def why(folder: Path, row_path: str, documents: list[tuple[str, Any]]) -> subprocess.CompletedProcess[str]:
    (folder / "lib.py").write_text(VIEWS)
    lines = [{"path": path, "version": number, "fields": one} for number, (path, one) in enumerate(documents, start=1)]
    (folder / "documents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "pipelines.cli", "why", "--views", "lib", "--source", "file:documents.jsonl"]
    return programs.run([*command, row_path], folder, environment())


@pytest.mark.parametrize(("row_path", "documents", "said"), CASES.values(), ids=CASES.keys())
def test_a_row_that_is_not_there(row_path: str, documents: Any, said: list[str], tmp_path: Path) -> None:
    done = why(tmp_path, row_path, documents)
    assert done.stdout.splitlines()[-len(said) :] == said, done.stderr
    assert done.returncode == 1


THERE: dict[str, tuple[str, list[tuple[str, Any]], str]] = {
    "a root's": (CARD, [book(), ANN], 'row: {"by":"Ann"}'),
    "a group's": ("shelves/s", [book(shelf="s1")], 'row: {"num":1}'),
    "a copy": ("readers/r/copies/b1", [book(title="bad+r")], 'row: {"title":"bad+r"}'),
    "a contested one": (
        "names/Ann", [("authors/a2", {"name": "Ann"}), ANN],
        "'a2' wants this path, too: the smallest id has it, the other is a dead letter contested_path",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("row_path", "documents", "last"), THERE.values(), ids=THERE.keys())
def test_a_row_that_is_there(row_path: str, documents: Any, last: str, tmp_path: Path) -> None:
    done = why(tmp_path, row_path, documents)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, last), done.stderr


def test_wrong_use_is_neither(tmp_path: Path) -> None:
    assert why(tmp_path, "elsewhere/b1", [book()]).returncode == 2
