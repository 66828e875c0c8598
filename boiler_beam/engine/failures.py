"""Finds views that should have rows and have none, and says why."""

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
"""How many rows of a view without rows are checked for documents that they lack."""


def reason_for_no_rows(
    view: str, failed: int, invalid: int, refused: int, lacking: int, example: str = ""
) -> str | None:
    """Why a view has no rows, for people; None where it should have none.

    Args:
        view: Its name.
        failed: How many rows are unknown because a getter or paths() raised, or returned what makes no row.
        invalid: How many documents would make rows, where all of them are invalid.
        refused: How many rows the sink refused.
        lacking: How many rows refer to a required document that does not exist; 0 where others refer to none.
        example: What one of these lacks.
    """
    parts = [
        f"{failed:,} failed in a getter or paths()" if failed else "",
        "the only document that would make one is invalid" if invalid == 1 else "",
        f"the {invalid:,} documents that would make some are invalid" if invalid > 1 else "",
        f"{refused:,} were refused by the sink" if refused else "",
        f"{lacking:,} lack a required document" + (f" (e.g. {example})" if example else "") if lacking else "",
    ]
    reasons = "; ".join(filter(None, parts))
    return (
        f"{view}: none of its rows could be made: {reasons}; fix: run boiler-beam why for one of them"
        if reasons
        else None
    )


def find_failures(engine: IncrementalEngine, state: State, report: StreamReport, *, is_thorough: bool) -> None:
    """Updates `report.failures`: the views of a stream that should have rows and have none in the sink.

    If `is_thorough`, rows are checked for missing documents, too.
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
        found = reason_for_no_rows(view.name, known.failing_rows, invalid, refused, lacking, absences.example)
        if found is not None:
            report.failures[view.name] = found
        elif is_thorough:
            report.failures.pop(view.name, None)
