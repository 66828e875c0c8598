"""The line number of a refused document, for all parts, batches, blank lines and files."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.connectors import files, open_source
from boiler_beam.connectors.base import Source
from boiler_beam.connectors.located import Located, read_batches, read_located
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine import backfill
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import compile_plan
from boiler_beam.steps.newest import dead_letter_of
from tests.helpers import shop
from tests.helpers.engine import followed

PLAN = compile_plan([shop.TagCard])


def line(number: int, name: object = "red") -> str:
    return json.dumps({"path": f"tags/{number}", "version": number + 1, "fields": {"name": name}})


def write(path: Path, lines: list[str]) -> None:
    text = "".join(f"{one}\n" for one in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def letter(change: Change) -> DeadLetter:
    return dead_letter_of("decode", "invalid_document", "no", change)


kinds = st.lists(st.sampled_from(["good", "good", "good", "blank", "torn", "long"]), max_size=40)


def text_of(kind: str, number: int) -> str:
    return {"good": line(number), "blank": "  ", "torn": "{", "long": line(number, "x" * 100)}[kind]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
@given(some=kinds, size=st.integers(1, 9), split_bytes=st.integers(20, 400), order=st.randoms(use_true_random=False))
def test_each_line_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    ending: str,
    some: list[str],
    size: int,
    split_bytes: int,
    order: random.Random,
) -> None:
    """Each document is named after its line number, which is expected; numbers are requested in any order."""
    path = tmp_path_factory.mktemp("lines") / f"x.{ending}"
    write(path, [text_of(kind, number) for number, kind in enumerate(some, start=1)])
    source, located = open_source(f"file:{path}"), Located()
    with mock.patch.object(files, "SPLIT_BYTES", split_bytes), mock.patch.object(files, "_CHUNK_BYTES", 64):
        for batch in read_batches(((source, split) for split in source.splits()), located, size):
            changes = [one for one in batch if isinstance(one, Change)]
            for change in order.sample(changes, order.randint(0, len(changes))):
                number = int(change.path.partition("/")[2])
                assert located(letter(change)).source == f"file:{path}:{number}"
        assert located(letter(Change("tags/1", 2, files._decode(line(1)).fields))).source is None, "read long ago"


@given(some=kinds, order=st.randoms(use_true_random=False))
def test_each_line_that_is_followed_is_found(
    tmp_path_factory: pytest.TempPathFactory, some: list[str], order: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    texts = [text_of(kind, number) for number, kind in enumerate(some, start=1)]
    write(folder / "a.jsonl", texts)
    write(folder / "b.jsonl", texts)
    source, before = open_source(f"file:{folder}"), None
    with mock.patch.object(files, "_CHUNK_BYTES", 64):
        for batch, after in source.follow(None):
            for number, one in enumerate(batch):
                if isinstance(one, Change) and order.random() < 0.5:
                    place = source.place_followed(before, after, number) or ""
                    assert place.rpartition(":")[2] == one.path.partition("/")[2]
                    assert place.rpartition(":")[0] in (f"file:{folder}/a.jsonl", f"file:{folder}/b.jsonl")
            before = after


BAD = [line(1), "", line(2, 7), "torn", line(3), line(4, None)]
PLACES = {"tags/2": 3, "tags/4": 6, None: 4}


def sources_of(letters: list[DeadLetter], path: Path) -> None:
    found = {letter.path: letter.source for letter in letters if letter.code != "row_tainted"}
    assert found == {name: f"file:{path}:{number}" for name, number in PLACES.items()}


def test_of_a_backfill_and_of_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write(path, BAD)
    letters: list[DeadLetter] = []
    backfill(PLAN, [open_source(f"file:{path}")], MemorySink(), letters.append)
    sources_of(letters, path)
    outcome, report = followed(PLAN, [open_source(f"file:{path}")])
    sources_of(outcome.letters, path)
    assert {one.source for one in report.examples.values()} == {f"file:{path}:3", f"file:{path}:4"}


def test_of_a_file_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write(path, BAD[:3])
    source = open_source(f"tail:{path}")
    batches = source.follow(None)
    _, position = next(batches)
    with path.open("a") as file:
        file.write("\n".join([*BAD[3:], ""]))
    while not (batch := next(batches))[0]:
        pass
    assert source.place_followed(position, batch[1], 2) == f"file:{path}:6"
    assert source.place_followed(None, position, 1) == f"file:{path}:3"


def test_a_source_without_lines_says_nothing() -> None:
    class Plain(Source):
        scheme = "plain"

        def splits(self) -> list[str]:
            return ["all"]

        def read(self, split: str) -> list[Change]:  # type: ignore[override]
            return [files._decode(line(1))]

    located = Located()
    (change,) = read_located([Plain("")], located)
    assert isinstance(change, Change)
    assert located(letter(change)).source is None
