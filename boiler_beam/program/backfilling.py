"""`boiler_beam.backfill`: one backfill in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from boiler_beam.connectors.base import Sink
from boiler_beam.connectors.dead_letters import DeadLetterWriter
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine.backfill import backfill as run_backfill
from boiler_beam.engine.write import Prune
from boiler_beam.errors import UsageError
from boiler_beam.events import DeadLetter
from boiler_beam.program.connecting import Sources, opened_dead_letters, opened_sink, opened_sources, read_time_micros
from boiler_beam.program.loading import Views, plan_of
from boiler_beam.program.reports import DeadLettersFound, Progress, Report

__all__ = ["backfill"]


def backfill(
    views: Views,
    *,
    sources: Sources,
    sink: str | Sink,
    dead_letter: str | DeadLetterWriter | None = None,
    prune: Prune = "safe",
    read_time: str | int | datetime | None = None,
    strict: bool = False,
    dry_run: bool = False,
    ramp_up: bool = True,
    row_seconds: float = 1.0,
    touches: bool = True,
    project: str | None = None,
    database: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Computes every row of some views from the newest versions of all documents, and writes those that differ.

    The options have the names and meanings of the command line's.

    >>> from boiler_beam.samples.meeting import MeetingSession
    >>> report = backfill([MeetingSession], sources=["sample:"], sink="sqlite:rows.db", dry_run=True)
    >>> report.documents, report.rows, report.written, report.deleted
    (24, 4, 4, 0)

    Args:
        views: Classes, or names of them (`package.module:Class`).
        sources: The URIs of bounded sources (`file:documents.jsonl`, `firestore:my-project`), or `Source` objects.
        sink: The URI of the sink (`sqlite:rows.db`), or a `Sink` object.
        dead_letter: The URI where dead letters are written, or a writer; by default beside the sink.
        prune: Which rows in the sink that were not computed are deleted: `safe` (none if too many would be), `all`,
            `none`.
        read_time: The version of the rows, and the time as of which sources are read that support this; by default
            the newest version read.
        strict: Whether dead letters raise `DeadLettersFound`, after everything was written.
        dry_run: Whether to compute and report, and write nothing.
        ramp_up: Firestore: whether the write rate starts at 500 a second and rises.
        row_seconds: Firestore: the minimal time between two writes of one row.
        touches: Firestore: whether a stream on Beam that feeds the views is asked to write the rows that differ.
        project: The project of the documents, if no source names one; None: any.
        database: The database of the documents, if no source names one; None: `(default)`.
        progress: Called now and then with how far it is.

    Raises:
        UsageError: Something can't be read or written, or an option is wrong; nothing was written.
        DeclarationError: The classes can't be compiled.
        BoilerBeamError: The sink could not be written.
    """
    started = time.monotonic()
    opened = opened_sources(sources)
    if unbounded := [source.uri for source in opened if not source.is_bounded]:
        raise UsageError(f"{unbounded[0]}: expected sources that end, got an unbounded one; fix: follow it as a stream")
    plan = plan_of(views, opened, project=project, database=database, is_logged=True)
    options = WriteOptions(
        ramp_up=ramp_up, pace_seconds=row_seconds, references=plan.database.root, asks_topics=touches
    )
    target = opened_sink(sink, options)
    dead_letters = opened_dead_letters(dead_letter, target)

    def report_progress(view: str, done: int, total: int | None) -> None:
        if progress is not None:
            progress(Progress("rows" if view else "read", view, done, total))

    try:
        counts = run_backfill(
            plan,
            opened,
            MemorySink(target) if dry_run else target,
            _dropped if dry_run else dead_letters.write,
            prune=prune,
            read_time=None if read_time is None else read_time_micros(read_time),
            progress=report_progress,
        )
    finally:
        dead_letters.close()
    report = Report.of(counts, time.monotonic() - started, dead_letters.uri, is_dry_run=dry_run)
    if strict and report.dead_letters:
        raise DeadLettersFound(report)
    return report


def _dropped(dead_letter: DeadLetter) -> None:
    """Takes a dead letter in a dry run, which writes none."""
