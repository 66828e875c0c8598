"""Runs every executor as a program: from the text of a document file to rows and dead letters."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boiler_beam.connectors import open_source
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine.backfill import backfill
from boiler_beam.engine.state import SqliteState, State
from boiler_beam.events import Change
from boiler_beam.oracle import compute
from boiler_beam.plan import Plan
from tests.helpers.engine import Letters, followed, outcome
from tests.helpers.executors import Outcome, on_beam, streamed_on_beam
from tests.helpers.network import streamed

__all__ = ["Run", "everywhere", "fields_of", "letters_of"]

Run = Callable[[Plan, bytes, Path], Outcome]


def _file(text: bytes, folder: Path) -> Path:
    path = folder / "documents.jsonl"
    path.write_bytes(text)
    return path


def _backfill(plan: Plan, text: bytes, folder: Path) -> Outcome:
    sink, letters = MemorySink(), Letters()
    backfill(plan, [open_source(f"file:{_file(text, folder)}")], sink, letters.write)
    return outcome(plan, sink, letters.waiting)


def _stream(plan: Plan, text: bytes, folder: Path) -> Outcome:
    return followed(plan, [open_source(f"file:{_file(text, folder)}")], state=State())[0]


def _stream_on_disk(plan: Plan, text: bytes, folder: Path) -> Outcome:
    """Runs twice over one state: the second run resumes where the first one ended, and finds nothing new."""
    source, sink, letters = f"file:{_file(text, folder)}", MemorySink(), Letters()
    for _ in range(2):
        with closing(SqliteState(str(folder / "state.db"))) as state:
            followed(plan, [open_source(source)], sink, state, letters=letters)
    return outcome(plan, sink, letters.letters)


def _machines(plan: Plan, text: bytes, folder: Path) -> Outcome:
    found = list(open_source(f"file:{_file(text, folder)}").read(f"0-:{folder}/documents.jsonl"))
    return streamed(plan, [one for one in found if isinstance(one, Change)], random.Random(1))


def _oracle(plan: Plan, text: bytes, folder: Path) -> Outcome:
    found = list(open_source(f"file:{_file(text, folder)}").read(f"0-:{folder}/documents.jsonl"))
    truth = compute(plan, [one for one in found if isinstance(one, Change)])
    letters = [one for one in found if not isinstance(one, Change)]
    return Outcome(truth.rows, letters=[*letters, *truth.dead_letters])


def _beam(plan: Plan, text: bytes, folder: Path) -> Outcome:
    return on_beam(plan, text.decode(), folder)


def _beam_stream(plan: Plan, text: bytes, folder: Path) -> Outcome:
    return streamed_on_beam(plan, text.decode(), folder)


EXECUTORS: Mapping[str, Run] = {
    "oracle": _oracle,
    "backfill": _backfill,
    "stream": _stream,
    "stream with its state on a disk": _stream_on_disk,
    "machines": _machines,
    "beam": _beam,
    "beam stream": _beam_stream,
}

everywhere = pytest.mark.parametrize(
    "run",
    [
        pytest.param(run, id=name, marks=[pytest.mark.beam] if name.startswith("beam") else [])
        for name, run in EXECUTORS.items()
    ],
)
"""Runs a test with each executor, as `run`. The views must be importable, so defined at module level."""


def fields_of(outcome: Outcome) -> dict[str, Any]:
    """Returns the rows' fields as JSON, by path."""
    return {path: msgspec.json.decode(fields) for path, fields in outcome.rows.items()}


def letters_of(outcome: Outcome) -> set[tuple[str, str | None]]:
    """Returns code and path of the dead letters, except those of tainted rows in a backfill."""
    return {(letter.code, letter.path) for letter in outcome.letters if letter.code != "row_tainted"}
