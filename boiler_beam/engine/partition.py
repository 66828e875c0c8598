"""The rows of a plan where all documents are in one partition of a pipeline: the embedded engine as its only join."""

from __future__ import annotations

from collections.abc import Iterable

from boiler_beam.engine.computed import ComputedView
from boiler_beam.plan import Plan
from boiler_beam.steps.hash_join import WRITE, Send
from boiler_beam.steps.hash_join.documents import newest_of
from boiler_beam.steps.hash_join.messages import Observed, RowCopy, Statistics, ViewTaint

__all__ = ["compute_rows"]


def compute_rows(plan: Plan, observed: Iterable[Observed], send: Send) -> None:
    """Computes all rows from all observed versions, and sends them to the stage `write`."""
    versions = newest_of(plan, observed, send)
    for view in plan.planned_views:
        computed = ComputedView(view, versions, versions.refuse)
        for member in computed.possible_members:
            send(WRITE, ViewTaint(view.index, member))
        for copy in computed.rows():
            send(WRITE, RowCopy(*copy, view.index, ""))
        send(WRITE, Statistics(absences={view.index: computed.absences}))
