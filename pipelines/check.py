"""`boiler-beam check`: checks documents against models, and views against documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from boiler_beam.connectors import open_sources
from boiler_beam.connectors.located import Located, read_located
from boiler_beam.engine.check import Checked, check
from boiler_beam.engine.computed import ComputedView
from boiler_beam.engine.purity import differing, sampled
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Plan
from boiler_beam.plan.impure import warnings_of
from boiler_beam.propose import pattern_of
from boiler_beam.steps.newest import NewestVersions

__all__ = ["run_check"]

_COMPUTED_AGAIN, _SHOWN = 100, 3
"""For each view: how many rows are computed again, and how many are named in a message."""


def run_check(plan: Plan, sources: Sequence[str], sample: int | None) -> int:
    """Prints the problems; returns the exit code, 1 if there are any.

    Args:
        plan: The views.
        sources: URIs of bounded sources.
        sample: The maximal number of documents of each collection that are checked; None for all.
    """
    unread: dict[str, set[str]] = {}
    looked_at: list[NewestVersions] = []
    located = Located()

    def noted(changes: Iterable[Change | DeadLetter]) -> Iterator[Change | DeadLetter]:
        for change in changes:
            if isinstance(change, Change) and not plan.families_of(change.path):
                unread.setdefault(pattern_of(change.path), set()).add(change.path)
            yield change

    read = read_located(open_sources(sources, plan.collections), located)
    found = check(plan, noted(read), sample, located, looked_at.append)
    (versions,) = looked_at
    for warning in warnings_of(plan):
        print(f"warning: {warning}")
    number = _show_collections(plan, found, unread)
    for line in _tainted(plan, versions):
        print(line)
    for one in differing(plan, sampled(plan, versions, _COMPUTED_AGAIN)):
        number += 1
        print(one)
    for note in dict.fromkeys(note for family in plan.families for note in family.notes()):
        print(f"note: {note}")
    print(f"{number:,} problems" if number else "no problems")
    return 1 if number else 0


def _show_collections(plan: Plan, found: Sequence[Checked], unread: dict[str, set[str]]) -> int:
    """Prints the findings in each collection; returns the number of problems."""
    others = ", ".join(f"{name} ({len(paths):,})" for name, paths in sorted(unread.items()))
    for family in plan.families:
        if family.pattern.text not in {one.collection for one in found}:
            has = f"; the source has {others}, which no model reads" if others else ""
            print(f"{family.pattern.text}: no documents{has}")
    for one in found:
        looked = "" if one.documents == one.paths else f", {one.documents:,} valid ones checked"
        print(f"{one.collection}: {one.paths:,} documents{looked}")
        for finding in sorted(one.findings.values(), key=lambda finding: -finding.number):
            print(f"  {finding.number:,} x {finding.code}: {finding.message} (e.g. {finding.example})")
    return sum(finding.number for one in found for finding in one.findings.values())


def _tainted(plan: Plan, versions: NewestVersions) -> Iterator[str]:
    """The rows that an invalid document may belong to, and which it is."""
    for planned in plan.planned_views if any(one.invalid for one in versions.types) else ():
        view, number, named = planned.view, 0, list[str]()
        computed = ComputedView(planned, versions, lambda letter: None)
        for row_id in computed.row_ids():
            tainted_by = computed.tainted_by(row_id)
            number += bool(tainted_by)
            if tainted_by and number <= _SHOWN:
                named.append(f"{view.paths.fill(row_id)} ({', '.join(tainted_by)})")
        if number:
            more = f" and {number - _SHOWN:,} more" if number > _SHOWN else ""
            rows = "1 row" if number == 1 else f"{number:,} rows"
            yield f"{view.name}: an invalid document may belong to {rows}: {', '.join(named)}{more}"
        if computed.may_belong:
            documents = list(dict.fromkeys(one.document for one in computed.may_belong))
            more = f" and {len(documents) - _SHOWN:,} more" if len(documents) > _SHOWN else ""
            yield f"{view.name}: an invalid document may belong to any row: {', '.join(documents[:_SHOWN])}{more}"
