"""The pages that a reader sees first: their code runs, their pictures and figures agree with what they show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.testing import render
from pipelines.cli import _cli
from tests.test_docs import OF_OTHERS, options

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [
    {"path": "authors/a1", "fields": {"name": "Italo Calvino"}},
    {"path": "books/b1", "fields": {"title": "Invisible Cities", "author": {"referenceValue": "authors/a1"}}},
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def module_of(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(text, name, "exec"), vars(module))
    return module


def test_the_first_page_shows_the_row_of_its_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    (view,) = blocks(DOCS / "index.md", "python")
    documents, row = (json.loads(block) for block in blocks(DOCS / "index.md", "json"))
    module = module_of("first_page", view, monkeypatch)
    assert render(module.BookCard, [{"path": path, "fields": fields} for path, fields in documents.items()]) == row


def test_the_first_view_prints_what_the_page_shows(tmp_path: Path) -> None:
    page = DOCS / "first_view.md"
    documents, *shown = blocks(page, "json")
    (tmp_path / "documents.jsonl").write_text(documents)
    (tmp_path / "library.py").write_text(blocks(page, "python")[0])
    _, *scripts = blocks(page, "sh")
    expected = [*shown, *blocks(page, "console")]
    for script, output in zip(scripts, expected, strict=True):
        done = subprocess.run(
            ["sh", "-ec", script.replace("boiler-beam", f"{sys.executable} -m pipelines.cli")], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        assert done.stdout.endswith(output)


def test_the_view_that_comes_from_flask_boiler_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    (view,) = blocks(DOCS / "migration.md", "python")
    module = module_of("from_flask_boiler", view, monkeypatch)
    rows = render(module.BookCard, DOCUMENTS)
    assert rows == {"book_cards/b1": {"headline": "Invisible Cities, by Italo Calvino"}}


def test_the_picture_shows_the_row_of_the_first_page() -> None:
    drawn = " ".join((DOCS / "pictures/overview-light.svg").read_text().split())
    _, row = (json.loads(block) for block in blocks(DOCS / "index.md", "json"))
    ((path, fields),) = row.items()
    for part in (path, f"numLoans: {fields['numLoans']}", f"meanDays: {fields['meanDays']}"):
        assert f">{part}<" in drawn


PICTURES = sorted({path.stem.rpartition("-")[0] for path in (DOCS / "pictures").glob("*.svg")})


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_same_in_light_and_dark(name: str) -> None:
    """But for the colours, which are all in its style."""
    texts = [(DOCS / f"pictures/{name}-{theme}.svg").read_text() for theme in ("light", "dark")]
    light, dark = (re.sub(r"#[0-9a-f]{6}", "", text) for text in texts)
    assert light == dark
    assert not re.search(r"#[0-9a-f]{6}", texts[0].partition("</style>")[2])
    root = ElementTree.fromstring(texts[0])
    namespace = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{namespace}title")
    assert root.findtext(f"{namespace}desc")


def test_every_picture_is_shown_in_light_and_dark() -> None:
    pages = "".join(path.read_text() for path in [*DOCS.glob("*.md"), ROOT / "README.md"])
    for name in PICTURES:
        assert all(f"pictures/{name}-{theme}.svg" in pages for theme in ("light", "dark"))


def measured(contender: str) -> set[str]:
    """All numbers in the rows of a contender on the page of performance."""
    lines = (DOCS / "performance.md").read_text().splitlines()
    return {cell.strip() for line in lines if line.startswith(f"| {contender} |") for cell in line.split("|")[2:]}


def readme_figures() -> list[tuple[str, list[str]]]:
    table = re.findall(r"^\| .*\| `([\w ,:`]+)` \|(.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return [(contender, re.findall(r"[\d.,]+\d", cells)) for contender, cells in table]


def test_the_figures_of_the_readme_are_those_of_the_page() -> None:
    figures = readme_figures()
    assert len(figures) > 4
    for contender, numbers in figures:
        known: set[Any] = (
            measured(contender) | measured(f"{contender}, `memory:`") | measured(f"{contender}, `sqlite:`")
        )
        assert set(numbers) <= known, f"{contender}: docs/performance.md has other figures; fix: take them from there"


@pytest.mark.parametrize(
    "page", ["README.md", "docs/first_view.md", "docs/faq.md", "docs/migration.md", "docs/costs.md"]
)
def test_the_options_that_a_page_names_exist(page: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", (ROOT / page).read_text()))
    assert named - OF_OTHERS - options(_cli) == set()


def test_the_commands_that_pages_name_exist() -> None:
    named = {
        (path.name, command)
        for path in [*DOCS.rglob("*.md"), ROOT / "README.md"]
        for command in re.findall(r"boiler-beam ([a-z][a-z-]+)", path.read_text())
    }
    assert len(named) > 10
    assert {one for one in named if one[1] not in _cli.commands} == set()
