"""The pages of the documentation that show what programs do: what they show is what happens."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = doctest.ELLIPSIS


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


def test_following_a_change_shows_the_messages_as_they_are() -> None:
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    text = "".join(blocks("following_a_change.md", "pycon"))
    runner.run(doctest.DocTestParser().get_doctest(text, {}, "following_a_change.md", None, None))
    assert runner.summarize(verbose=False) == (0, text.count(">>> "))


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
