"""docs/modes.md: the tests that it names exist, and its figures are those of the page on performance."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "modes.md").read_text()
MODES = ["Rest", "Query", "Query and Task", "WebSocket", "Document"]
FIGURES = (ROOT / "docs" / "performance.md").read_text()


@pytest.mark.parametrize("mode", MODES)
def test_the_tests_that_hold_a_mode_exist(mode: str) -> None:
    (text,) = re.findall(rf"^## {mode}\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
    named = re.findall(r"^\* `([\w/]+\.py)::(\w+)`$", text, re.MULTILINE)
    assert len(named) >= 2
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}: {name}"


def test_its_figures_are_measured() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith(("| latency", "| throughput"))]
    assert len(lines) == 2
    for number in re.findall(r"\d+(?:\.\d+)? ?(?:ms|changes/s)?", " ".join(lines).replace("p50", "")):
        assert number.split()[0] in FIGURES, number
