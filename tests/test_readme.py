"""Runs the code blocks of the README, and compares their output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.errors import DeclarationError
from boiler_beam.plan import compile_plan

ROOT = Path(__file__).resolve().parent.parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def test_the_view_in_twenty_lines_gives_its_output(tmp_path: Path) -> None:
    (view,) = blocks("python")
    documents, output = blocks("json")
    commands = blocks("sh")[1].splitlines()
    assert commands[0] == "pip install ."
    (tmp_path / "views.py").write_text(view)
    (tmp_path / "documents.jsonl").write_text(documents)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = "\n".join(commands[1:])
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.endswith(output)


def test_the_view_is_short() -> None:
    (view,) = blocks("python")
    lines = view.partition("class BookCard")[2].splitlines()
    assert len(lines) <= 20


def test_the_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"^make ([a-z-]+)", blocks("sh")[0], re.MULTILINE):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)


def test_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r' src(?:set)?="([^"]+)"', text)
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_first_views_mistakes_are_told_as_written() -> None:
    text = (ROOT / "docs" / "first_view.md").read_text()
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    sources = [block for language, block in found if language == "python"]
    said = [block for language, block in found if language == "text"]
    base, *mistakes, testing = sources
    models = base.partition("class BookCard")[0]
    assert len(mistakes) == len(said) == 3
    for source, expected in zip(mistakes, said, strict=True):
        namespace: dict[str, Any] = {"__name__": "library"}
        sys.modules["library"] = types.ModuleType("library")
        exec(models + source, namespace)
        vars(sys.modules["library"]).update(namespace)
        with pytest.raises(DeclarationError) as caught:
            compile_plan([namespace["BookCard"]])
        assert f"{caught.value}\n" == expected
    namespace = {"__name__": "library"}
    exec(base, namespace)
    vars(sys.modules["library"]).update(namespace)
    exec(testing, namespace)
    del sys.modules["library"]
