"""What backfills and streams did: frozen values; `str` of each is one line for people.

>>> print(Report(documents=24, changes=24, dead_letters=0, seconds=0.5, views=(ViewReport("Card", rows=13),)))
24 documents, 24 changes, 13 rows, 0 dead letters, 0.5 seconds
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from boiler_beam.connectors.billed import Billed
from boiler_beam.engine import report, write
from boiler_beam.engine.backfill import Report as BackfillCounts
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import DeadLetter, Row

__all__ = [
    "DeadLettersFound",
    "Progress",
    "Report",
    "StreamReport",
    "StreamedView",
    "TransactionReport",
    "ViewReport",
]


class Progress(NamedTuple):
    """How far a backfill is.

    Attributes:
        stage: `read`, while documents are read; then `rows`, while the rows of a view are computed.
        view: The name of that view; empty while documents are read.
        done: How many changes were read, or rows of that view were computed.
        total: How many there are; None while that is not known, as when files are read.
    """

    stage: str
    view: str
    done: int
    total: int | None


@dataclass(frozen=True, kw_only=True)
class _Summary:
    """What both kinds of runs count.

    Attributes:
        documents: The documents that exist, as far as they were read. For a stream: in all runs over its state.
        changes: The changes that were read, in this run.
        dead_letters: The inputs and rows that could not be used.
        seconds: How long it took so far.
        dead_letter: Where the dead letters are, as a URI.
        examples: The first dead letter of each code.
        is_dry_run: Whether nothing was written.
        billed: What Firestore bills for.
        views: What was done with the rows of each view.
    """

    documents: int
    changes: int
    dead_letters: int
    seconds: float
    dead_letter: str = ""
    examples: tuple[DeadLetter, ...] = ()
    is_dry_run: bool = False
    billed: Billed = field(default_factory=Billed)
    views: tuple[ViewReport, ...] | tuple[StreamedView, ...] = ()

    @property
    def rows(self) -> int:
        """The rows of all views that are in the sink."""
        return sum(view.rows for view in self.views)

    @property
    def written(self) -> int:
        """How many rows were inserted or updated; for a stream how many times, in this run."""
        return sum(view.written for view in self.views)

    @property
    def deleted(self) -> int:
        """How many rows were deleted, in this run."""
        return sum(view.deleted for view in self.views)

    @property
    def failures(self) -> tuple[str, ...]:
        """For each view without any row although documents make some: what went wrong."""
        return tuple(view.failure for view in self.views if view.failure is not None)

    def __str__(self) -> str:
        done = " (dry run: nothing was written)" if self.is_dry_run else ""
        counts = f"{self.documents:,} documents, {self.changes:,} changes, {self.rows:,} rows"
        return f"{counts}, {self.dead_letters:,} dead letters, {self.seconds:.1f} seconds{done}"


@dataclass(frozen=True)
class ViewReport:
    """What a backfill did with the rows of one view.

    Attributes:
        view: The view's name.
        rows: The rows that were computed, and are in the sink.
        inserted: Rows that are new in the sink.
        updated: Rows whose fields or generation changed.
        unchanged: Rows that were in the sink as they were computed.
        deleted: Rows that were not computed, and pruned.
        refused: Rows that the sink will never accept; what was there stays.
        tainted: Rows that were left, because an invalid document may belong to them, or a getter raised.
        newer: Rows that were left, because the sink has newer ones.
        kept: Rows that were not computed, and not deleted either.
        kept_newer: Those of them that are newer than this backfill.
        not_pruned: Why nothing was deleted although rows were not computed; None if there is no such reason.
        failure: Why the view has no row although documents make some; None if it has, or if none makes any.
    """

    view: str
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: int = 0
    tainted: int = 0
    newer: int = 0
    kept: int = 0
    kept_newer: int = 0
    not_pruned: str | None = None
    failure: str | None = None

    @property
    def written(self) -> int:
        """The rows that were inserted or updated."""
        return self.inserted + self.updated

    @classmethod
    def of(cls, counts: write.ViewReport) -> ViewReport:
        """Returns the report for the engine's counts."""
        return cls(**{name: getattr(counts, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class Report(_Summary):
    """What a backfill did; see the fields of `_Summary`, too.

    Attributes:
        views: What was done with the rows of each view.
        touched: The rows that a stream which feeds the views was asked to write again.
        drift: How many of them still differ.
    """

    views: tuple[ViewReport, ...] = ()
    touched: int = 0
    drift: int = 0

    @property
    def not_pruned(self) -> tuple[str, ...]:
        """For each view that was not pruned although rows were not computed: its name, and why."""
        return tuple(f"{view.view}: {view.not_pruned}" for view in self.views if view.not_pruned is not None)

    @classmethod
    def of(cls, counts: BackfillCounts, seconds: float, dead_letter: str, *, is_dry_run: bool = False) -> Report:
        """Returns the report for the engine's counts."""
        return cls(
            **_common(counts, seconds, dead_letter, is_dry_run),
            views=tuple(map(ViewReport.of, counts.views)),
            touched=counts.touched,
            drift=counts.drift,
        )


@dataclass(frozen=True)
class StreamedView:
    """What a stream did with the rows of one view.

    Attributes:
        view: The view's name.
        rows: The rows that there are.
        written: How many times a row was written, in this run.
        deleted: How many rows were deleted, in this run.
        refused: The rows that the sink will never accept.
        failure: Why the view has no row although documents make some; None if it has, or if none makes any.
    """

    view: str
    rows: int = 0
    written: int = 0
    deleted: int = 0
    refused: int = 0
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class StreamReport(_Summary):
    """What a stream did so far; see the fields of `_Summary`, too.

    Attributes:
        views: What was done with the rows of each view.
        late: The changes that arrived too late to be held for their commits.
        dirty: The rows that the last transaction rendered.
        newest: The newest version that was read, in microseconds since the epoch; 0 before the first.
        is_ready: Whether the rows of all documents that there were at the beginning are in the sink.
        not_pruned: For each view that was not pruned although rows were not computed: its name, and why.
        figures: What the sink counts, by name.
    """

    views: tuple[StreamedView, ...] = ()
    late: int = 0
    dirty: int = 0
    newest: int = 0
    is_ready: bool = False
    not_pruned: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, counts: report.StreamReport, seconds: float, dead_letter: str, *, is_dry_run: bool = False
    ) -> StreamReport:
        """Returns the report for the engine's counts, which go on changing."""
        views = [
            StreamedView(
                name,
                rows,
                counts.written.get(name, 0),
                counts.deleted.get(name, 0),
                counts.refused.get(name, 0),
                counts.failures.get(name),
            )
            for name, rows in counts.rows.items()
        ]
        return cls(
            **_common(counts, seconds, dead_letter, is_dry_run),
            views=tuple(views),
            late=counts.late,
            dirty=counts.dirty,
            newest=counts.newest,
            is_ready=counts.is_ready,
            not_pruned=tuple(counts.refusals),
            figures=dict(counts.figures),
        )


def _common(
    counts: BackfillCounts | report.StreamReport, seconds: float, dead_letter: str, is_dry_run: bool
) -> dict[str, Any]:
    billed = Billed()
    billed.add(counts.billed)
    return {
        "documents": counts.documents,
        "changes": counts.changes,
        "dead_letters": counts.dead_letters,
        "seconds": seconds,
        "dead_letter": dead_letter,
        "examples": tuple(counts.examples.values()),
        "is_dry_run": is_dry_run,
        "billed": billed,
    }


@dataclass(frozen=True, kw_only=True)
class TransactionReport:
    """What one transaction of a stream did.

    One without changes and rows says that `total.is_ready` is now true.

    Attributes:
        number: Counts the transactions of the run, from 1.
        changes: The changes that it read.
        rows: The rows that were written or deleted; in the first one also those of the last run that the sink may not
            have. A sink that waits between two writes of a row reports it with the transaction in which it was written.
        dead_letters: The inputs and rows that could not be used.
        total: What all transactions of the run did, up to this one.
    """

    number: int
    changes: int
    rows: tuple[Row, ...]
    dead_letters: int
    total: StreamReport

    @property
    def written(self) -> int:
        """The rows that were written."""
        return len(self.rows) - self.deleted

    @property
    def deleted(self) -> int:
        """The rows that were deleted."""
        return sum(row.data is None for row in self.rows)

    def __str__(self) -> str:
        counts = f"{self.changes:,} changes, {self.written:,} rows written, {self.deleted:,} deleted"
        return f"transaction {self.number:,}: {counts}, {self.dead_letters:,} dead letters"


class DeadLettersFound(BoilerBeamError):
    """There were dead letters, and `strict` was asked for. Everything was written first.

    Attributes:
        report: What was done.
    """

    def __init__(self, report: Report | StreamReport) -> None:
        self.report = report
        first = next(iter(report.examples), None)
        example = "" if first is None else f" (the first: {first.code}, {first.about}: {first.message})"
        super().__init__(
            f"strict: expected no dead letters, got {report.dead_letters:,}{example}; fix: look at them in "
            f"{report.dead_letter}"
        )
