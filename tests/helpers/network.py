"""A simulator of a stream on many machines: keyed stages whose messages wait in one bag and are delivered in any order.

State is kept as bytes only, as a runner would; so it can be copied, and a simulation goes on from the copy.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable

import msgspec

from boiler_beam.events import Change, DeadLetter, Row
from boiler_beam.plan import Plan, ViewPlan
from boiler_beam.steps.keyed.logs import ListLog
from boiler_beam.steps.keyed.posting import ROW, address, addresses_of_change
from boiler_beam.steps.keyed.rows import RowStage
from boiler_beam.steps.keyed.stage import Cell, Stage
from boiler_beam.steps.keyed.stages import reporting, stages
from boiler_beam.steps.stream.messages import Message
from boiler_beam.steps.stream.plan import StreamPlan
from tests.helpers.executors import Outcome

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Message).decode


class StoredCell:
    """A cell as a runner stores it, with counts of read and written entries."""

    def __init__(self, number_of_logs: int) -> None:
        self.head: bytes | None = None
        self.logs = [CountedLog() for _ in range(number_of_logs)]

    def read(self) -> bytes | None:
        return self.head

    def write(self, head: bytes | None, /) -> None:
        self.head = head


class CountedLog(ListLog):
    """Counts the read entries and the written entries."""

    entries_read = entries_written = 0

    def append(self, entry: bytes, /) -> None:
        self.entries_written += 1
        super().append(entry)

    def read(self) -> list[bytes]:
        self.entries_read += len(self.entries)
        return super().read()

    def replace(self, entries: list[bytes], /) -> None:
        self.entries_written += len(entries)
        super().replace(entries)


class ViewNetwork:
    """The stages of one view, and the `Output` to which they send."""

    def __init__(
        self,
        view: ViewPlan,
        plan: Plan,
        order: random.Random | None = None,
        generation: int = 1,
        clock: Callable[[], int] | None = None,
        horizon: Callable[[], int] = lambda: 0,
        reports: frozenset[str] | None = None,
    ) -> None:
        self.plan = StreamPlan(Plan((view,), plan.families))
        self.order = order
        self.stages: dict[str, Stage] = stages(self.plan, self, generation, clock, horizon, reports)
        self.left: set[str] = set()
        self.cells: dict[tuple[str, str], StoredCell] = {}
        self.bag: list[tuple[str, str, bytes | Change]] = []
        self.letters: list[DeadLetter] = []
        self.given: list[Row] = []
        self.number_of_messages = 0

    def post(self, message: Message) -> None:
        stage, key = address(self.plan, message)
        labels = list(self.stages)
        assert self.current is None or labels.index(stage) > labels.index(self.current), "a message went back"
        self.bag.append((stage, key, _encode(message)))

    current: str | None = None

    def known(self, path: str, number: int) -> None:
        pass

    def leave(self, path: str) -> None:
        self.left.add(path)

    def give(self, row: Row) -> None:
        self.given.append(row)

    def refuse(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def observe(self, change: Change) -> None:
        self.bag += [(stage, key, change) for stage, key in addresses_of_change(self.plan, change.path)]

    def cell(self, stage: str, key: str) -> Cell:
        found = self.cells.get((stage, key))
        if found is None:
            found = self.cells[stage, key] = StoredCell(self.stages[stage].number_of_logs)
        return found

    def settle(self, most: int = 1 << 60) -> None:
        """Delivers messages until none is left, or a number of them was delivered."""
        while self.bag and most:
            most -= 1
            place = self.order.randrange(len(self.bag)) if self.order is not None else 0
            self.bag[place], self.bag[-1] = self.bag[-1], self.bag[place]
            stage, key, message = self.bag.pop()
            self.number_of_messages += 1
            self.current = stage
            known = message if isinstance(message, Change) else _decode(message)
            self.stages[stage].take(self.cell(stage, key), key, known)
            self.current = None

    def rows(self) -> list[str]:
        return [key for stage, key in self.cells if stage == ROW]

    def render(self, some: Iterable[str] | None = None) -> list[str]:
        """Renders dirty rows, and returns those that wait for messages."""
        stage = self.stages[ROW]
        assert isinstance(stage, RowStage)
        waiting = []
        for key in self.rows() if some is None else some:
            self.current = ROW
            if not stage.render(self.cell(ROW, key), key):
                waiting.append(key)
        self.current = None
        return waiting

    def expire(self, horizon: int) -> None:
        """Drops the cells that have been empty since a time."""
        for (stage, _), cell in self.cells.items():
            self.stages[stage].expire(cell, horizon)

    def snapshot(self) -> object:
        """Returns the content of a runner's checkpoint: cells, and messages in transit."""
        return copy.deepcopy((self.cells, self.bag))

    def restore(self, snapshot: object) -> None:
        self.cells, self.bag = copy.deepcopy(snapshot)  # type: ignore[misc]


class Network:
    """The stages of all views of a plan."""

    def __init__(self, plan: Plan, order: random.Random | None = None) -> None:
        reports = reporting([StreamPlan(Plan((view,), plan.families)) for view in plan.views])
        self.views = [
            ViewNetwork(view, plan, order, reports=labels) for view, labels in zip(plan.views, reports, strict=True)
        ]

    def observe(self, change: Change) -> None:
        for view in self.views:
            view.observe(change)

    def settle(self, most: int = 1 << 60) -> None:
        for view in self.views:
            view.settle(most)

    def outcome(self) -> Outcome:
        """Returns the rows after all messages were delivered: the newest stamp of each path."""
        outcome = Outcome()
        for view in self.views:
            view.settle()
            waiting = view.render()
            assert not waiting, f"{waiting} wait for ever"
            view.settle()
            standing: dict[str, Row] = {}
            for row in view.given:
                if row.path not in standing or standing[row.path].stamp < row.stamp:
                    standing[row.path] = row
            outcome.rows |= {path: row.fields for path, row in standing.items() if row.fields is not None}
            outcome.letters += view.letters
        return outcome


def streamed(plan: Plan, changes: Iterable[Change], order: random.Random | None = None) -> Outcome:
    """Sends a history through the stages: changes, deliveries and renderings in turns."""
    network = Network(plan, order)
    for change in changes:
        network.observe(change)
        network.settle(order.randrange(6) if order is not None else 1 << 60)
        if order is not None and order.random() < 0.3:
            for view in network.views:
                rows = view.rows()
                view.render(order.sample(rows, min(len(rows), 2)))
    return network.outcome()
