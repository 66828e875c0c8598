"""Runs the examples of the documentation, and compares their output; checks options, messages and words."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pipelines.cli import _cli

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = doctest.ELLIPSIS


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["following_a_change.md", "following_a_change_on_beam.md", "writing.md"])
def test_a_page_prints_what_it_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the page makes a state file
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    text = "".join(blocks(page, "pycon"))
    runner.run(doctest.DocTestParser().get_doctest(text, {}, page, None, None))
    assert runner.summarize(verbose=False) == (0, text.count(">>> "))


def test_following_a_change_needs_only_the_installed_package() -> None:
    text = "".join(blocks("following_a_change.md", "pycon"))
    imported = re.findall(r"^>>> (?:from|import) (\w+)", text, re.MULTILINE)
    assert set(imported) == {"boiler_beam", "msgspec"}


def test_following_a_change_passes_the_modules_that_it_names() -> None:
    """At most eight modules, each of which is there."""
    rows = re.findall(r"^\| (\d) \| `([\w/.]+)` \|", (ROOT / "docs/following_a_change.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert 6 <= len(rows) <= 8
    assert [path for _, path in rows if not (ROOT / "boiler_beam" / path).exists()] == []


def test_the_rows_of_both_modes_are_those_of_the_page(tmp_path: Path) -> None:
    (view,) = blocks("consistency.md", "python")
    documents, eventual, commit = blocks("consistency.md", "json")
    (tmp_path / "bank.py").write_text(view)
    (tmp_path / "changes.jsonl").write_text(documents)
    command = f"{sys.executable} -m pipelines.cli"
    for script, rows in zip(blocks("consistency.md", "sh"), (eventual, commit), strict=True):
        done = subprocess.run(
            ["sh", "-ec", script.replace("boiler-beam", command)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        assert done.stdout.endswith(rows)


def test_the_architecture_page_names_code_that_is_there() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`([\w/]+\.py)`(?: \(((?:`\w+`(?:, )?)+)\))?", page)
    assert len(named) > 60
    for path, names in named:
        is_elsewhere = path.startswith(("transforms/", "pipelines/", "tests/", "boiler_beam/"))
        code = (ROOT / path if is_elsewhere else ROOT / "boiler_beam" / path).read_text()
        for name in re.findall(r"\w+", names):
            assert re.search(rf"\b{name}\b", code), f"{path}: {name}"


def test_the_architecture_page_says_each_rule_that_code_names() -> None:
    rules = re.findall(r"^\| (S\d+a?) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    files = [
        path for folder in ("boiler_beam", "transforms", "pipelines", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    named = {rule for path in files if path != Path(__file__) for rule in re.findall(r"\bS\d+a?\b", path.read_text())}
    assert named <= set(rules)
    assert len(rules) == len(set(rules))


def options(command: click.Command) -> set[str]:
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    own = {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("--")}
    return own.union({"--help", "--version"}, *map(options, inner))


OF_OTHERS = {"--setup_file", "--experiments", "--dataflow_service_options", "--prism_location"}
OF_OTHERS |= {"--host-port", "--project", "--quiet", "--collection-group", "--enable-ttl"}


@pytest.mark.parametrize(
    "page", ["streaming.md", "command_line.md", "consistency.md", "dead_letters.md", "rows.md", "firestore.md"]
)
def test_the_options_that_a_page_names_exist(page: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", (ROOT / "docs" / page).read_text()))
    assert named - OF_OTHERS - options(_cli) == set()


def test_every_option_of_a_run_is_in_the_table() -> None:
    text = (ROOT / "docs/command_line.md").read_text()
    (run,) = [command for name, command in _cli.commands.items() if name == "run"]
    assert [name for name in sorted(options(run) - {"--help", "--version"}) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", ["streaming.md", "firestore.md"])
def test_the_errors_are_said_as_the_table_says(page: str) -> None:
    """Each quoted part of a message is in the code."""
    sources = [
        path for package in ("boiler_beam", "pipelines", "transforms") for path in (ROOT / package).rglob("*.py")
    ]
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in sources))
    table = (ROOT / "docs" / page).read_text().partition("## What can go wrong")[2]
    quoted = [
        part for line in table.splitlines() if line.startswith("| `") for part in line.split("|")[1].split("`")[1::2]
    ]
    assert len(quoted) > 15
    assert [part for part in quoted if part not in code] == []


def test_the_first_stream_prints_what_the_page_says(tmp_path: Path) -> None:
    (script,) = blocks("streaming.md", "sh")
    for said in blocks("streaming.md", "text"):
        done = subprocess.run(
            ["sh", "-ec", script.replace("python", sys.executable, 1)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        without_time = re.compile(r", [\d.]+ seconds$")
        assert without_time.sub("", done.stdout.splitlines()[-1]) == without_time.sub("", said.strip())


GLOSSARY = re.findall(r"^(\S.*)\n: (.*(?:\n  .*)*)", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)


def test_the_glossary_has_each_term_once_in_order() -> None:
    sections = (ROOT / "docs/glossary.md").read_text().split("\n## ")[1:]
    terms = [re.findall(r"^(\S.*)\n: ", section, re.MULTILINE) for section in sections]
    assert [sorted(one, key=str.lower) for one in terms] == terms
    assert len(GLOSSARY) == len({term for term, _ in GLOSSARY}) > 60


def test_the_glossary_explains_words_that_are_used() -> None:
    pages = [path for path in [*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")] if path.name != "glossary.md"]
    modules = [
        path for package in ("boiler_beam", "pipelines", "transforms") for path in (ROOT / package).rglob("*.py")
    ]
    text = " ".join(" ".join(path.read_text() for path in [*pages, *modules]).lower().replace("-", " ").split())
    terms = [term.lower().replace("-", " ") for term, _ in GLOSSARY]
    assert [term for term in terms if not all(name in text for name in term.split(", "))] == []
    assert "docs/glossary.md" in (ROOT / "README.md").read_text()


DOCSTRINGS_WITHOUT_MEANING = re.compile(r'"""(See `[^"\n]*|S\d+[a-z]?(, S\d+[a-z]?)*\.?)"""')


@pytest.mark.parametrize(
    "folder",
    ["boiler_beam", "transforms", "pipelines", "tests"],
)
def test_no_docstring_only_refers_to_another_place(folder: str) -> None:
    """A docstring says what the thing does: not `See X`, and not only the number of a rule."""
    paths = (ROOT / folder).rglob("*.py")
    assert [path.name for path in paths if DOCSTRINGS_WITHOUT_MEANING.search(path.read_text())] == []
