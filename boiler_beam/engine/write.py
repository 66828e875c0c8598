"""What a backfill writes: rows that differ from those in the sink, with stamps; and which rows it may delete.

A row is written when the sink lacks it, or holds other fields or an older generation of it, unless the sink's stamp is
newer (S13, S14). Rows that were not computed are pruned, if that is safe. A row that an invalid document may belong to
is written only where the sink has none, and named in a dead letter (S5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from boiler_beam.connectors.base import BackfillWriter, Control, Sink
from boiler_beam.engine.failures import reason_for_no_rows
from boiler_beam.events import DeadLetter, EncodedRow, Stamp
from boiler_beam.plan import ViewPlan
from boiler_beam.steps.emission import digest_of_fields
from boiler_beam.steps.missing import Absences
from boiler_beam.steps.taint import PossibleMember

__all__ = ["Prune", "RowWriter", "ViewReport", "ViewWriter", "refusal_to_prune"]

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
        unpruned: 1 where nothing was pruned because that was not safe.
        root_dead: 1 where a document that makes rows is invalid, or could not be read.
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
    unpruned: int = 0
    root_dead: int = 0

    @property
    def not_pruned(self) -> str | None:
        """Why nothing was pruned, or None."""
        if not self.unpruned:
            return None
        return refusal_to_prune("safe", self.kept, self.kept + self.rows_before, is_root_dead=bool(self.root_dead))

    @property
    def rows_before(self) -> int:
        """How many rows a safe prune would leave: updated, unchanged, newer and tainted ones."""
        return self.updated + self.unchanged + self.newer + self.tainted

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


class ViewWriter:
    """Takes the computed rows of one view and decides what is written.

    Args:
        view: The view.
        sink: Where rows go.
        writer: The sink's open backfill.
        control: The control data of the view in the sink.
        read_time: The version of every row written, in microseconds since the epoch (S16).
        refuse: Takes the dead letters that name tainted rows.

    Attributes:
        report: What became of the rows.
    """

    def __init__(
        self,
        view: ViewPlan,
        sink: Sink,
        writer: BackfillWriter,
        control: Control | None,
        read_time: int,
        refuse: Callable[[DeadLetter], None],
    ) -> None:
        self.view, self.report, self._target = view, ViewReport(view.name), view.target
        self._writer, self._refuse = writer, refuse
        generation = 1 if control is None else control.generation + (control.fingerprint != view.fingerprint)
        self._stamp = Stamp(generation, read_time, 0)
        self._holder = "" if control is None else control.holder
        self._rows = {
            row.path: (row.stamp, digest_of_fields(row.fields or b"")) for row in sink.current_rows(view.target)
        }
        """Stamp and digest of the fields of each row in the sink, by path. A computed row is removed: in the end the
        rows that were not computed are left."""
        self._updated: set[str] = set()
        self._wildcards: dict[str, tuple[str, ...]] = {}
        """The wildcards of rows whose copies are not all known, each with the invalid documents that cause it."""
        self._possible_members: list[PossibleMember] = []
        self._named: set[str] = set()
        """The wildcards of the rows that were named as tainted."""
        self._written = 0
        """How many rows were written that possible members may belong to."""

    def possible_members(self, documents: Iterable[PossibleMember]) -> None:
        """Takes, before any row, the invalid documents that may belong to any of them."""
        self._possible_members += sorted(set(documents), key=lambda one: one.document)

    def _known_taints(self, path: str) -> tuple[str, ...]:
        """The invalid documents that make some row of this path's wildcard unknown."""
        return self._wildcards.get(self.view.paths.wildcard_of(path), ()) if self._wildcards else ()

    def _possible_taints(self, path: str) -> tuple[str, ...]:
        """The invalid documents that may belong to any row, and so to that of a path."""
        members = [one.document for one in self._possible_members if one.includes_path(self.view, path)]
        return tuple(dict.fromkeys(members))

    def unknown(self, path: str, tainted_by: tuple[str, ...]) -> None:
        """Takes the path of a row that is not known, or the wildcard of its copies: the current row stays.

        Where several rows may claim one path, these come before the rows that are known.

        Args:
            path: The path or wildcard.
            tainted_by: The invalid documents that may make the row; none where a getter raised.
        """
        self._wildcards[path] = tainted_by
        if not tainted_by:
            self.report.tainted += 1

    def write(self, path: str, fields: bytes, tainted_by: tuple[str, ...] = ()) -> None:
        """Takes a computed row, and the invalid documents that may belong to it."""
        report, stamp = self.report, self._stamp
        known = self._rows.pop(path, None)
        certain = tainted_by or self._known_taints(path)
        if known is None:
            report.inserted += 1
            if certain:
                self._name(path, certain, _WRITTEN)
            elif possible := self._possible_taints(path):
                self._written += 1
                if self._written <= _NAMED:
                    self._name(path, possible, _WRITTEN)
        else:
            old, digest = known
            is_same = old.generation == stamp.generation and digest == digest_of_fields(fields)
            if certain or (not is_same and (possible := self._possible_taints(path))):
                report.tainted += 1
                self._name(path, certain or possible, _LEFT)
                return
            if old > stamp:
                report.newer += 1
                return
            if is_same:
                report.unchanged += 1
                return
            report.updated += 1
            self._updated.add(path)
        self._writer.write(self._target, EncodedRow(path, stamp, fields))

    def _name(self, path: str, documents: tuple[str, ...], done: str) -> None:
        """Names a tainted row in a dead letter."""
        self._named.add(self.view.paths.wildcard_of(path))
        some = ", ".join(documents[:_SHOWN]) + (f" and {len(documents) - _SHOWN:,} more" * (len(documents) > _SHOWN))
        are = "is an invalid document" if len(documents) == 1 else "are invalid documents"
        message = f"{self.view.name}: {some} {are} that may belong to this row; {done}"
        self._refuse(DeadLetter(stage="write", code="row_tainted", message=message, path=path))

    def _leave_tainted(self) -> None:
        """Leaves the rows that were not computed where an invalid document may make them, and names them."""
        paths = self.view.paths
        for path in list(self._rows):
            documents = self._known_taints(path) or self._possible_taints(path)
            if documents or paths.wildcard_of(path) in self._wildcards:
                del self._rows[path]
            if documents:
                self.report.tainted += 1
                self._name(path, documents, _LEFT)
        for wildcard, documents in self._wildcards.items():
            if documents and (paths.given or wildcard not in self._named):
                self._name(paths.shown(wildcard), documents, _OTHER_COPIES if paths.given else _NOT_COMPUTED)
        if self._written > _NAMED:
            more = f"{self._written - _NAMED:,} more rows of the view were written without it"
            self._name(paths.template, tuple(one.document for one in self._possible_members), more)

    def absent(self, absences: Absences, invalid: int = 0) -> None:
        """Takes how many rows are not there, and why; how many roots, if all are invalid."""
        report = self.report
        report.lacking += absences.lacking
        report.absent += absences.absent
        report.failed += absences.failed
        report.invalid += invalid
        report.example = report.example or absences.example

    def finish(self, prune: Prune, *, is_root_dead: bool) -> Control:
        """Deletes what was not computed, where that is safe; returns the control data of the view."""
        self._leave_tainted()
        report, stamp, going = self.report, self._stamp, len(self._rows)
        refusal = refusal_to_prune(prune, going, going + report.rows_before, is_root_dead=is_root_dead)
        report.unpruned, report.root_dead = int(refusal is not None), int(is_root_dead)
        for path, (old, _) in self._rows.items():
            if prune == "none" or refusal is not None or old > stamp:
                report.kept += 1
                report.kept_newer += old > stamp
            else:
                report.deleted += 1
                self._writer.delete(self._target, path, stamp)
        return Control(
            generation=stamp.generation,
            fingerprint=self.view.fingerprint,
            holder=self._holder,
            backfilled=stamp.version if self._holder else 0,
        )

    def refused(self, path: str) -> None:
        """Corrects the report where the sink did not accept a row."""
        report = self.report
        if not self._target.matches(path):
            return
        report.refused += 1
        if path in self._rows:
            report.deleted, report.kept = report.deleted - 1, report.kept + 1
        elif path in self._updated:
            report.updated -= 1
        else:
            report.inserted -= 1


class RowWriter:
    """The writers of the views of a backfill, which are committed together.

    Attributes:
        views: One for each view, in the plan's order.
    """

    def __init__(
        self,
        views: Sequence[ViewPlan],
        sink: Sink,
        writer: BackfillWriter,
        read_time: int,
        refuse: Callable[[DeadLetter], None],
    ) -> None:
        controls, self._writer = sink.controls(), writer
        self.views = [ViewWriter(view, sink, writer, controls.get(view.name), read_time, refuse) for view in views]

    def finish(self, prune: Prune, has_dead_roots: Sequence[bool]) -> Sequence[DeadLetter]:
        """Deletes what was not computed, where that is safe, and commits.

        Args:
            prune: `safe`, `all` or `none`.
            has_dead_roots: For each view whether a document that makes its rows is invalid.

        Returns:
            The dead letters of rows that the sink will never accept.
        """
        both = zip(self.views, has_dead_roots, strict=True)
        controls = {one.view.name: one.finish(prune, is_root_dead=is_dead) for one, is_dead in both}
        dead_letters = self._writer.commit(controls) or ()
        for dead_letter in dead_letters:
            for one in self.views:
                one.refused(dead_letter.path or "")
        return dead_letters


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
    allowed = max(SAFE_ROWS, int(rows_in_sink * SAFE_SHARE))
    return f"{going:,} of {rows_in_sink:,} rows would go, more than {allowed:,}" if going > allowed else None
