"""What users write passes mypy and pyright, both strict: views with types stated, all examples, and the pages' code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent
WRITTEN = [
    ROOT / "tests/typing/views.py",
    *(ROOT / "examples").glob("*.py"),
    *(ROOT / "boiler_beam/samples").glob("*.py"),
]
COOKBOOK_HEAD = """
from collections.abc import Iterator
from datetime import datetime

import boiler_beam as bb
from boiler_beam import Ref, group, referrers, root, view_property
"""


def pages(folder: Path) -> list[Path]:
    """Writes each Python block that is a whole module as one, and the cookbook's classes as one; returns the files."""
    found = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        texts = [block for block in blocks if re.search(r"^import boiler_beam as bb$", block, re.MULTILINE)]
        for number, text in enumerate(texts):
            found.append(folder / f"page_{page.stem}_{number}.py")
            found[-1].write_text(text)
    indented = re.findall(
        r"^  ```python\n(.*?)^  ```", (ROOT / "docs/cookbook.md").read_text(), re.DOTALL | re.MULTILINE
    )
    classes = [re.sub(r"(?m)^  ", "", one) for one in indented if one.startswith("  class ")]
    found.append(folder / "page_cookbook.py")
    found[-1].write_text(COOKBOOK_HEAD + "\n\n".join(classes))
    return found


def checked(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_pages_have_paths_and_keys_with_types(tmp_path: Path) -> None:
    text = "".join(path.read_text() for path in pages(tmp_path))
    assert "def paths(self) -> Iterator[dict[str, str]]:" in text
    assert "key: tuple[str, str]" in text


def test_mypy_accepts_what_users_write(tmp_path: Path) -> None:
    cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
    files = [str(path) for path in [*WRITTEN, *pages(tmp_path)]]
    assert checked(["mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), *cache, *files], ROOT) == ""


@pytest.mark.slow
def test_pyright_accepts_what_users_write(tmp_path: Path) -> None:
    pytest.importorskip("pyright", reason="pyright is not installed; fix: make dev")
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    pages(tmp_path)
    written = [os.path.relpath(path, tmp_path) for path in WRITTEN]
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({**config, "include": [".", *written], "extraPaths": [os.path.relpath(ROOT, tmp_path)]})
    )
    assert checked(["pyright", "--pythonpath", sys.executable], tmp_path) == ""
