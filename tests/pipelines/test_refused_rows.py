"""Rows that Firestore refuses, by command line: counted as refused; messages name the broken rule and its position."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import programs
from tests.helpers.firestore import Application
from tests.pipelines.test_streams import environment

VIEWS = """
from typing import Any

import boiler_beam as bb
from boiler_beam import root, view_property


class Thing(bb.DomainModel, collection="things"):
    kind: str


class Shape(bb.ViewModel, collection="shapes"):
    class Store(bb.Store):
        thing: Thing = root(Thing)

    store: Store

    @view_property
    def v(self) -> Any:
        deep: Any = 1
        for _ in range(25):
            deep = {"d": deep}
        shapes = {
            "arrays": [{"w": [[1, 2], [3]]}],
            "empty": {"w": {"": 1}},
            "long": {"k" * 1600: 1},
            "deep": deep,
            "reserved": {"__x__": 1},
            "dots": {"a.b": {"c`d": 1}},
        }
        return shapes.get(self.store.thing.kind, self.store.thing.kind)
"""
KINDS = ["arrays", "empty", "long", "deep", "reserved", "dots", "good"]
EXECUTORS = {
    "backfill": [],
    "backfill on Beam": ["--runner", "DirectRunner"],
    "stream": ["--mode", "stream"],
    "stream on Beam": ["--mode", "stream", "--runner", "DirectRunner"],
}
SAID = {
    "shapes/arrays": "an array in an array at v[0].w[0]; an array in an array at v[0].w[1]",
    "shapes/empty": "an empty key in v.w",
    "shapes/long": f"a key of 1,600 bytes at v.`{'k' * 40}...`, more than 1,500",
    "shapes/deep": "25 levels of maps and arrays in v, more than 20",
    "shapes/reserved": "a key of the form __x__, which Firestore reserves, at v.__x__",
}


def write(folder: Path, version: int, **kinds: str) -> None:
    lines = [{"path": f"things/{name}", "version": version, "fields": {"kind": kind}} for name, kind in kinds.items()]
    (folder / "things.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(folder: Path, sink: str, *more: str) -> tuple[dict[str, str], str, list[dict[str, Any]]]:
    """Returns the view's counts in the table, the last line, and the dead letters."""
    (folder / "shapes.py").write_text(VIEWS)
    (folder / "letters.jsonl").unlink(missing_ok=True)
    command = [sys.executable, "-m", "pipelines.main", "--views", "shapes", "--source", "file:things.jsonl"]
    command += ["--sink", sink, "--dead_letter", "jsonl:letters.jsonl", "--row_seconds", "0", *more]
    done = programs.run(command, folder, environment())
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    (head,) = [line.split() for line in lines if line.split()[:1] == ["view"]]
    (numbers,) = [line.split() for line in lines if line.split()[:1] == ["Shape"] and "(" not in line]
    path = folder / "letters.jsonl"
    letters = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return dict(zip(head[1:], numbers[1:], strict=True)), lines[-1], letters


@pytest.mark.parametrize(
    "executor", [pytest.param(one, marks=[pytest.mark.beam] * ("Beam" in one)) for one in EXECUTORS]
)
def test_they_are_not_counted_as_written(executor: str, firestore_emulator: str, project: str, tmp_path: Path) -> None:
    more, sink = EXECUTORS[executor], f"firestore:{project}"
    write(tmp_path, 1, **{kind: kind for kind in KINDS})
    table, last, letters = run(tmp_path, sink, *more)
    assert table["refused"] == "5"
    assert table["written" if "rows" in table else "inserted"] == "2"
    assert table.get("rows", "2") == "2"
    assert "7 documents, 7 changes, 2 rows, 5 dead letters" in last
    begin, end = "expected a row that Firestore accepts, got ", "; fix: change the view"
    assert {one["path"]: one["message"] for one in letters} == {path: begin + said + end for path, said in SAID.items()}
    assert {one["code"] for one in letters} == {"row_refused"}
    application = Application(project)
    assert set(application.rows("shapes")) == {"shapes/good", "shapes/dots"}
    write(tmp_path, 2, **{kind: kind for kind in KINDS} | {"good": "arrays", "empty": "fine"})
    table, last, letters = run(tmp_path, sink, *more)
    assert table["refused"] == "5"
    if "rows" in table:
        stood = "3" if "Beam" in executor else "2"  # the rows in the sink, or the last emissions of this state
        assert (table["rows"], table["written"], table["deleted"]) == (stood, "2", "0")
    else:
        assert [table[name] for name in ("inserted", "updated", "unchanged")] == ["1", "0", "1"]
    assert set(application.rows("shapes")) == {"shapes/good", "shapes/dots", "shapes/empty"}
    assert application.rows("shapes")["shapes/good"] == {"v": "good"}, "the old row stays"
    application.close()


def test_a_stream_counts_a_row_that_was_refused_when_it_is_taken(
    firestore_emulator: str, project: str, tmp_path: Path
) -> None:
    """Over one state: refused, unchanged, accepted, refused while the old row stays, deleted."""
    sink, state = f"firestore:{project}", ["--mode", "stream", "--state", "sqlite:state.db"]
    counts = []
    for version, kind in enumerate(["arrays", "empty", "fine", "arrays", "fine"], start=1):
        (tmp_path / f"part{version}.jsonl").write_text(
            json.dumps({"path": "things/1", "version": version, "fields": {"kind": kind}}) + "\n"
        )
        (tmp_path / "things.jsonl").write_text("")
        table, last, _ = run(tmp_path, sink, *state, "--source", f"file:part{version}.jsonl")
        counts.append((table["rows"], table["written"], table.get("refused", "0"), last.split(", ")[2]))
    assert counts == [
        ("0", "0", "1", "0 rows"),
        ("0", "0", "1", "0 rows"),
        ("1", "1", "0", "1 rows"),
        ("1", "0", "1", "1 rows"),
        ("1", "1", "0", "1 rows"),
    ]


@pytest.mark.parametrize("sink", ["sqlite:rows.db", "jsonl:rows.jsonl"])
def test_a_sink_that_is_not_firestore_takes_them(sink: str, tmp_path: Path) -> None:
    write(tmp_path, 1, **{kind: kind for kind in KINDS})
    table, last, letters = run(tmp_path, sink)
    assert (table["inserted"], "refused" in table, letters) == ("7", False, [])
    assert "7 rows, 0 dead letters" in last
