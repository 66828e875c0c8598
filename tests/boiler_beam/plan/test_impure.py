"""Warnings of functions that read a clock, random numbers or the environment, with fix, file and line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.plan import compile_plan
from boiler_beam.plan.impure import warnings_of
from tests.helpers import shop, town

HEAD = """
import datetime
import datetime as dt
import os
import random
import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import date, datetime as moment
from functools import cached_property
from random import choice
from uuid import uuid4

import boiler_beam as bb
from boiler_beam import aggregate, document, group, reference, root, view_property

dice = random.Random()


def helper(number):
    return deeper(number)


def deeper(number):
    return number + time.time()


def pure(number):
    return number + 1


class Helper:
    def __init__(self):
        self.at = time.monotonic()


class Inner(bb.Struct):
    x: int

    @property
    def aged(self):
        return self.x + time.time()


class Note(bb.DomainModel, collection="notes"):
    text: str
    at: int = 0
    inner: Inner | None = None

    @property
    def is_old(self) -> bool:
        return self.at < time.time()

    @cached_property
    def cached(self) -> int:
        return time.time_ns()

    def method(self) -> int:
        return time.time_ns()

    @property
    def day(self) -> str:
        return moment.today().isoformat()


class Mine(aggregate.Custom):
    def empty(self):
        return 0

    def add(self, state, value):
        return state + random.randrange(3)

    retract = merge = add

    def result(self, state):
        return state
"""
VIEW = """

class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        note: Note = {root}

    store: Store
{body}

    def _hidden(self):
        return {hidden}

    @staticmethod
    def _static():
        return {hidden}

    @view_property
    def text(self):
        return {text}
"""
NOW, STORE = (
    'let the time come in as a document: today: Today = document(Today, "config/today")',
    "store it in a document when that is written",
)
SETTINGS = 'let it come in as a document: settings: Settings = document(Settings, "config/settings")'
DECIDES = 'store in the document what the clock decides (see "upcoming" in the cookbook)'
GETTERS: dict[str, tuple[str, str]] = {
    "datetime.datetime.now()": ("datetime.now", NOW),
    "dt.datetime.utcnow()": ("datetime.utcnow", NOW),
    "moment.now(datetime.timezone.utc)": ("datetime.now", NOW),
    "date.today()": ("date.today", NOW),
    "[moment.today() for _ in range(3)]": ("datetime.today", NOW),
    "time.time()": ("time.time", NOW),
    "(lambda: time.perf_counter_ns())()": ("time.perf_counter_ns", NOW),
    "time.gmtime()": ("time.gmtime", NOW),
    "random.random()": ("random.random", STORE),
    "choice([1, 2])": ("random.choice", STORE),
    "dice.randint(1, 6)": ("random.randint", STORE),
    "random.SystemRandom().random()": ("random.SystemRandom", STORE),
    "str(uuid4())": ("uuid.uuid4", STORE),
    "uuid.uuid1().hex": ("uuid.uuid1", STORE),
    "secrets.token_hex()": ("secrets.token_hex", STORE),
    "list(map(lambda _: os.urandom(3), [1]))": ("os.urandom", STORE),
    'os.environ["HOME"]': ("os.environ", SETTINGS),
    'os.getenv("HOME")': ("os.getenv", SETTINGS),
    'open("x").read()': ("open", SETTINGS),
    "helper(1)": ("time.time", NOW),
    "Helper()": ("time.monotonic", NOW),
    "self._hidden()": ("time.time", NOW),
    "self._static()": ("time.time", NOW),
    "self.store.note.is_old": ("time.time", NOW),
    "self.store.note.cached": ("time.time_ns", NOW),
    "self.store.note.method()": ("time.time_ns", NOW),
    "self.store.note.inner.aged": ("time.time", NOW),
}
PURE = [
    "self.store.note.text", "pure(1)", "time.gmtime(7)", "datetime.datetime(2026, 1, 1)", "random.Random(self.key).random()",
    "time.strftime('%Y', time.gmtime(0))", "uuid.uuid5(uuid.NAMESPACE_URL, self.key)", "datetime.timedelta(days=1)",
    "os.path.join('a', 'b')", "moment.fromtimestamp(0)", "self._hidden",
]  # fmt: skip


@pytest.fixture(name="make")
def _make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(text: str = "1", *, root: str = "root(Note)", body: str = "", hidden: str = "time.time()") -> list[str]:
        view = VIEW.replace("{root}", root).replace("{body}", body).replace("{hidden}", hidden).replace("{text}", text)
        (tmp_path / "noted.py").write_text(HEAD + view)
        importlib.invalidate_caches()
        sys.modules.pop("noted", None)
        module = importlib.import_module("noted")
        return warnings_of(compile_plan([module.Card]))

    yield make
    sys.modules.pop("noted", None)


@pytest.mark.parametrize(("text", "name", "fix"), [(text, *said) for text, said in GETTERS.items()], ids=GETTERS)
def test_a_getter(make: Any, text: str, name: str, fix: str) -> None:
    (warning,) = make(text)
    begin, end = f"Card.text: expected a value that depends only on documents, got {name} (noted.py:", f"); fix: {fix}"
    assert warning.startswith(begin)
    assert warning.endswith(end)


@pytest.mark.parametrize("text", PURE)
def test_a_pure_getter(make: Any, text: str) -> None:
    assert make(text, hidden="1" if text == "self._hidden" else "time.time()") == []


def test_the_line_is_that_of_the_call(make: Any) -> None:
    (warning,) = make("helper(1)")
    assert "(noted.py:26: return number + time.time())" in warning


def test_names_that_are_imported_within(make: Any) -> None:
    body = """
    @view_property
    def inner(self):
        import os.path
        from datetime import datetime as clock
        from random import random as chance
        import time as t
        return clock.now(), chance(), t.time(), os.path.sep
"""
    found = make(body=body)
    assert [one.partition(", got ")[2].partition(" (")[0] for one in found] == [
        "datetime.now",
        "random.random",
        "time.time",
    ]
    assert all(one.startswith("Card.inner: ") for one in found)


def test_all_that_a_user_writes(make: Any) -> None:
    body = """
    late = aggregate.count("note", where=lambda note: note.at < time.time())
    ages = aggregate.sum("note", of=lambda note: time.time() - note.at)
    days = aggregate.count_distinct("note", of="day")
    mine = aggregate.custom(Mine(), "note", of="at")

    def viewers(self):
        yield str(uuid4())
"""
    found = make(root="root(Note, where=lambda note: note.at < time.time())", body=body)
    assert sorted((one.partition(": expected")[0], one.partition("fix: ")[2]) for one in found) == [
        ("Card.Store.note: where=", DECIDES),
        ("Card.ages: of=", DECIDES),
        ("Card.days: of=", DECIDES),
        ("Card.late: where=", DECIDES),
        ("Card.mine: add()", STORE),
        ("Card.viewers()", STORE),
    ]


def test_keys_and_defaults(make: Any) -> None:
    text = HEAD.replace("at: int = 0", "at: int = bb.field(default_factory=time.time_ns)")
    view = """

class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        notes: dict[str, Note] = group(Note, by="day", order_by="is_old")

    store: Store
    num = aggregate.count("notes")
"""
    Path("keyed.py").write_text(text + view)
    importlib.invalidate_caches()
    sys.modules.pop("keyed", None)
    found = warnings_of(compile_plan([importlib.import_module("keyed").Card]))
    sys.modules.pop("keyed")
    assert [one.partition(", got ")[0] for one in found] == [
        "Card.Store.notes: by=: expected a value that depends only on documents",
        "Card.Store.notes: order_by=: expected a value that depends only on documents",
        "Note.at: default_factory=: expected a value that depends only on documents",
    ]


def test_the_views_of_the_tests_are_pure() -> None:
    for views in (shop.VIEWS, town.VIEWS):
        assert warnings_of(compile_plan(views)) == []
