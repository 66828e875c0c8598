"""The position of a user's error: the last line of the user's code, also if it called a library."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.plan import compile_plan
from boiler_beam.raised import raised
from tests.helpers.executors import embedded, partitioned
from tests.helpers.histories import changes

VIEWS = """
import json

import boiler_beam as bb
from boiler_beam import aggregate, group, reference, root, view_property


def halved(number):
    return 1 / number


class Note(bb.DomainModel, collection="notes"):
    number: int

    @property
    def half(self) -> float:
        return halved(self.number)


class Mine(aggregate.Custom):
    def empty(self):
        return 0

    def add(self, state, value):
        return state + 1 // (value - 1)

    retract = merge = add

    def result(self, state):
        return 1 / (state - 1)


class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        note: Note = root(Note)
        others: Note | None = reference("note.doc_id", optional=True, to=Note, where=lambda note: note.half)

    store: Store
    total = aggregate.sum("note", of=lambda note: {}["of"])

    @view_property
    def own(self):
        return halved(self.store.note.number)

    @view_property
    def library(self):
        return json.loads("{")

    @view_property
    def unstorable(self):
        return {1, 2}

    def viewers(self):
        yield self.store.note.nothing


class Tally(bb.ViewModel, collection="tallies"):
    class Store(bb.Store):
        notes: dict[str, Note] = group(Note, by="kind")

    store: Store
    mine = aggregate.custom(Mine(), "notes", of="number")
"""


@pytest.fixture(name="views")
def _views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "noted.py").write_text(VIEWS.replace('by="kind"', 'by="doc_id"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("noted")
    del sys.modules["noted"]


def only(view: type[Any], name: str) -> type[Any]:
    """Returns the view with one of its properties."""
    kept = {key: value for key, value in vars(view).items() if key in ("Store", name)}
    return type(view.__name__, view.__bases__, {**kept, "__module__": view.__module__}, collection="made")


CASES = {
    "own": "Card.own raised ZeroDivisionError: division by zero (noted.py:9: return 1 / number)",
    "library": (
        "Card.library raised JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 "
        '(char 1) (noted.py:47: return json.loads("{"))'
    ),
    "unstorable": (
        "Card.unstorable raised TypeError: Firestore has no type for set ({1, 2}) (noted.py:50: def unstorable(self):)"
    ),
}


@pytest.mark.parametrize(("name", "message"), CASES.items())
def test_a_getter(views: Any, name: str, message: str) -> None:
    plan = compile_plan([only(views.Card, name)])
    for run in (embedded, partitioned):
        (letter,) = [
            one for one in run(plan, changes([("notes/1", 1, {"number": 0})])).letters if one.stage == "render"
        ]
        assert (letter.code, letter.message) == ("getter_raised", message)


def test_viewers_functions_and_properties(views: Any) -> None:
    plan = compile_plan([views.Card])
    for run in (embedded, partitioned):
        messages = {one.message for one in run(plan, changes([("notes/1", 1, {"number": 0})])).letters}
        assert messages == {
            CASES["own"],
            "Card: where= of others raised ZeroDivisionError: division by zero (noted.py:9: return 1 / number)",
            "Card: aggregate total raised KeyError: 'of' "
            '(noted.py:39: total = aggregate.sum("note", of=lambda note: {}["of"]))',
        }


def test_viewers(views: Any) -> None:
    card = only(views.Card, "viewers")
    card.name = views.bb.view_property(lambda self: "")
    plan = compile_plan([card])
    (letter,) = embedded(plan, changes([("notes/1", 1, {"number": 1})])).letters
    assert letter.message == (
        "Card.viewers raised AttributeError: 'Note' object has no attribute 'nothing' "
        "(noted.py:54: yield self.store.note.nothing)"
    )


def test_an_aggregate_of_ones_own(views: Any) -> None:
    plan = compile_plan([views.Tally])
    refused, unfinished = ("notes/1", 1, {"number": 1}), ("notes/2", 2, {"number": 2})
    for run in (embedded, partitioned):
        letters = {one.path: one.message for one in run(plan, changes([refused, unfinished])).letters}
        assert letters == {
            "notes/1": "Tally: aggregate mine raised ZeroDivisionError: integer division or modulo by zero "
            "(noted.py:25: return state + 1 // (value - 1))",
            "tallies/2": "Tally.mine raised ZeroDivisionError: division by zero (noted.py:30: return 1 / (state - 1))",
        }


def test_a_package_that_is_installed_is_the_users_where_boiler_beam_called_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a worker the package with the views is installed like the libraries."""
    (tmp_path / "helping.py").write_text("def deep(x):\n    return x.nothing\n")
    (tmp_path / "viewing.py").write_text("import helping\n\n\ndef getter(x):\n    return helping.deep(x)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    paths = {"stdlib": "/nowhere", "platstdlib": "/nowhere", "purelib": str(tmp_path), "platlib": str(tmp_path)}
    monkeypatch.setattr("boiler_beam.raised.sysconfig.get_paths", lambda: paths)
    monkeypatch.setattr(
        "boiler_beam.raised._libraries", importlib.import_module("boiler_beam.raised")._libraries.__wrapped__
    )
    with pytest.raises(AttributeError) as caught:
        importlib.import_module("viewing").getter(7)
    error = caught.value.with_traceback(caught.value.__traceback__.tb_next)  # type: ignore[union-attr]
    assert raised(error).endswith("(viewing.py:5: return helping.deep(x))")
