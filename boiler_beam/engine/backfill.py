"""The embedded engine's backfill: reads every source, joins in this process, writes what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from boiler_beam.connectors.base import Sink, Source
from boiler_beam.connectors.located import Located, read_batches
from boiler_beam.engine.computed import ComputedView
from boiler_beam.engine.garbage import without_garbage_collection
from boiler_beam.engine.report import RunReport
from boiler_beam.engine.write import Prune, RowWriter, ViewReport
from boiler_beam.events import DeadLetter
from boiler_beam.plan import Plan, PlannedView
from boiler_beam.steps.newest import NewestVersions

__all__ = ["OnProgress", "Report", "backfill"]

OnProgress = Callable[[str, int, int | None], None]
"""Called as a backfill goes on: the view whose rows are computed (empty while changes are read), how many are done, and
of how many, if that is known."""

_BATCH = 4096


@dataclass
class Report(RunReport):
    """What a backfill did.

    Attributes:
        views: What became of the rows, view by view.
        touched: How many rows a running stream was asked to write again (S16).
        drift: How many of them still differ.
    """

    views: list[ViewReport] = field(default_factory=list)
    touched: int = 0
    drift: int = 0

    @property
    def rows(self) -> int:
        """How many computed rows are in the sink."""
        return sum(view.rows for view in self.views)

    @property
    def failures(self) -> list[str]:
        """The views that should have rows and have none, each with the reason."""
        return [view.failure for view in self.views if view.failure is not None]

    @property
    def refusals(self) -> list[str]:
        """Why rows were not pruned, view by view."""
        return [f"{view.view}: {view.not_pruned}" for view in self.views if view.not_pruned is not None]


def backfill(
    plan: Plan,
    sources: Sequence[Source],
    sink: Sink,
    refuse: Callable[[DeadLetter], None],
    *,
    prune: Prune = "safe",
    read_time: int | None = None,
    progress: OnProgress = lambda view, number, total: None,
) -> Report:
    """Computes every row of the plan's views from the newest versions in all sources together, and writes them.

    Args:
        plan: The views.
        sources: Bounded sources.
        sink: Where rows are written: all of them at the end, none before.
        refuse: Takes the dead letters.
        prune: What to do with rows in the sink that are not computed.
        read_time: The time as of which sources are read (if they can be), and the version of the rows written, in
            microseconds since the epoch; by default the sources' own, or the newest version read.
        progress: Called now and then with how far it is.

    Raises:
        UsageError: A source can't be read or the sink can't be written; nothing was written.
    """
    report, located = Report(), Located()

    def count(dead_letter: DeadLetter) -> None:
        dead_letter = located(dead_letter)
        report.count([dead_letter])
        refuse(dead_letter)

    for source in sources:
        source.read_time = read_time
        source.prepare(plan.collections)
    splits = [(source, split) for source in sources for split in source.splits()]
    targets = [view.target for view in plan.views]
    with without_garbage_collection(), sink.backfill(targets) as writer:
        versions = NewestVersions(plan, count)
        for batch in read_batches(splits, located):
            versions.add_all(batch)
            progress("", versions.number_of_changes, None)
        report.changes = versions.number_of_changes
        report.documents = versions.number_of_documents
        as_of = max([source.read_time or 0 for source in sources]) or versions.newest_version
        rows = RowWriter(plan.views, sink, writer, as_of if read_time is None else read_time, count)
        for planned in plan.planned_views:
            _write_rows(planned, versions, rows, count, progress)
        dead = versions.lost.union(index for index, one in enumerate(versions.types) if one.invalid)
        for dead_letter in rows.finish(prune, [view.root.type_index in dead for view in plan.views]):
            count(dead_letter)
        report.views = [one.report for one in rows.views]
        report.touched, report.drift = writer.touched, writer.drift
        del versions  # else the garbage collection, which begins again, would search all documents
    for one in [*(source.billed for source in sources), sink.billed]:
        report.billed.add(one)
    return report


def _write_rows(
    planned: PlannedView,
    versions: NewestVersions,
    rows: RowWriter,
    refuse: Callable[[DeadLetter], None],
    progress: OnProgress,
) -> None:
    """Computes and writes the rows of one view; its indexes are gone before those of the next view are made."""
    computed, writer = ComputedView(planned, versions, refuse), rows.views[planned.index]
    writer.possible_members(computed.possible_members)
    total = computed.most_rows
    for done, row in enumerate(computed.rows(), start=1):
        if row.fields is not None:
            writer.write(row.path, row.fields, row.tainted_by)
        else:
            writer.unknown(row.path, row.tainted_by)
        if done % _BATCH == 0:
            progress(planned.view.name, min(done, total), total)
    progress(planned.view.name, total, total)
    roots = versions.types[planned.view.root.type_index]
    writer.absent(computed.absences, 0 if roots.documents else len(roots.invalid))
