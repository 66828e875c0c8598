"""Every executor as a function from a plan and changes to an `Outcome`, so that tests can compare them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from boiler_beam.engine.computed import ComputedView
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Plan
from boiler_beam.steps.hash_join import (
    CLAIMS,
    OBSERVED,
    ROWS,
    WRITE,
    HashJoinPlan,
    index_documents,
    join_level,
    join_stage,
    messages,
    render_rows,
    settle_claims,
)
from boiler_beam.steps.hash_join.messages import Failure, Observed, RowCopy, encode_packs
from boiler_beam.steps.hash_join.spill import messages_within
from boiler_beam.steps.missing import Absences
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.row import Copy
from boiler_beam.steps.taint import PossibleMember


@dataclass
class Outcome:
    """The result of an executor.

    Attributes:
        rows: The fields of each row by its path.
        unknown: The paths, or wildcards of paths, of rows that are unknown because a getter raised.
        tainted: The invalid documents that may belong to a row, by the path of each, or by the wildcard of its copies.
        possible_members: The invalid documents that may belong to any row of a view, with the view's index.
        letters: The dead letters.
        copies: All copies of rows in the order of their output, each with its view's index.
        absent: For each view the number of rows that should exist and do not, with the reasons.
    """

    rows: dict[str, bytes] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    tainted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    possible_members: set[tuple[int, PossibleMember]] = field(default_factory=set)
    letters: list[DeadLetter] = field(default_factory=list)
    copies: list[tuple[int, Copy]] = field(default_factory=list)
    absent: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add(self, place: int, copy: Copy) -> None:
        """Adds a copy of a row."""
        self.copies.append((place, copy))
        path, fields, tainted_by = copy
        assert path not in self.rows or fields is None, f"{path} came twice"
        if tainted_by:
            self.tainted[path] = tainted_by
        if fields is not None:
            self.rows[path] = fields
        elif not tainted_by:
            self.unknown.add(path)

    def count(self, view: str, *numbers: int) -> None:
        known = self.absent.get(view, (0,) * len(numbers))
        self.absent[view] = tuple(map(sum, zip(known, numbers, strict=True)))

    def is_tainted(self, plan: Plan, path: str) -> bool:
        """Returns whether an invalid document may belong to the row at a path."""
        for place, view in enumerate(plan.views):
            if view.target.matches(path):
                suspects = [one for where, one in self.possible_members if where == place]
                known = {path, view.paths.wildcard_of(path)} & self.tainted.keys()
                return bool(known) or any(one.includes_path(view, path) for one in suspects)
        raise AssertionError(f"{path} is of no view")


def embedded(plan: Plan, changes: Iterable[Change]) -> Outcome:
    """Runs the join in one process."""
    outcome = Outcome()
    versions = NewestVersions(plan, outcome.letters.append)
    versions.add_all(changes)
    for view in plan.planned_views:
        computed = ComputedView(view, versions, outcome.letters.append)
        outcome.possible_members.update((view.index, one) for one in computed.possible_members)
        for copy in computed.rows():
            outcome.add(view.index, copy)
        absences = computed.absences
        if absences != Absences():
            outcome.count(view.view.name, absences.lacking, absences.absent, absences.failed)
    return outcome


def partitioned(plan: Plan, changes: Sequence[Change], partitions: int = 3, limit_bytes: int = 1 << 40) -> Outcome:
    """The steps that Beam carries, without Beam: messages are packed, routed and unpacked all the same."""
    joined, outcome = HashJoinPlan(plan), Outcome()
    inbox: dict[tuple[str, int], list[Any]] = {}

    def send(stage: str, message: Any) -> None:
        parts = [(0, message)] if stage == WRITE else message.parts(partitions)
        for partition, part in parts:
            inbox.setdefault((stage, partition), []).append(part)

    for one in changes:
        send(OBSERVED, Observed(one.path, one.version, bytes(one.fields)))
    joins = {join_stage(level): level for level in range(1, joined.depth + 1)}
    for stage in [OBSERVED, *joins, ROWS, CLAIMS]:
        for partition in range(partitions):
            packs = list(encode_packs(inbox.pop((stage, partition), [])))
            for some in messages_within(packs, limit_bytes):
                if stage == OBSERVED:
                    index_documents(joined, some, send)
                elif stage == ROWS:
                    render_rows(joined, some, send)
                elif stage == CLAIMS:
                    settle_claims(joined, some, send)
                else:
                    join_level(joined, joins[stage], some, send)
    for message in inbox.pop((WRITE, 0), []):
        match message:
            case RowCopy():
                outcome.add(message.view_index, Copy(message.path, message.fields, message.tainted_by))
            case messages.Statistics(absences=absences):
                for index, found in absences.items():
                    if found != Absences():
                        outcome.count(plan.views[index].name, found.lacking, found.absent, found.failed)
            case messages.ViewTaint():
                outcome.possible_members.add((message.view_index, message.member))
            case Failure():
                outcome.letters.append(message.dead_letter)
    assert not inbox, f"messages were left at {list(inbox)}"
    return outcome


def on_beam(plan: Plan, text: str, folder: Path) -> Outcome:
    """Runs the batch pipeline on Beam's local runner, from a document file to a JSON-lines sink."""
    from boiler_beam.beam import Destination
    from boiler_beam.connectors import open_sink, read_dead_letters
    from pipelines.beam import run_backfill

    (folder / "documents.jsonl").write_text(text)
    sink, dead = f"jsonl:{folder}/rows.jsonl", f"jsonl:{folder}/dead.jsonl"
    # Every other text in partitions: the hash join; the others in one: the embedded engine behind one grouping.
    bounds = {"PARTITION_BYTES": len(text) // 3 + 1, "LOCAL_BYTES": 0 if len(text) % 2 else 1 << 40}
    with mock.patch.multiple("pipelines.beam", **bounds):
        report = run_backfill(plan, [f"file:{folder}/documents.jsonl"], Destination(sink, dead), runner="DirectRunner")
    rows = {row.path: row.fields or b"" for view in plan.views for row in open_sink(sink).current_rows(view.target)}
    letters = list(read_dead_letters(dead)) if report.dead_letters else []
    left = sum(view.tainted + view.kept for view in report.views)
    assert report.rows <= len(rows) <= report.rows + left
    assert report.dead_letters == len(letters)
    return Outcome(rows, letters=letters)


def run_options(**given: Any) -> Any:
    """Returns the default options of a run."""
    from pipelines.options import RunOptions

    known: dict[str, Any] = {
        "dead_letter": None, "mode": "stream", "state": None, "consistency": "eventual", "coalesce_seconds": 0.0,
        "allowed_lateness_seconds": 0, "from_empty": False, "metrics_port": None, "prune": "safe", "read_time": None,
        "strict": False, "explain": False, "dry_run": False, "ramp_up": True, "row_seconds": 1.0, "touches": True,
        "beam_arguments": (),
    }  # fmt: skip
    return RunOptions(**known | given)


def streamed_on_beam(
    plan: Plan, text: str, folder: Path, *options: str, runner: str = "DirectRunner", consistency: str = "eventual"
) -> Outcome:
    """Runs the streaming pipeline on a runner, from a document file to a JSON-lines sink."""
    from boiler_beam.connectors import open_sink, read_dead_letters
    from pipelines.streaming import run_streaming

    (folder / "documents.jsonl").write_text(text)
    sink, dead = f"jsonl:{folder}/rows.jsonl", f"jsonl:{folder}/dead.jsonl"
    source = (f"file:{folder}/documents.jsonl",)
    run = run_options(runner=runner, source=source, sink=sink, consistency=consistency, beam_arguments=options)
    report = run_streaming(plan, run, dead)
    rows = {row.path: row.fields or b"" for view in plan.views for row in open_sink(sink).current_rows(view.target)}
    letters = list(read_dead_letters(dead)) if report.dead_letters else []
    assert sum(report.rows.values()) == len(rows)
    assert report.dead_letters == len(letters)
    return Outcome(rows, letters=letters)


def placeless(message: str) -> str:
    """Returns a message about a user's code without file and line, which depend on the lines above."""
    return re.sub(r" \([^()]*\.py:\d+: .*\)$", "", message)


def told(plan: Plan, unknown: set[str], rows: dict[str, bytes]) -> dict[str, bytes]:
    """The rows that can be told where those at some paths, or wildcards of paths, can't.

    Of rows that may want one path none can be told while any of them may lie anywhere.
    """
    wildcards = {view.paths.template: view.paths.wildcard_of for view in plan.views if view.paths.given}
    matching = {view.paths.template: view.target.matches for view in plan.views if view.paths.given}
    return {
        path: fields
        for path, fields in rows.items()
        if path not in unknown
        and not any(matching[one](path) and wildcard_of(path) in unknown for one, wildcard_of in wildcards.items())
    }
