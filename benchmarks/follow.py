"""boiler_beam's embedded engine on a snapshot and a stream, through `follow` as every run, in batches of 1,000 changes.

    python -m benchmarks.follow SNAPSHOT_FOLDER CHANGES_FILE OUTPUT_FOLDER --state memory:

writes `OUTPUT_FOLDER/rows.jsonl`. The changes come from an unbounded source, after the rows of the snapshot were
written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import ClassVar

from benchmarks.clock import Clock
from benchmarks.views import MeetingSession, OrganizationSummary
from boiler_beam.connectors import open_dead_letters, open_sink, open_source
from boiler_beam.connectors.files import FileSource
from boiler_beam.engine.follow import Settings, follow
from boiler_beam.engine.state import State, open_state
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import compile_plan

BATCH = 1_000


class Batches(FileSource):
    """An unbounded source of a file's changes in batches, which waits until the snapshot's rows are written.

    Args:
        rest: The file.
        is_ready: Returns whether the snapshot's rows are written.
        clock: Records when the first change is read, and when the last one was processed.
    """

    is_bounded: ClassVar[bool] = False

    def __init__(self, rest: str, is_ready: Callable[[], bool], clock: Clock) -> None:
        super().__init__(rest)
        self.is_ready, self.clock = is_ready, clock

    def follow(self, position: str | None) -> Iterator[tuple[list[Change | DeadLetter], str]]:
        """Yields the changes; the rows of a batch are written when the next batch is requested."""
        while not self.is_ready():
            yield [], ""
        self.clock.loaded()
        number = 0
        changes = (change for split in self.splits() for change in self.read(split))
        while batch := list(islice(changes, BATCH)):
            number += len(batch)
            yield batch, str(number)
        self.clock.stop(number)


def _is_live(state: State) -> bool:
    return all(view.phase == "live" for view in state.views.values())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Follows a snapshot and the changes behind it.")
    for name in ("snapshot", "changes", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--state", default="memory:")
    arguments = parser.parse_args()
    clock = Clock(arguments.output)
    plan = compile_plan([MeetingSession, OrganizationSummary])
    sink, letters = (f"jsonl:{arguments.output / name}" for name in ("rows.jsonl", "dead_letters.jsonl"))
    with closing(open_state(arguments.state)) as state, closing(open_dead_letters(letters)) as dead_letters:
        sources = [
            open_source(f"file:{arguments.snapshot}"),
            Batches(str(arguments.changes), lambda: _is_live(state), clock),
        ]
        follow(plan, sources, open_sink(sink), dead_letters, state, Settings(coalesce_seconds=0))


if __name__ == "__main__":
    main()
