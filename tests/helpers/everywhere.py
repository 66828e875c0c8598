"""One history through every executor: what a user would see, whatever runs the plan.

The views must be importable by workers: defined in a module, not in a test.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from boiler_beam.plan import Plan
from tests.helpers.executors import Outcome, on_beam
from tests.helpers.histories import Event, lines
from tests.helpers.proofs import EXECUTORS

__all__ = ["EVERYWHERE"]


def _beam_batch(plan: Plan, table: list[Event]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return on_beam(plan, lines(table), Path(folder))


EVERYWHERE: dict[str, Callable[[Plan, list[Event]], Outcome]] = {
    **{
        name: lambda plan, table, run=run: run(plan, table, random.Random(7))  # type: ignore[misc]
        for name, run in EXECUTORS.items()
    },
    "beam batch": _beam_batch,
}
"""Backfills and streams, embedded (state in memory and in SQLite) and on Beam, by name."""
