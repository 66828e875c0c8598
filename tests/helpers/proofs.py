"""What is proved of any view and any history: however changes come, what stands is what the oracle computes.

A case is text and numbers, so that one that fails can be pasted into a test: `prove("kills", VIEW, TABLE, 7)`.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from boiler_beam.engine.follow import Settings
from boiler_beam.events import Change, DeadLetter
from boiler_beam.oracle import compute
from boiler_beam.plan import Plan, PlanName, compile_plan, load_plan
from tests.helpers.engine import Batches, Letters, cut, followed, lived
from tests.helpers.executors import Outcome, embedded, partitioned, streamed_on_beam, told
from tests.helpers.executors import on_beam as beam_backfill
from tests.helpers.histories import Event, changes, lines
from tests.helpers.network import streamed
from tests.helpers.random_views import published, view_of

__all__ = ["EMBEDDED", "EVERYWHERE", "EXECUTORS", "Executor", "assert_right", "disturbed", "prove"]

Executor = Callable[[Plan, list[Event], random.Random], Outcome]
TORN = [
    DeadLetter(stage="read", code="malformed_line", message="torn", source="s:1", input="{"),
    DeadLetter(stage="read", code="malformed_line", message="torn", path="guests/1", source="s:2", input="{"),
]


def disturbed(table: Sequence[Event], order: random.Random) -> list[Change]:
    """Returns a history in another order, with some changes repeated."""
    again = [*table, *order.sample(list(table), len(table) // 2)]
    if order.random() < 0.5:
        order.shuffle(again)
    return changes(again)


def poisoned(table: Sequence[Event], order: random.Random) -> list[Change | DeadLetter]:
    """Returns a history with malformed lines in between."""
    found: list[Change | DeadLetter] = [*disturbed(table, order)]
    for _ in range(order.randint(0, 2)):
        found.insert(order.randint(0, len(found)), order.choice(TORN))
    return found


def batches(plan: Plan, table: list[Event], order: random.Random) -> Outcome:
    """Runs the embedded engine, with batches of any size."""
    given = poisoned(table, order)
    letters = Letters()
    outcome, report = followed(plan, [Batches("all", cut(given, order))], letters=letters)
    torn = [one for one in given if isinstance(one, DeadLetter)]
    assert [letter for letter in letters.letters if letter.stage == "read"] == torn, "each of these once, in order"
    assert report.changes == len(given) - len(torn)
    return outcome


def kills(plan: Plan, table: list[Event], order: random.Random, settings: Settings | None = None) -> Outcome:
    """Runs the embedded engine with durable state, killed at any point."""
    with tempfile.TemporaryDirectory() as folder:
        source, deaths = Batches("all", cut(poisoned(table, order), order)), order.randint(0, 4)
        settings = settings or Settings(coalesce_seconds=0)
        return lived(plan, [source], Path(folder, "state.db"), order, deaths, settings)[0]


def commits(plan: Plan, table: list[Event], order: random.Random) -> Outcome:
    """Runs the embedded engine with consistency `commit`, with late changes (S19)."""
    return kills(plan, table, order, Settings(coalesce_seconds=0, lateness_seconds=order.choice([0, 1e-6, 2e-6])))


def snapshot(plan: Plan, table: list[Event], order: random.Random) -> Outcome:
    """Runs the embedded engine with a snapshot and a stream."""
    given, place = poisoned(table, order), order.randint(0, len(table))
    first, stream = Batches("one", cut(given[:place], order)), Batches("two", cut(given[place:], order))
    stream.is_bounded = False  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        return lived(plan, [first, stream], Path(folder, "state.db"), order, order.randint(0, 3))[0]


def machines(plan: Plan, table: list[Event], order: random.Random) -> Outcome:
    """Runs the keyed steps, with messages in any order."""
    return streamed(plan, disturbed(table, order), order)


def on_beam(plan: Plan, table: list[Event], order: random.Random) -> Outcome:
    """Runs the streaming pipeline on Beam's local runner."""
    text = lines((one.path, one.version, bytes(one.fields).decode()) for one in disturbed(table, order))
    text += "".join("{torn\n" for _ in range(order.randint(0, 1)))
    with tempfile.TemporaryDirectory() as folder:
        return streamed_on_beam(plan, text, Path(folder), consistency=order.choice(["eventual", "commit"]))


EMBEDDED: dict[str, Executor] = {"batches": batches, "kills": kills, "commits": commits, "snapshot": snapshot}
EXECUTORS: dict[str, Executor] = {
    **EMBEDDED,
    "machines": machines,
    "backfill": lambda plan, table, order: embedded(plan, disturbed(table, order)),
    "partitions": lambda plan, table, order: partitioned(plan, disturbed(table, order), order.randint(1, 4)),
    "beam": on_beam,
}


def _beam_batch(plan: Plan, table: list[Event], order: random.Random) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return beam_backfill(plan, lines(table), Path(folder))


EVERYWHERE: dict[str, Executor] = {**EXECUTORS, "beam batch": _beam_batch}
"""Runs all executors: embedded (state in memory and in SQLite) and on Beam. The last two need importable views."""


def assert_right(plan: Plan, outcome: Outcome, table: Sequence[Event]) -> None:
    """Checks that rows equal the oracle's, except those whose getters raised, which depend on earlier rows."""
    truth = compute(plan, changes(table))
    unknown = outcome.unknown | truth.unknown
    assert told(plan, unknown, outcome.rows) == told(plan, unknown, truth.rows)


def prove(executor: str, source: str, table: list[Event], seed: int) -> None:
    """One case: a view (see `random_views.view_of`), a history, and the seed of all else."""
    view = view_of(source)
    if executor == "beam":  # Beam's workers import the view
        view = published(view)
        plan = load_plan(PlanName((f"{view.__module__}:{view.__qualname__}",)))
    else:
        plan = compile_plan([view])
    assert_right(plan, EXECUTORS[executor](plan, table, random.Random(seed)), table)
