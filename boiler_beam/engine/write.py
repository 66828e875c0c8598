"""What a backfill writes: rows that differ from those in the sink, with stamps; and which rows it may delete.

A row is written when the sink lacks it, or holds other fields or an older generation of it, unless the sink's stamp is
newer (S13, S14). Rows that were not computed are pruned, if that is safe. A row that an invalid document may belong to
is written only where the sink has none, and named in a dead letter (S5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from boiler_beam.connectors.base import BackfillWriter, Control, Sink
from boiler_beam.engine.failures import reason_for_no_rows
from boiler_beam.events import DeadLetter, EncodedRow, Stamp
from boiler_beam.plan import ViewPlan
from boiler_beam.steps.emission import digest_of_fields
from boiler_beam.steps.missing import Absences
from boiler_beam.steps.taint import PossibleMember

__all__ = ["Prune", "RowWriter", "ViewReport", "allowed", "refusal_to_prune"]

Prune = Literal["safe", "all", "none"]
"""Which rows that were not computed are deleted: none, all, or those whose deletion is safe."""
SAFE_ROWS, SAFE_SHARE = 10, 0.2
_NAMED = 100
"""Rows of a view that are named one by one when they are written though a document may belong to any of them."""
_SHOWN = 3
_LEFT = "the current row was left as it is"
_WRITTEN = "the sink had no such row, and it was written without that document"
_NOT_COMPUTED = "there is no row, and none is computed without that document"
_OTHER_COPIES = "other copies of the row may be missing"


@dataclass
class ViewReport:
    """What became of one view's rows.

    Attributes:
        view: The view's name.
        inserted: Rows that are new in the sink.
        updated: Rows whose fields or generation changed.
        unchanged: Rows that the sink holds as they were computed.
        deleted: Rows that were pruned.
        refused: Rows that the sink will never accept: neither inserted nor updated; the old rows stay.
        tainted: Rows that were left as they were, because an invalid document may belong to them, or a getter raised.
        newer: Rows whose stamp in the sink is newer than this backfill's: left as they were.
        kept: Rows that were not computed, and not deleted either.
        kept_newer: Those of them whose stamp is newer than this backfill's.
        lacking: Rows that are absent because a reference leads to a required document that does not exist.
        absent: Rows that are absent because no reference names a required document, or paths() yielded nothing.
        failed: Rows that are absent because a getter or paths() raised, or returned what makes no row.
        invalid: How many documents of its root's collection there are, where all of them are invalid.
        unpruned_dead: 1 where nothing was pruned because a root document is dead.
        unpruned_many: 1 where nothing was pruned because too many rows would go.
        example: What one of the lacking rows lacks.
    """

    view: str
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: int = 0
    tainted: int = 0
    newer: int = 0
    kept: int = 0
    kept_newer: int = 0
    lacking: int = 0
    absent: int = 0
    failed: int = 0
    invalid: int = 0
    example: str = ""
    unpruned_dead: int = 0
    unpruned_many: int = 0

    @property
    def not_pruned(self) -> str | None:
        """Why nothing was pruned, or None."""
        if not (self.unpruned_dead or self.unpruned_many):
            return None
        rows_in_sink = self.kept + self.updated + self.unchanged + self.newer + self.tainted
        return refusal_to_prune("safe", self.kept, rows_in_sink, is_root_dead=bool(self.unpruned_dead))

    @property
    def failure(self) -> str | None:
        """Why none of its rows could be made although something makes some, or None."""
        if self.rows:
            return None
        lacking = 0 if self.absent else self.lacking
        return reason_for_no_rows(self.view, self.failed, self.invalid, self.refused, lacking, self.example)

    @property
    def rows(self) -> int:
        """How many computed rows are in the sink."""
        return self.inserted + self.updated + self.unchanged + self.newer


class _SinkRows:
    """What the sink holds of a view.

    Attributes:
        rows: Stamp and digest of the fields of each row, by path. A computed row is removed: in the end the rows that
            were not computed are left.
        updated: The paths of rows that are updated.
        wildcards: The wildcards of rows whose copies are not all known, each with the invalid documents that cause it.
        possible_members: Invalid documents that may belong to any row.
        named: The wildcards of the rows that were named as tainted.
        written: How many rows were written that documents of `possible_members` may belong to.
    """

    def __init__(self, sink: Sink, view: ViewPlan, control: Control | None) -> None:
        self.view, self.control, self.generation = view, control, 1
        if control is not None:
            self.generation = control.generation + (control.fingerprint != view.fingerprint)
        self.rows = {
            row.path: (row.stamp, digest_of_fields(row.fields or b"")) for row in sink.current_rows(view.target)
        }
        self.updated: set[str] = set()
        self.wildcards: dict[str, tuple[str, ...]] = {}
        self.possible_members: list[PossibleMember] = []
        self.named: set[str] = set()
        self.written = 0

    def known_taints(self, path: str) -> tuple[str, ...]:
        """The invalid documents that make some row of this path's wildcard unknown."""
        return self.wildcards.get(self.view.paths.wildcard_of(path), ()) if self.wildcards else ()

    def possible_taints(self, path: str) -> tuple[str, ...]:
        """The invalid documents that may belong to any row, and so to that of a path."""
        return tuple(dict.fromkeys(one.document for one in self.possible_members if one.includes_path(self.view, path)))


@dataclass
class RowWriter:
    """Takes the computed rows of a backfill and decides what is written.

    Attributes:
        views: The views of the run.
        sink: Where rows go.
        writer: The sink's open backfill.
        read_time: The version of every row written, in microseconds since the epoch (S16).
        refuse: Takes the dead letters that name tainted rows.
        reports: One for each view, in the plan's order.
    """

    views: Sequence[ViewPlan]
    sink: Sink
    writer: BackfillWriter
    read_time: int
    refuse: Callable[[DeadLetter], None]
    reports: list[ViewReport] = field(init=False)

    def __post_init__(self) -> None:
        controls = self.sink.controls()
        self._in_sink = [_SinkRows(self.sink, view, controls.get(view.name)) for view in self.views]
        self._targets = [view.target for view in self.views]
        self.reports = [ViewReport(view.name) for view in self.views]

    def possible_members(self, view_index: int, documents: Iterable[PossibleMember]) -> None:
        """Takes, before any row of a view, the invalid documents that may belong to any of them."""
        self._in_sink[view_index].possible_members += sorted(set(documents), key=lambda one: one.document)

    def unknown(self, view_index: int, path: str, tainted_by: tuple[str, ...]) -> None:
        """Takes the path of a row that is not known, or the wildcard of its copies: the current row stays.

        Where several rows may claim one path, these come before the rows that are known.

        Args:
            view_index: The view.
            path: The path or wildcard.
            tainted_by: The invalid documents that may make the row; none where a getter raised.
        """
        in_sink = self._in_sink[view_index]
        in_sink.wildcards[path] = tainted_by
        if not tainted_by:
            self.reports[view_index].tainted += 1

    def write(self, view_index: int, path: str, fields: bytes, tainted_by: tuple[str, ...] = ()) -> None:
        """Takes a computed row of a view, and the invalid documents that may belong to it."""
        report, in_sink = self.reports[view_index], self._in_sink[view_index]
        stamp = Stamp(in_sink.generation, self.read_time, 0)
        known = in_sink.rows.pop(path, None)
        certain = tainted_by or in_sink.known_taints(path)
        if known is None:
            report.inserted += 1
            if certain:
                self._name(view_index, path, certain, _WRITTEN)
            elif possible := in_sink.possible_taints(path):
                in_sink.written += 1
                if in_sink.written <= _NAMED:
                    self._name(view_index, path, possible, _WRITTEN)
        else:
            old, digest = known
            is_same = old.generation == stamp.generation and digest == digest_of_fields(fields)
            if certain or (not is_same and (possible := in_sink.possible_taints(path))):
                report.tainted += 1
                self._name(view_index, path, certain or possible, _LEFT)
                return
            if old > stamp:
                report.newer += 1
                return
            if is_same:
                report.unchanged += 1
                return
            report.updated += 1
            in_sink.updated.add(path)
        self.writer.write(self._targets[view_index], EncodedRow(path, stamp, fields))

    def _name(self, view_index: int, path: str, documents: tuple[str, ...], done: str) -> None:
        """Names a tainted row in a dead letter."""
        in_sink = self._in_sink[view_index]
        in_sink.named.add(in_sink.view.paths.wildcard_of(path))
        some = ", ".join(documents[:_SHOWN]) + (f" and {len(documents) - _SHOWN:,} more" * (len(documents) > _SHOWN))
        are = "is an invalid document" if len(documents) == 1 else "are invalid documents"
        message = f"{in_sink.view.name}: {some} {are} that may belong to this row; {done}"
        self.refuse(DeadLetter(stage="write", code="row_tainted", message=message, path=path))

    def _leave_tainted(self, view_index: int) -> None:
        """Leaves the rows that were not computed where an invalid document may make them, and names them."""
        report, in_sink = self.reports[view_index], self._in_sink[view_index]
        for path in list(in_sink.rows):
            certain = in_sink.known_taints(path)
            documents = certain or in_sink.possible_taints(path)
            is_unknown = in_sink.view.paths.wildcard_of(path) in in_sink.wildcards
            if documents or is_unknown:
                del in_sink.rows[path]
            if documents:
                report.tainted += 1
                self._name(view_index, path, documents, _LEFT)
        paths = in_sink.view.paths
        for wildcard, documents in in_sink.wildcards.items():
            if documents and (paths.given or wildcard not in in_sink.named):
                self._name(
                    view_index, paths.shown(wildcard), documents, _OTHER_COPIES if paths.given else _NOT_COMPUTED
                )
        if in_sink.written > _NAMED:
            template, documents = in_sink.view.paths.template, tuple(one.document for one in in_sink.possible_members)
            more = f"{in_sink.written - _NAMED:,} more rows of the view were written without it"
            self._name(view_index, template, documents, more)

    def absent(self, view_index: int, absences: Absences, invalid: int = 0) -> None:
        """Takes how many rows of a view are not there, and why; how many roots, if all are invalid."""
        report = self.reports[view_index]
        report.lacking += absences.lacking
        report.absent += absences.absent
        report.failed += absences.failed
        report.invalid += invalid
        report.example = report.example or absences.example

    def finish(self, prune: Prune, has_dead_roots: Sequence[bool]) -> Sequence[DeadLetter]:
        """Deletes what was not computed, where that is safe, and commits.

        Args:
            prune: `safe`, `all` or `none`.
            has_dead_roots: For each view whether a document that makes its rows is invalid.

        Returns:
            The dead letters of rows that the sink will never accept.
        """
        controls = {}
        for view_index, (view, in_sink, report) in enumerate(zip(self.views, self._in_sink, self.reports, strict=True)):
            self._leave_tainted(view_index)
            going = len(in_sink.rows)
            total = going + report.updated + report.unchanged + report.newer + report.tainted
            if prune == "safe" and going:
                report.unpruned_dead = int(has_dead_roots[view_index])
                report.unpruned_many = int(not report.unpruned_dead and going > allowed(total))
            stamp = Stamp(in_sink.generation, self.read_time, 0)
            for path, (old, _) in in_sink.rows.items():
                if prune == "none" or report.unpruned_dead or report.unpruned_many or old > stamp:
                    report.kept += 1
                    report.kept_newer += old > stamp
                else:
                    report.deleted += 1
                    self.writer.delete(self._targets[view_index], path, stamp)
            holder = "" if in_sink.control is None else in_sink.control.holder
            controls[view.name] = Control(
                generation=in_sink.generation,
                fingerprint=view.fingerprint,
                holder=holder,
                backfilled=self.read_time if holder else 0,
            )
        dead_letters = self.writer.commit(controls) or ()
        for dead_letter in dead_letters:
            self._refused(dead_letter.path or "")
        return dead_letters

    def _refused(self, path: str) -> None:
        """Corrects the report of a row that the sink did not accept."""
        for target, in_sink, report in zip(self._targets, self._in_sink, self.reports, strict=True):
            if not target.matches(path):
                continue
            report.refused += 1
            if path in in_sink.rows:
                report.deleted, report.kept = report.deleted - 1, report.kept + 1
            elif path in in_sink.updated:
                report.updated -= 1
            else:
                report.inserted -= 1


def allowed(rows_in_sink: int) -> int:
    """How many of a view's rows a safe prune may delete."""
    return max(SAFE_ROWS, int(rows_in_sink * SAFE_SHARE))


def refusal_to_prune(prune: Prune, going: int, rows_in_sink: int, *, is_root_dead: bool) -> str | None:
    """Why it is not safe to delete so many of a view's rows; None where it is, or where safety was not asked for.

    Args:
        prune: Which rows may be deleted.
        going: How many would be deleted.
        rows_in_sink: How many rows the sink has.
        is_root_dead: Whether a document that makes rows is invalid, or may have been in an input that can't be read.
    """
    if not going or prune != "safe":
        return None
    if is_root_dead:
        rows = "1 row was" if going == 1 else f"{going:,} rows were"
        return f"{rows} not computed, and a document that makes rows is dead or unreadable"
    if going > allowed(rows_in_sink):
        return f"{going:,} of {rows_in_sink:,} rows would go, more than {allowed(rows_in_sink):,}"
    return None
