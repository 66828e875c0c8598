"""`boiler_beam.explain`, `diff`, `why` and `check`: questions about views, rows and documents; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from boiler_beam.connectors.base import Sink, Source
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.located import Located, read_located
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine.backfill import backfill
from boiler_beam.engine.computed import ComputedView
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.inspection import check as inspection_check
from boiler_beam.inspection import why as inspection_why
from boiler_beam.inspection.check import Checked
from boiler_beam.inspection.cost import Writes, writes_per_change
from boiler_beam.inspection.diff import Difference, differences
from boiler_beam.inspection.purity import differing, sampled
from boiler_beam.inspection.why import Why
from boiler_beam.plan import Plan
from boiler_beam.plan.explain import explain as explained
from boiler_beam.plan.impure import warnings_of
from boiler_beam.program.connecting import Sources, opened_sink, opened_sources
from boiler_beam.program.loading import Views, plan_of
from boiler_beam.propose import pattern_of
from boiler_beam.steps.newest import NewestVersions

__all__ = ["Check", "Differences", "Explanation", "check", "diff", "explain", "why"]

_COMPUTED_AGAIN, _SHOWN = 100, 3
"""For each view: how many rows are computed again, and how many are named in a message."""


@dataclass(frozen=True)
class Explanation:
    """The plan of some views; `str` is a description for people.

    Attributes:
        plan: The edges of each view, the collections, and which rows a change of a document affects.
        writes: For each collection, how many rows the change of a document writes; empty without documents.
    """

    plan: str
    writes: tuple[Writes, ...] = ()

    def __str__(self) -> str:
        heading = "\nrows written for one change, counted over these documents (worst case: all its rows change):"
        return "\n".join([self.plan, *([heading] if self.writes else []), *(f"  {one}" for one in self.writes)])


def explain(
    views: Views, *, sources: Sources = (), project: str | None = None, database: str | None = None
) -> Explanation:
    """Explains the plan of some views.

    >>> from boiler_beam.samples.meeting import OrganizationSummary
    >>> print(explain(OrganizationSummary).plan.partition("aggregates")[0])
    OrganizationSummary: rows at organization_summaries/{id}
    users: group of users by organization (dict; no getter reads it)
    └─ tickets: referrers, tickets whose field user refers to edge users (dict; no getter reads it)
    <BLANKLINE>

    Args:
        views: Classes, or names of them (`package.module:Class`).
        sources: Bounded sources, as URIs or objects; with documents it is counted how many rows a change writes.
        project: The project of the documents, if no source names one; None: any.
        database: The database of the documents, if no source names one; None: `(default)`.

    Raises:
        UsageError: A name or URI is wrong, or a source can't be read.
        DeclarationError: The classes can't be compiled.
    """
    opened = opened_sources(sources) if sources else []
    plan = plan_of(views, opened, project=project, database=database)
    if not opened:
        return Explanation(explained(plan))
    versions = NewestVersions(plan, lambda dead_letter: None)
    for source in opened:
        source.prepare(plan.collections)
        versions.add_all(source.read_all())
    return Explanation(explained(plan), tuple(writes_per_change(plan, versions)))


@dataclass(frozen=True)
class Differences:
    """How the rows of two sinks differ; it is true if they do, and `str` names the rows.

    Attributes:
        rows: The rows that differ, with their fields that differ, by view and path.
        unknown: The rows that could not be computed, because a document is invalid or a getter raised.
    """

    rows: tuple[Difference, ...]
    unknown: tuple[DeadLetter, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.rows)

    @property
    def summary(self) -> str:
        """How many rows differ, as text."""
        number = len(self.rows)
        return f"{number:,} rows differ" if number > 1 else "1 row differs" if number else "no row differs"

    def __str__(self) -> str:
        return "\n".join([*(f"{one.path}: {one.kind}" for one in self.rows), self.summary])


def diff(
    views: Views,
    old: str | Sink,
    new: str | Sink | None = None,
    *,
    sources: Sources = (),
    project: str | None = None,
    database: str | None = None,
) -> Differences:
    """Compares the rows of two sinks, or of one sink with those that documents give now. Stamps are not compared.

    Args:
        views: Classes, or names of them (`package.module:Class`).
        old: A sink, as URI or object.
        new: The other sink; or `sources`.
        sources: Bounded sources, as URIs or objects, whose documents give the new rows.
        project: The project of the documents, if no source names one; None: any.
        database: The database of the documents, if no source names one; None: `(default)`.

    Raises:
        UsageError: A name or URI is wrong, a sink holds no rows, or a source can't be read.
        DeclarationError: The classes can't be compiled.
    """
    if bool(sources) == (new is not None):
        raise UsageError("diff: expected OLD and NEW sinks, or --source and one sink; fix: give one of the two")
    opened = opened_sources(sources) if sources else []
    plan = plan_of(views, opened, project=project, database=database)
    given = [old] if new is None else [old, new]
    sinks = [opened_sink(sink, WriteOptions(references=plan.database.root)) for sink in given]
    for sink in sinks:
        if not sink.controls():
            raise UsageError(f"{sink.uri}: expected rows, got none; fix: check the address")
    dead_letters: list[DeadLetter] = []
    if opened:
        sinks.append(MemorySink(sinks[0], is_aside=True))  # rows that are not known stay as they are
        backfill(plan, opened, sinks[1], dead_letters.append, prune="all")
    unknown = [
        dead_letter
        for dead_letter in dead_letters
        if dead_letter.code == "row_tainted" or dead_letter.stage == "render"
    ]
    return Differences(tuple(differences(plan, *sinks)), tuple(unknown))


def why(views: Views, row: str, *, sources: Sources, project: str | None = None, database: str | None = None) -> Why:
    """Says which documents a row is made of, and what each contributed; or why there is no such row.

    >>> from boiler_beam.samples.meeting import MeetingSession
    >>> print(why(MeetingSession, "m9", sources="sample:"))
    meeting_sessions/m9 of MeetingSession
    no row: its root meetings/m9 is in none of the sources

    Args:
        views: Classes, or names of them (`package.module:Class`).
        row: The row's path (`meeting_sessions/m1`); of a single view whose path has only the id, also the id (`m1`).
        sources: Bounded sources of the documents, as URIs or objects.
        project: The project of the documents, if no source names one; None: any.
        database: The database of the documents, if no source names one; None: `(default)`.

    Raises:
        UsageError: A name or URI is wrong, no view has rows at such a path, or a source can't be read.
        DeclarationError: The classes can't be compiled.
    """
    opened = opened_sources(sources)
    plan = plan_of(views, opened, project=project, database=database)
    if "/" not in row and len(plan.views) == 1 and plan.views[0].paths.template.count("{") == 1:
        row = plan.views[0].paths.fill(row)
    dead_letters: list[DeadLetter] = []
    located = Located()
    versions = NewestVersions(plan, lambda dead_letter: dead_letters.append(located(dead_letter)))
    versions.add_all(read_located(_prepared(opened, plan), located))
    return inspection_why.why(plan, versions, row, dead_letters)


def _prepared(sources: list[Source], plan: Plan) -> list[Source]:
    for source in sources:
        source.prepare(plan.collections)
    return sources


@dataclass(frozen=True)
class Check:
    """What was found in documents and views; `str` has a line for each.

    Attributes:
        collections: What was found in each collection.
        unread: The collections of the source that no model reads, each with its number of documents.
        empty: The collections of models without a document.
        tainted: The rows that an invalid document may belong to, as text for people.
        differing: The properties whose values differ when a row is computed again, as text for people.
        warnings: Getters and functions that read a clock, random numbers or the environment.
        notes: Fields that may be null and not missing.
    """

    collections: tuple[Checked, ...]
    unread: tuple[tuple[str, int], ...]
    empty: tuple[str, ...]
    tainted: tuple[str, ...]
    differing: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def number_of_problems(self) -> int:
        """How many problems there are: findings in documents, and properties that differ."""
        findings = [finding.number for one in self.collections for finding in one.findings.values()]
        return sum(findings) + len(self.differing)

    def __str__(self) -> str:
        number = self.number_of_problems
        return "\n".join(
            [
                *(f"warning: {warning}" for warning in self.warnings),
                *self._collections(),
                *self.tainted,
                *self.differing,
                *(f"note: {note}" for note in self.notes),
                f"{number:,} problems" if number else "no problems",
            ]
        )

    def _collections(self) -> Iterator[str]:
        others = ", ".join(f"{name} ({number:,})" for name, number in self.unread)
        for name in self.empty:
            yield f"{name}: no documents" + (f"; the source has {others}, which no model reads" if others else "")
        for one in self.collections:
            looked = "" if one.documents == one.paths else f", {one.documents:,} valid ones checked"
            yield f"{one.collection}: {one.paths:,} documents{looked}"
            for finding in sorted(one.findings.values(), key=lambda finding: -finding.number):
                yield f"  {finding.number:,} x {finding.code}: {finding.message} (e.g. {finding.example})"


def check(
    views: Views,
    *,
    sources: Sources,
    sample: int | None = None,
    project: str | None = None,
    database: str | None = None,
) -> Check:
    """Checks models and views against documents: invalid ones, dangling references, properties that differ.

    Args:
        views: Classes, or names of them (`package.module:Class`).
        sources: Bounded sources of the documents, as URIs or objects.
        sample: The maximal number of documents of each collection that are checked; None for all.
        project: The project of the documents, if no source names one; None: any.
        database: The database of the documents, if no source names one; None: `(default)`.

    Raises:
        UsageError: A name or URI is wrong, or a source can't be read.
        DeclarationError: The classes can't be compiled.
    """
    opened = opened_sources(sources)
    plan = plan_of(views, opened, project=project, database=database)
    unread: dict[str, set[str]] = {}
    looked_at: list[NewestVersions] = []
    located = Located()

    def noted(changes: Iterable[Change | DeadLetter]) -> Iterator[Change | DeadLetter]:
        for change in changes:
            if isinstance(change, Change) and not plan.types_of(change.path):
                unread.setdefault(pattern_of(change.path), set()).add(change.path)
            yield change

    read = noted(read_located(_prepared(opened, plan), located))
    found = inspection_check.check(plan, read, sample, located, looked_at.append)
    (versions,) = looked_at
    known = {one.collection for one in found}
    return Check(
        collections=tuple(found),
        unread=tuple(sorted(Counter({name: len(paths) for name, paths in unread.items()}).items())),
        empty=tuple(pattern for pattern in plan.collections if pattern not in known),
        tainted=tuple(_tainted(plan, versions)),
        differing=tuple(str(one) for one in differing(plan, sampled(plan, versions, _COMPUTED_AGAIN))),
        warnings=tuple(warnings_of(plan)),
        notes=tuple(dict.fromkeys(note for one in plan.document_types for note in one.notes())),
    )


def _tainted(plan: Plan, versions: NewestVersions) -> Iterator[str]:
    """The rows that an invalid document may belong to, and which it is."""
    for planned in plan.planned_views if any(one.invalid for one in versions.types) else ():
        view, number, named = planned.view, 0, list[str]()
        computed = ComputedView(planned, versions, lambda dead_letter: None)
        for row_id in computed.row_ids():
            tainted_by = computed.tainted_by(row_id)
            number += bool(tainted_by)
            if tainted_by and number <= _SHOWN:
                named.append(f"{view.paths.fill(row_id)} ({', '.join(tainted_by)})")
        if number:
            more = f" and {number - _SHOWN:,} more" if number > _SHOWN else ""
            rows = "1 row" if number == 1 else f"{number:,} rows"
            yield f"{view.name}: an invalid document may belong to {rows}: {', '.join(named)}{more}"
        if computed.possible_members:
            documents = list(dict.fromkeys(one.document for one in computed.possible_members))
            more = f" and {len(documents) - _SHOWN:,} more" if len(documents) > _SHOWN else ""
            yield f"{view.name}: an invalid document may belong to any row: {', '.join(documents[:_SHOWN])}{more}"
