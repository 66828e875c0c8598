"""Views none of whose rows could be made, although something makes some: what to tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boiler_beam.plan import Root
from boiler_beam.steps.missing import Absences

if TYPE_CHECKING:
    from boiler_beam.engine.incremental import IncrementalEngine
    from boiler_beam.engine.report import StreamReport
    from boiler_beam.engine.state.base import State

__all__ = ["find_failures", "reason_for_no_rows"]

_LOOKED_AT = 1_000
"""Rows that are looked at for documents that they lack, of a view none of whose rows stands."""


def reason_for_no_rows(
    view: str, failed: int, invalid: int, refused: int, lacking: int, example: str = ""
) -> str | None:
    """What to tell of a view without rows; None where that is as it should be.

    Args:
        view: Its name.
        failed: How many rows could not be told, because a getter or paths() raised, or gave what makes no row.
        invalid: How many documents would make rows, where all of them are invalid.
        refused: How many the sink did not take.
        lacking: How many lack a required document that is named; 0 where others make no row because none is named.
        example: What one of these lacks.
    """
    parts = [
        f"{failed:,} failed in a getter or paths()" if failed else "",
        f"the {invalid:,} documents that would make some are invalid" if invalid else "",
        f"{refused:,} were refused by the sink" if refused else "",
        f"{lacking:,} lack a required document" + (f" (e.g. {example})" if example else "") if lacking else "",
    ]
    reasons = "; ".join(filter(None, parts))
    return f"{view}: none of its rows could be made: {reasons}; fix: ask boiler-beam why of one" if reasons else None


def find_failures(engine: IncrementalEngine, state: State, report: StreamReport, *, is_thorough: bool) -> None:
    """Looks for views of a stream of which nothing stands although something makes rows (`report.failures`).

    Args:
        engine: Its rows.
        state: What is known of its views.
        report: Takes what was found.
        is_thorough: Whether also for documents that rows lack, which means to look at the rows.
    """
    plan = engine.plan
    for index, view in enumerate(plan.views):
        known = state.views[view.name]
        if known.rows:
            report.failures.pop(view.name, None)
            continue
        absences = engine.views[index].rows.absences(_LOOKED_AT) if is_thorough else Absences()
        invalid, refused = 0, report.refused.get(view.name, 0)
        if is_thorough and absences == Absences() and isinstance(view.root, Root) and view.root.where is None:
            invalid = state.facts.get(f"invalid {plan.collections[view.root.type_index]}", 0)
        lacking = 0 if absences.absent else absences.lacking
        found = reason_for_no_rows(view.name, known.failing, invalid, refused, lacking, absences.example)
        if found is not None:
            report.failures[view.name] = found
        elif is_thorough:
            report.failures.pop(view.name, None)
