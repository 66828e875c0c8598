"""Compares the rows that a contender wrote with the expected ones, row by row.

    python benchmarks/check.py expected.jsonl OUTPUT_FILE...

prints `{"rows": 10200, "wrong": 0, "first_wrong": null}` and exits with 1 if a row is wrong, missing or unexpected. It
reads the output of `jsonl:` (`{"path", "generation", "version", "seq", "fields"}`), lines of `{"path", "fields"}`, and
lines whose columns are the fields, with or without Pathway's `diff` and `time`. All are logs: a later line of a path
replaces an earlier one; null fields or a `diff` of -1 delete the row.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Rows = dict[str, dict[str, Any]]


def _newer(line: dict[str, Any]) -> tuple[int, ...]:
    """Returns the sort key of a line: its stamp, or Pathway's time, with retractions first at the same time."""
    return tuple(line.get(name, 0) for name in ("generation", "version", "seq", "time", "diff"))


def read_rows(files: Iterable[Path]) -> Rows:
    """Returns the current rows after all lines of all files, by path."""
    lines: list[dict[str, Any]] = []
    for file in files:
        with file.open() as opened:
            lines += map(json.loads, opened)
    rows: Rows = {}
    for line in sorted(lines, key=_newer):
        path = line.pop("path")
        deleted = line.pop("diff", 1) < 0
        line.pop("time", None)
        fields = line.get("fields", line)
        if deleted or fields is None:
            rows.pop(path, None)
        else:
            rows[path] = fields
    return rows


def compare(expected: Rows, got: Rows) -> dict[str, Any]:
    """Returns the number of rows, the number of wrong rows, and the first wrong one."""
    wrong = sorted(path for path in expected.keys() | got.keys() if expected.get(path) != got.get(path))
    first = {"path": wrong[0], "expected": expected.get(wrong[0]), "got": got.get(wrong[0])} if wrong else None
    return {"rows": len(got), "wrong": len(wrong), "first_wrong": first}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compares a contender's rows with the expected ones.")
    parser.add_argument("expected", type=Path)
    parser.add_argument("output", type=Path, nargs="+")
    arguments = parser.parse_args()
    result = compare(read_rows([arguments.expected]), read_rows(arguments.output))
    print(json.dumps(result))
    sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
