"""Views whose rows depend on more than documents, by command line and in `testing.render`: warnings and findings."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boiler_beam import testing
from boiler_beam.errors import BoilerBeamError
from boiler_beam.inspection import purity
from boiler_beam.plan import compile_plan
from boiler_beam.testing import render
from tests.helpers import programs
from tests.pipelines.test_streams import environment

VIEWS = """
import datetime
import itertools
import random

import boiler_beam as bb
from boiler_beam import group, root, view_property

count = itertools.count()
last = []


class Note(bb.DomainModel, collection="notes"):
    text: str
    kind: str = "k"


class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        note: Note = root(Note)

    store: Store

    @view_property
    def text(self):
        return self.store.note.text

    @view_property
    def {name}(self):
        return {value}


class Kind(bb.ViewModel, path="kinds/{{kind}}/of/{{id}}"):
    class Store(bb.Store):
        notes: dict[str, Note] = group(Note, by="kind")

    store: Store

    def paths(self):
        return [{{"kind": {path}}}]

    @view_property
    def size(self):
        return len(self.store.notes)
"""
WORDS = 'self.store.note.text.split(" ")'
IMPURE = {
    "clock": "datetime.datetime.now().isoformat()",
    "chance": "random.random()",
    "counter": "next(count)",
    "order": f"(last.append({WORDS}[0]), len(last))[1]",
    "words": f"list(set({WORDS}))",
    "hashed": f"hash({WORDS}[0]) % 1000",
    "seen": f"[word for word in {{word for word in {WORDS}}}]",
}
BY_SEED = {"words", "hashed", "seen"}
PURE = {
    "sorted": f"sorted(set({WORDS}))",
    "member": f"{WORDS}[0] in {{'a', 'b'}}",
    "plain": "self.text.upper()",
}
DOCUMENTS = [
    {"path": f"notes/n{number}", "version": number, "fields": {"text": f"one two three four {number}"}}
    for number in range(1, 7)
]


def text_of(name: str, value: str, path: str = "self.key") -> str:
    return VIEWS.format(name=name, value=value, path=path)


def text_of_all(properties: dict[str, str]) -> str:
    """A view with some properties: one check of all of them starts the processes with other hash seeds once."""
    more = "".join(
        f"\n    @view_property\n    def {name}(self):\n        return {value}\n" for name, value in properties.items()
    )
    return text_of("one", "1").replace("\n\nclass Kind", f"{more}\n\nclass Kind", 1)


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "notes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in DOCUMENTS))
    command = [sys.executable, "-m", "pipelines.cli", *arguments, "--views", "lib", "--source", "file:notes.jsonl"]
    return programs.run(command, folder, environment())


def test_check_names_each_property_that_differs(tmp_path: Path) -> None:
    (tmp_path / "lib.py").write_text(text_of_all(IMPURE))
    done = cli(tmp_path, "check")
    lines = [one for one in done.stdout.splitlines() if "whenever it is computed" in one]
    assert sorted(re.findall(r"^Card\.(\w+):", "\n".join(lines), re.MULTILINE)) == sorted(IMPURE)
    for line in lines:
        name = line.removeprefix("Card.").partition(":")[0]
        fix = "sort what comes out of a set" if name in BY_SEED else "compute it from documents alone"
        under = " under another hash seed" if name in BY_SEED else ""
        pattern = (
            rf"Card\.{name}: expected the same value whenever it is computed, got .+, then .+{under} "
            rf"\(in [1-6] rows, e\.g\. cards/n[1-6]\); fix: {fix}"
        )
        assert re.fullmatch(pattern, line), line
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, f"{len(IMPURE)} problems")


def test_check_says_nothing_of_pure_views(tmp_path: Path) -> None:
    (tmp_path / "lib.py").write_text(text_of_all(PURE))
    done = cli(tmp_path, "check")
    assert (done.returncode, done.stdout) == (0, "notes: 6 documents\nno problems\n"), done.stderr


def test_paths_that_differ(tmp_path: Path) -> None:
    (tmp_path / "lib.py").write_text(text_of("plain", "1", path="str(next(count))"))
    done = cli(tmp_path, "check")
    assert "Kind.paths(): expected the same value whenever it is computed, got " in done.stdout


def test_a_clock_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "lib.py").write_text(text_of("clock", "datetime.date.today().isoformat()"))
    warning = (
        "warning: Card.clock: expected a value that depends only on documents, got date.today "
        "(lib.py:30: return datetime.date.today().isoformat()); fix: let the time come in as a document: "
        'today: Today = document(Today, "config/today")'
    )
    run = cli(tmp_path, "run", "--sink", "jsonl:rows.jsonl")
    assert (run.returncode, run.stderr.splitlines()) == (0, [warning])
    stream = cli(tmp_path, "run", "--sink", "jsonl:rows.jsonl", "--mode", "stream")
    assert (stream.returncode, stream.stderr.splitlines()[0]) == (0, warning)
    assert cli(tmp_path, "explain").stdout.count(warning) == 1
    check = cli(tmp_path, "check")
    assert (check.returncode, check.stdout.splitlines()[0]) == (0, warning), "today does not differ within a second"
    (tmp_path / "lib.py").write_text(text_of("plain", "1"))
    assert cli(tmp_path, "run", "--sink", "jsonl:other.jsonl").stderr == ""


@pytest.fixture(autouse=True)
def _not_rendered_yet() -> None:
    """How often a view was rendered under other seeds is counted by its name, which is the same in each test."""
    testing._times.cache_clear()


@pytest.fixture(name="loaded")
def _loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(name: str, value: str) -> Any:
        sys.modules.pop("lib", None)
        (tmp_path / "lib.py").write_text(text_of(name, value))
        importlib.invalidate_caches()
        return importlib.import_module("lib").Card

    yield load
    sys.modules.pop("lib", None)


@pytest.mark.parametrize(("name", "value"), IMPURE.items())
def test_render_names_a_property_that_differs(loaded: Any, name: str, value: str) -> None:
    view = loaded(name, value)
    with pytest.raises(BoilerBeamError, match=rf"^Card\.{name}: expected the same value whenever it is computed, got "):
        render(view, DOCUMENTS)


@pytest.mark.parametrize(("name", "value"), PURE.items())
def test_render_gives_the_rows_of_a_pure_view(loaded: Any, name: str, value: str) -> None:
    assert len(render(loaded(name, value), DOCUMENTS)) == 6


@pytest.mark.parametrize(("name", "value"), [*IMPURE.items(), *PURE.items()])
def test_other_seeds_are_tried_where_sets_are_made(loaded: Any, name: str, value: str) -> None:
    view = loaded(name, value)
    assert purity.asks_seed(compile_plan([view])) is (name in BY_SEED | {"sorted", "member"})


def test_a_view_that_no_other_process_can_import_is_not_tried_there(loaded: Any) -> None:
    view = loaded("words", IMPURE["words"])
    view.__module__ = "nowhere_to_be_found"
    assert len(render(view, DOCUMENTS)) == 6


def test_another_process_that_fails_is_told(loaded: Any, tmp_path: Path) -> None:
    view = loaded("words", IMPURE["words"])
    (tmp_path / "lib.py").write_text("raise SystemError('broken meanwhile')\n")
    with pytest.raises(BoilerBeamError, match="expected rows, got SystemError: broken meanwhile"):
        render(view, DOCUMENTS)


def test_a_tainted_row_is_named_by_check(tmp_path: Path) -> None:
    (tmp_path / "lib.py").write_text(text_of("plain", "1"))
    DOCUMENTS.append({"path": "notes/n9", "version": 9, "fields": {"text": 7}})
    try:
        done = cli(tmp_path, "check")
    finally:
        DOCUMENTS.pop()
    assert done.stdout.splitlines()[1:] == [
        "  1 x invalid_document: Note: Expected `str`, got `int` - at `$.text` (e.g. notes/n9 at file:notes.jsonl:7)",
        "Card: an invalid document may belong to 1 row: cards/n9 (notes/n9)",
        "Kind: an invalid document may belong to 1 row: kinds/{kind}/of/k (notes/n9)",
        "1 problems",
    ]
