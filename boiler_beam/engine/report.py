"""The reports of what a run did so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from boiler_beam.connectors.billed import Billed
from boiler_beam.events import DeadLetter

__all__ = ["RunReport", "StreamReport"]


@dataclass
class RunReport:
    """What a backfill or a stream did so far.

    Attributes:
        changes: How many changes were read.
        documents: How many documents exist (deleted ones are not counted); of a stream, all that its state knows.
        dead_letters: How many inputs and rows were refused.
        examples: The first dead letter of each code.
        billed: What Firestore bills for.
    """

    changes: int = 0
    documents: int = 0
    dead_letters: int = 0
    examples: dict[str, DeadLetter] = field(default_factory=dict)
    billed: Billed = field(default_factory=Billed)

    def count(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Counts dead letters."""
        self.dead_letters += len(dead_letters)
        for dead_letter in dead_letters:
            self.examples.setdefault(dead_letter.code, dead_letter)


@dataclass
class StreamReport(RunReport):
    """What a stream did so far, in this run.

    Attributes:
        written: Of each view, how many rows were written.
        deleted: Of each view, how many rows were deleted.
        refused: Of each view, how many rows the sink will never accept: they are neither written nor deleted.
        rows: Of each view, how many rows are in the sink.
        late: How many changes came later than allowed, and were not held for their commits.
        dirty: How many rows the last transaction rendered.
        held_back: The views of which no row is written yet, because their documents are not all read.
        is_ready: Whether all rows that there were at the beginning, or when the bounded sources ended, are in the sink.
        failures: By the name of a view that should have rows and has none: the reason, for people.
        newest: The newest version seen, in microseconds since the epoch.
        refusals: Why rows were not pruned, view by view.
        figures: What the sink did, by name.
    """

    written: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    late: int = 0
    dirty: int = 0
    held_back: list[str] = field(default_factory=list)
    is_ready: bool = False
    failures: dict[str, str] = field(default_factory=dict)
    newest: int = 0
    refusals: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
