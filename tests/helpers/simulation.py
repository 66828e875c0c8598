"""A stream on many machines, simulated: any order, duplicates, restarts, late writers, backfills, forgetting (S1-S16).

Each world is a function of a seed, which raises where a row is wrong that stands at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Set
from typing import Any

from boiler_beam.events import Change, EncodedRow, Stamp, Touch
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from boiler_beam.samples.meeting import MeetingSession
from boiler_beam.steps.keyed.routing import Key
from tests.helpers import town
from tests.helpers.executors import told
from tests.helpers.histories import Event, changes, table_of
from tests.helpers.network import ViewNetwork

__all__ = ["WORLDS", "generations", "restarts"]

PLAN = compile_plan(town.VIEWS)
Table = list[Event]
ROOTED = [1, 3]
"""Views whose rows disappear only by deletions."""


def events(order: random.Random, number: int) -> Table:
    """Returns a history of the town; versions increase with gaps, so that event times fit in between."""
    found: Table = []
    for place in range(number):
        one, two, three = (order.choice("12") for _ in range(3))
        guest, message = f"guests/{one}", f"rooms/{one}/messages/{two}"
        name = order.choice(["Ann", "Bo", "a"])
        made: list[tuple[str, Any]] = [
            (guest, {"name": name, "nick": order.choice("ab"), "level": order.choice(["new", "old"])}),
            (guest, {"name": 7}),
            (f"rooms/{one}", {"members": [f"guests/{order.choice('12')}" for _ in range(order.randint(0, 2))], "host": f"guests/{two}"}),
            (message, {"author": f"guests/{three}", "sent": order.choice([1, 2, 4]), "tags": order.choice([[], ["x"], ["x", "y"]])}),
            (f"{message}/notes/{three}", {"text": order.choice("pq")}),
            (f"guests/{one}/comments/{two}", {"stars": order.randint(0, 3), "by": f"guests/{three}"}),
            ("config/board", {"featured": [f"guests/{one}", f"guests/{two}"]}),
        ]  # fmt: skip
        path, fields = order.choice(made)
        found.append((path, 10 * (place + 1), None if order.random() < 0.2 else fields))
    return found


class Simulation:
    """One view, its sink, and the writes in flight between them."""

    def __init__(self, view: int, seed: int, *, is_durable: bool = True, has_clock: bool = False) -> None:
        self.order = random.Random(seed)
        self.view, self.is_durable, self.has_clock = PLAN.views[view], is_durable, has_clock
        self.clock, self.generation = 0, 1
        self.history: list[Change] = []
        self.sink: dict[str, EncodedRow] = {}
        self.writes: list[EncodedRow] = []
        self.network = self.start()
        self.saved: tuple[int, Any] = 0, self.network.snapshot()

    def start(self) -> ViewNetwork:
        clock = (lambda: 1000 + 10 * self.clock) if self.has_clock else None  # no document is of a later time
        return ViewNetwork(self.view, PLAN, self.order, self.generation, clock, lambda: self.horizon)

    horizon = 0

    def write(self, most: int = 1 << 60) -> None:
        """Applies some of the writes in flight to the sink, in any order: the newest stamp wins, at equal stamps the later."""
        if not self.is_durable:
            self.commit()
        while self.writes and most:
            most -= 1
            row = self.writes.pop(self.order.randrange(len(self.writes)))
            if row.path not in self.sink or self.sink[row.path].stamp <= row.stamp:
                self.sink[row.path] = row

    def observe(self, change: Change) -> None:
        self.history.append(change)
        self.network.observe(change)

    def work(self) -> None:
        """Does a few random steps of each kind."""
        self.clock += 1
        self.network.settle(self.order.randrange(8))
        known = self.network.rows()
        self.network.render(self.order.sample(known, min(len(known), self.order.randrange(3))))
        if self.order.random() < 0.5:
            self.write(self.order.randrange(3))

    def commit(self) -> None:
        """What was given is on its way to the sink."""
        self.writes += self.network.emitted
        self.network.emitted.clear()

    def save(self) -> None:
        """Makes a checkpoint: rows emitted before it pass the durable shuffle."""
        self.commit()
        self.saved = len(self.history), self.network.snapshot()

    def restore(self) -> None:
        """Rolls the runner back to its checkpoint; the source repeats the changes since."""
        self.write(0)
        self.network.emitted.clear()
        self.clock += 1
        number, snapshot = self.saved
        self.network.restore(snapshot)
        for change in self.history[number:]:
            self.network.observe(change)

    def restart(self, step: int) -> None:
        """Starts another program with empty state, while writes of the old one are in flight."""
        self.commit()
        self.generation += step
        self.network = self.start()
        for change in self.history:
            self.network.observe(change)
        self.save()

    def end(self) -> None:
        """Delivers and writes everything; then the complete generation prunes the rows that it did not emit (S13)."""
        self.clock += 1
        self.network.settle()
        assert not self.network.render(), "a row waits for ever"
        self.network.settle()
        self.commit()
        self.write()
        left = self.network.unchanged
        for path, row in self.sink.items():
            if (
                row.stamp.generation < self.generation
                and path not in left
                and self.view.paths.wildcard_of(path) not in left
            ):
                self.sink[path] = EncodedRow(path, Stamp(self.generation, 0, 0), None)

    def newer(self) -> set[str]:
        """The paths of rows that are newer in the sink than where they were made: a run that was rolled back wrote them."""
        heads = self.network.steps["Row"].heads
        heads_of_rows = [heads.read(self.network.cell("Row", Key(row_id))) for row_id in self.network.rows()]
        given = {path: one.version for head in heads_of_rows for path, one in head.emitted.items()}
        return {path for path, row in self.sink.items() if row.stamp.version > given.get(path, row.stamp.version)}

    def assert_right(self, remaining: Set[str] = frozenset()) -> None:
        plan = self.network.view.plan
        truth = compute(plan, self.history)
        unknown = truth.unknown | remaining
        held = {path: row.fields for path, row in self.sink.items() if row.fields is not None}
        is_right = told(plan, unknown, held) == told(plan, unknown, truth.rows)
        assert is_right, f"{self.view.name}: table = {table_of(self.history)!r}"


def any_order(seed: int) -> None:
    """Messages, renderings and writes in any order; repeated and late changes."""
    simulation = Simulation(seed % len(PLAN.views), seed)
    table = events(simulation.order, 14)
    again = [*table, *simulation.order.sample(table, 5)]
    again.sort(key=lambda event: event[1] + simulation.order.choice([0, 0, 35]))
    for change in changes(again):
        simulation.observe(change)
        simulation.work()
    simulation.end()
    simulation.assert_right()


def restarts(seed: int, *, is_durable: bool = True, has_clock: bool = False) -> None:
    """Back to checkpoints; where there is no durable shuffle, after what came since was written already (S15).

    The case that remains then: a row that only a rolled-back run had, or that was newer there, because messages came in
    another order. So nothing goes here, and a row is not looked at that is newer in the sink than where it was made.
    """
    place = seed % len(PLAN.views) if is_durable else ROOTED[seed % len(ROOTED)]
    simulation = Simulation(place, seed, is_durable=is_durable, has_clock=has_clock)
    table = events(simulation.order, 14)
    for change in changes(table if is_durable else [event for event in table if event[2] is not None]):
        simulation.observe(change)
        simulation.work()
        if simulation.order.random() < 0.3:
            simulation.save()
        elif simulation.order.random() < 0.3:
            simulation.restore()
    simulation.end()
    simulation.assert_right(set() if is_durable else simulation.newer())


def generations(seed: int, *, step: int = 1) -> None:
    """Programs that restart with empty state, while writes of the old ones still arrive (S13)."""
    simulation = Simulation(seed % len(PLAN.views), seed)
    for change in changes(events(simulation.order, 14)):
        simulation.observe(change)
        simulation.work()
        if simulation.order.random() < 0.15:
            simulation.restart(step)
    simulation.end()
    simulation.assert_right()


def backfills(seed: int, *, is_live: bool = True) -> None:
    """Rows in the sink are changed; a backfill corrects them, by touches, or itself without a live stream (S16)."""
    simulation = Simulation(seed % len(PLAN.views), seed)
    for change in changes(events(simulation.order, 10)):
        simulation.observe(change)
        simulation.work()
    simulation.end()
    for path in simulation.order.sample(list(simulation.sink), min(2, len(simulation.sink))):
        row = simulation.sink[path]
        simulation.sink[path] = row._replace(fields=None if row.fields is not None else b'{"wrong":1}')
    paths = simulation.view.paths
    extra = paths.fill("nobody", dict.fromkeys(paths.given, "x")) if paths.root is None else ""
    if extra:
        simulation.sink[extra] = EncodedRow(extra, Stamp(simulation.generation, 0, 0), b'{"wrong":2}')
    read_time = 10 * len(simulation.history) + 5
    truth = compute(simulation.network.view.plan, simulation.history)
    held = {path: row.fields for path, row in simulation.sink.items()}
    differ = {path for path in held if told(PLAN, truth.unknown, {path: b""}) and held[path] != truth.rows.get(path)}
    for path in differ if is_live else ():
        simulation.network.send(Touch(simulation.view.name, path, read_time))
    for path in differ if not is_live else ():
        simulation.sink[path] = EncodedRow(path, Stamp(simulation.generation, read_time, 0), truth.rows.get(path))
    more = [(path, version + read_time, fields) for path, version, fields in events(simulation.order, 6)]
    for change in changes(more):
        simulation.observe(change)
        simulation.work()
    simulation.end()
    simulation.assert_right()


def forgetting(seed: int) -> None:
    """Empty cells are dropped and created again; changes older than the horizon are refused (S3)."""
    simulation = Simulation(seed % len(PLAN.views), seed)
    history = changes(events(simulation.order, 24))
    for place, change in enumerate(history):
        simulation.observe(change)
        simulation.work()
        if simulation.order.random() < 0.2:
            simulation.network.settle()
            simulation.network.render()
            simulation.network.settle()  # nothing is on its way for as long as deletions are remembered
            simulation.horizon = change.version + 1
            simulation.network.expire(simulation.horizon)
            simulation.network.observe(simulation.order.choice(history[: place + 1]))
    simulation.end()
    simulation.assert_right()


MEETING = compile_plan([MeetingSession])


def seen(seed: int) -> None:
    """A row with references is never emitted without an expected document: it is the row before or after a change (S8)."""
    order = random.Random(seed)
    network = ViewNetwork(MEETING.views[0], MEETING, order)
    ids, before, table = "12", {}, []
    for version in range(1, 14):
        one, two = order.choice(ids), order.choice(ids)
        made: list[tuple[str, Any]] = [
            (f"locations/{one}", {"latitude": 0.0, "longitude": 0.0, "address": two}),
            (f"users/{one}", {"firstName": two, "lastName": "x", "organization": "o", "hearingAidRequested": False}),
            (f"tickets/{one}", {"user": f"users/{one}", "role": "r", "attendance": order.random() < 0.7}),
            ("meetings/m", {"location": f"locations/{one}", "users": [f"users/{two}"], "tickets": {two: f"tickets/{one}"}, "status": "closed"}),
        ]  # fmt: skip
        path, fields = order.choice([*made, made[-1]])
        table.append((path, version, None if order.random() < 0.15 else fields))
        after = compute(MEETING, changes(table)).rows
        network.observe(changes(table[-1:])[0])
        while network.bag:
            network.settle(1)
            network.render()
        for row in network.emitted:
            assert row.fields in (before.get(row.path), after.get(row.path)), f"table = {table!r}"
        network.emitted.clear()
        before = after


WORLDS: dict[str, Callable[[int], None]] = {
    "any order": any_order,
    "restarts": restarts,
    "restarts without a durable shuffle": lambda seed: restarts(seed, is_durable=False, has_clock=True),
    "generations": generations,
    "a backfill beside the stream": backfills,
    "a backfill while no stream is live": lambda seed: backfills(seed, is_live=False),
    "forgetting": forgetting,
    "seen": seen,
}
