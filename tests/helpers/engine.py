"""The embedded engine as a test runs it: sources cut into batches, a sink that looks at every write, kills at any point."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from boiler_beam.connectors.base import Control, Sink, Source, StreamWriter
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine.follow import Settings, StreamReport, follow
from boiler_beam.engine.state import SqliteState, State
from boiler_beam.events import Change, DeadLetter, EncodedRow, View
from boiler_beam.plan import Plan
from tests.helpers.executors import Outcome

NEVER = 1 << 60
EAGER = Settings(coalesce_seconds=0)


class Killed(BaseException):
    """Stands for a kill: nothing that comes behind it runs."""


class Batches(Source):
    """Changes that are already here, in batches."""

    scheme: ClassVar[str] = "batches"

    def __init__(self, name: str, batches: Sequence[Sequence[Change | DeadLetter]], *, is_bounded: bool = True) -> None:
        super().__init__(name)
        self.batches, self.is_bounded = batches, is_bounded  # type: ignore[misc]

    def splits(self) -> Sequence[str]:
        return ["all"]

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        return (one for batch in self.batches for one in batch)

    def follow(self, position: str | None) -> Iterator[tuple[list[Change | DeadLetter], str]]:
        for place in range(int(position or 0), len(self.batches)):
            yield list(self.batches[place]), str(place + 1)


def cut(changes: Sequence[Any], order: random.Random, most: int = 4) -> list[list[Any]]:
    """A history in batches."""
    batches, rest = [], list(changes)
    while rest:
        size = order.randint(1, most)
        batches.append(rest[:size])
        rest = rest[size:]
    return batches


class WatchedSink(MemorySink):
    """Holds rows, and looks at every write (S13, S14): nothing older comes, and nothing that stands already.

    Attributes:
        lives: After how many writes the program is killed; and whether before or after the write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lives, self.is_after = NEVER, False
        self.is_resumed = False
        self.stamps: dict[str, Any] = {}
        self.fields: dict[str, bytes | None] = {}
        self.writes = 0
        self.history: list[EncodedRow] = []

    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        with super().stream(views) as writer:
            yield _Watched(self, writer)


class _Watched(StreamWriter):
    def __init__(self, sink: WatchedSink, writer: StreamWriter) -> None:
        self.sink, self.writer, self.is_first = sink, writer, True

    def write(self, rows: Sequence[tuple[View, EncodedRow]]) -> None:
        sink = self.sink
        sink.lives -= 1
        if sink.lives <= 0 and not sink.is_after:
            raise Killed
        for _, row in rows:
            last = sink.stamps.get(row.path)
            if last == row.stamp:
                assert self.is_first, f"{row.path} was sent twice by one life of the program"
                assert sink.fields[row.path] == row.fields, f"{row.path}: one stamp, two rows"
            elif last is not None:
                assert last < row.stamp, f"{row.path}: {row.stamp} after {last}"
                is_new_generation = last.generation < row.stamp.generation
                assert is_new_generation or sink.fields[row.path] != row.fields, f"{row.path}: nothing changed"
            sink.stamps[row.path], sink.fields[row.path] = row.stamp, row.fields
            sink.history.append(row)
            sink.writes += 1
        self.is_first = False
        self.writer.write(rows)
        if sink.lives <= 0:
            raise Killed

    def control(self, controls: Mapping[str, Control]) -> None:
        self.writer.control(controls)


class DyingState(SqliteState):
    """A state that is killed in the middle of a transaction."""

    lives = NEVER

    def _write(self, *what: Any) -> None:
        super()._write(*what)
        self.lives -= 1
        if self.lives <= 0:
            raise Killed


class Letters:
    """Takes dead letters; what is not flushed is lost."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self.waiting: list[DeadLetter] = []

    def write(self, letter: DeadLetter) -> None:
        self.waiting.append(letter)

    def flush(self) -> None:
        self.letters += self.waiting
        self.waiting = []


def followed(
    plan: Plan,
    sources: Sequence[Source],
    sink: Sink | None = None,
    state: State | None = None,
    settings: Settings = EAGER,
    letters: Letters | None = None,
) -> tuple[Outcome, StreamReport]:
    """One life of the program, to the end of its sources."""
    sink, letters = sink or WatchedSink(), letters or Letters()
    report = follow(plan, sources, sink, letters, state or State(), settings)  # type: ignore[arg-type]
    return outcome(plan, sink, letters.letters), report


def outcome(plan: Plan, sink: Sink, letters: list[DeadLetter]) -> Outcome:
    """What stands in a sink."""
    rows = {row.path: row.fields or b"" for view in plan.views for row in sink.current_rows(view.target)}
    return Outcome(rows, letters=letters)


def lived(
    plan: Plan, sources: Sequence[Source], path: Path, order: random.Random, deaths: int, settings: Settings = EAGER
) -> tuple[Outcome, WatchedSink]:
    """Many lives of a program over one state: killed before and after writes, and in transactions, then let alone."""
    sink, letters = WatchedSink(), Letters()
    for life in range(deaths + 1):
        state = DyingState(str(path))
        sink.lives = NEVER
        if life < deaths:
            if order.random() < 0.5:
                state.lives = order.randint(1, 4)
            else:
                sink.lives, sink.is_after = order.randint(1, 3), order.random() < 0.5
        try:
            followed(plan, sources, sink, state, settings, letters)
        except Killed:
            pass
        finally:
            state.close()
    return outcome(plan, sink, letters.letters), sink
