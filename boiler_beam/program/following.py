"""`boiler_beam.follow`: a stream in a thread of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Literal

from boiler_beam.connectors.base import Sink
from boiler_beam.connectors.dead_letters import DeadLetterWriter
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine import report as engine
from boiler_beam.engine.follow import Settings
from boiler_beam.engine.follow import follow as run_stream
from boiler_beam.engine.state import open_state
from boiler_beam.engine.write import Prune
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, View
from boiler_beam.program.connecting import (
    Sources,
    opened_dead_letters,
    opened_sink,
    opened_sources,
    read_time_micros,
    state_beside,
)
from boiler_beam.program.loading import Views, plan_of
from boiler_beam.program.reports import StreamReport, TransactionReport
from boiler_beam.program.running import Running

__all__ = ["follow"]


def follow(
    views: Views,
    *,
    sources: Sources,
    sink: str | Sink,
    state: str | None = None,
    dead_letter: str | DeadLetterWriter | None = None,
    consistency: Literal["eventual", "commit"] = "eventual",
    coalesce_seconds: float = 0.1,
    allowed_lateness_seconds: float = 10.0,
    from_empty: bool = False,
    prune: Prune = "safe",
    read_time: str | int | datetime | None = None,
    strict: bool = False,
    dry_run: bool = False,
    ramp_up: bool = True,
    row_seconds: float = 1.0,
    project: str | None = None,
    database: str | None = None,
    on_report: Callable[[TransactionReport], None] | None = None,
) -> Running:
    """Follows sources change by change, and writes the rows that differ, in a thread that the context starts and ends.

    The options have the names and meanings of the command line's.

    >>> from boiler_beam.samples.meeting import MeetingSession
    >>> with follow([MeetingSession], sources=["sample:"], sink="sqlite:rows.db", dry_run=True) as running:
    ...     paths = [row.path for report in running for row in report.rows]
    >>> sorted(paths)
    ['meeting_sessions/m1', 'meeting_sessions/m2', 'meeting_sessions/m3', 'meeting_sessions/m4']
    >>> running.report.changes, running.report.written
    (24, 4)

    Args:
        views: Classes, or names of them (`package.module:Class`).
        sources: The URIs of sources (`tail:changes.jsonl`, `pubsub:...`), or `Source` objects. With an unbounded one
            the bounded ones are the snapshot; `firestore:` alone reads a snapshot and listens.
        sink: The URI of the sink (`sqlite:rows.db`), or a `Sink` object.
        state: The URI of the state, `memory:` or `sqlite:PATH`, from which the next run goes on; by default `memory:`
            if every source is bounded, else a file beside the sink.
        dead_letter: The URI where dead letters are written, or a writer; by default beside the sink.
        consistency: `eventual`: a row may for a moment contain a part of a commit; `commit`: no row does.
        coalesce_seconds: How long changes are gathered before the affected rows are written, once each; 0: after each
            batch of a source.
        allowed_lateness_seconds: With `commit`: how long after newer changes a change may arrive.
        from_empty: Whether an unbounded source may be followed without a snapshot: there are no documents before it.
        prune: Which rows of an older version of the views, not computed by this one, are deleted: `safe`, `all` or
            `none`.
        read_time: The time as of which a snapshot is read, if its source supports this.
        strict: Whether dead letters raise `DeadLettersFound` at the end, after everything was written.
        dry_run: Whether to compute and report, and write nothing; the state is then `memory:`.
        ramp_up: Firestore: whether the write rate starts at 500 a second and rises.
        row_seconds: Firestore: the minimal time between two writes of one row.
        project: The project of the documents, if no source names one; None: any.
        database: The database of the documents, if no source names one; None: `(default)`.
        on_report: Called after each transaction, in the stream's thread; what it raises ends the stream.

    Returns:
        A context manager, see `Running`.

    Raises:
        UsageError: A URI or an option is wrong.
        DeclarationError: The classes can't be compiled.
    """
    _check(consistency, coalesce_seconds, allowed_lateness_seconds)
    opened = opened_sources(sources)
    plan = plan_of(views, opened, project=project, database=database, is_logged=True)
    if all(source.is_bounded for source in opened):
        opened = [source.following() for source in opened]
    is_bounded = all(source.is_bounded for source in opened)
    for source in opened:
        source.read_time = None if read_time is None else read_time_micros(read_time)
    is_commit = consistency == "commit"
    options = WriteOptions(
        ramp_up=ramp_up, pace_seconds=row_seconds, is_together=is_commit, references=plan.database.root
    )
    target = opened_sink(sink, options)
    dead_letters = opened_dead_letters(dead_letter, target)
    address = "memory:" if dry_run else state or state_beside(target, is_bounded=is_bounded)
    settings = Settings(coalesce_seconds, allowed_lateness_seconds if is_commit else None, prune, from_empty)
    began: list[float] = []

    def run(
        should_stop: Callable[[], bool],
        on_counts: Callable[[engine.StreamReport], None],
        sent: Callable[[Sequence[tuple[View, EncodedRow]]], None],
    ) -> engine.StreamReport:
        began.append(time.monotonic())
        with closing(open_state(address)) as opened_state, closing(dead_letters):
            return run_stream(
                plan,
                opened,
                MemorySink(target) if dry_run else target,
                None if dry_run else dead_letters,
                opened_state,
                settings,
                should_stop=should_stop,
                on_report=on_counts,
                sent=sent,
            )

    def summed(counts: engine.StreamReport) -> StreamReport:
        seconds = time.monotonic() - began[0] if began else 0.0
        return StreamReport.of(counts, seconds, dead_letters.uri, is_dry_run=dry_run)

    return Running(run, summed, on_report, state=address, is_bounded=is_bounded, is_strict=strict)


def _check(consistency: str, coalesce_seconds: float, allowed_lateness_seconds: float) -> None:
    if consistency not in ("eventual", "commit"):
        raise UsageError(f"consistency: expected eventual or commit, got {consistency!r}; fix: write one of the two")
    for name, value in (
        ("coalesce_seconds", coalesce_seconds),
        ("allowed_lateness_seconds", allowed_lateness_seconds),
    ):
        if not value >= 0:
            raise UsageError(f"{name}: expected seconds from 0 on, got {value!r}; fix: write 0 or more")
