"""The page "Use it from Python": its programs print what it says; the reference lists what there is."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import boiler_beam
from boiler_beam import program
from boiler_beam.program import reports

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text()
REFERENCE = (ROOT / "docs" / "api.md").read_text()
SECTIONS = {section.partition("\n")[0]: section for section in PAGE.split("\n## ")[1:]}
STREAM = "A stream in one script"


def block(section: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)
    return str(found)


def command(folder: Path, script: str) -> list[str]:
    (folder / "script.py").write_text(script)
    return [sys.executable, "script.py"]


def untimed(text: str) -> str:
    return re.sub(r"[\d.]+ seconds", "... seconds", text)


def test_the_stream_is_a_script_of_fifteen_lines() -> None:
    assert len([line for line in block(STREAM, "python").splitlines() if line]) <= 15


def test_the_stream_prints_what_the_page_says(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background hands its ignorance down
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(2):  # the second run goes on
        process = subprocess.Popen(
            command(tmp_path, block(STREAM, "python")), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            subprocess.run(["sh", "-ec", block(STREAM, "sh")], cwd=tmp_path, check=True)
            assert process.stdout is not None
            assert process.stdout.readline() == block(STREAM, "text")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 0
    assert (tmp_path / "rows.db.state.db").exists()


@pytest.mark.parametrize("section", ["A backfill", "A stream", "Connector objects", "Questions"])
def test_a_program_prints_what_the_page_says(section: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if section == "Questions":  # it compares with the rows of the backfill
        script = command(tmp_path, block("A backfill", "python"))
        subprocess.run(script, cwd=tmp_path, env=environment, check=True, capture_output=True)
    done = subprocess.run(
        command(tmp_path, block(section, "python")), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert untimed(done.stdout) == untimed(block(section, "text"))


def test_nothing_of_it_imports_beam(tmp_path: Path) -> None:
    script = f"{block('A backfill', 'python')}\n{block('A stream', 'python')}\nimport sys; print('apache_beam' in sys.modules)"
    done = subprocess.run(
        command(tmp_path, script), cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"


def test_importing_the_package_loads_no_engine() -> None:
    """`import boiler_beam` stays fast: the engine, connectors and rich come when they are asked for."""
    code = "import sys, boiler_beam; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    slow = {
        "boiler_beam.program",
        "boiler_beam.engine",
        "boiler_beam.connectors",
        "rich",
        "click",
        "sqlite3",
        "importlib.metadata",
    }
    assert loaded & slow == set()


def shown(value: inspect.Parameter) -> str:
    return value.name if value.default is value.empty else f"{value.name}={value.default!r}".replace("'", '"')


@pytest.mark.parametrize("name", ["backfill", "follow", "explain", "diff", "why", "check"])
def test_the_reference_has_the_signature(name: str) -> None:
    parameters = inspect.signature(getattr(boiler_beam, name)).parameters.values()
    plain = [shown(one) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    named = [shown(one) for one in parameters if one.kind is one.KEYWORD_ONLY]
    written = re.sub(r"\s+", " ", REFERENCE).replace("( ", "(").replace(", )", ")")
    assert f"boiler_beam.{name}({', '.join([*plain, '*', *named])})" in written


def fields(kind: Any) -> set[str]:
    """The public fields and properties of a class."""
    if dataclasses.is_dataclass(kind):
        found = {one.name for one in dataclasses.fields(kind)}
    else:
        found = set(getattr(kind, "_fields", getattr(kind, "__struct_fields__", ())))
    return found | {
        name for name, one in inspect.getmembers(kind) if not name.startswith("_") and isinstance(one, property)
    }


@pytest.mark.parametrize(
    "name", [*reports.__all__, "Running", "Explanation", "Differences", "Difference", "Check", "Why"]
)
def test_the_reference_has_each_field(name: str) -> None:
    section = REFERENCE.partition("## From Python")[2].partition("\n## ")[0]
    (row,) = re.findall(rf"^\| `{name}` \|.*$", section, re.MULTILINE)
    assert sorted(fields(getattr(program, name)) - set(re.findall(r"`(\w+)", row))) == []


def test_the_reference_has_each_public_name() -> None:
    for name in boiler_beam.__all__:
        assert re.search(rf"\b{re.escape(name)}\b", REFERENCE), name
    for name in program.__all__:
        assert f"`{name}`" in REFERENCE or f"boiler_beam.{name}(" in REFERENCE, name
