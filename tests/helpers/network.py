"""A simulator of a stream on many workers: keyed steps whose messages wait in one bag and are delivered in any order.

State is kept as bytes only, as a runner would; so it can be copied, and a simulation goes on from the copy.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable

from boiler_beam.events import Change, DeadLetter, EncodedRow, Touch
from boiler_beam.plan import Plan, ViewPlan
from boiler_beam.steps.keyed import Cell, KeyedView, Step, StepSettings, reporting_labels, steps_of
from boiler_beam.steps.keyed.cells import ListLog
from boiler_beam.steps.keyed.messages import Message
from boiler_beam.steps.keyed.routing import ROW, Key, address, addresses_of_change
from boiler_beam.steps.keyed.rows import RowStep
from boiler_beam.steps.keyed.wire import decode, encode
from tests.helpers.executors import Outcome


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
    """The steps of one view; it is the `Output` that they send to."""

    def __init__(
        self,
        view: ViewPlan,
        plan: Plan,
        order: random.Random | None = None,
        generation: int = 1,
        clock: Callable[[], int] | None = None,
        horizon: Callable[[], int] = lambda: 0,
        reporting: frozenset[str] | None = None,
    ) -> None:
        self.view = KeyedView(Plan((view,), plan.document_types))
        self.order = order
        settings = StepSettings(generation, clock, horizon, reporting)
        self.steps: dict[str, Step] = steps_of(self.view, self, settings)
        self.unchanged: set[str] = set()
        self.cells: dict[tuple[str, Key], StoredCell] = {}
        self.bag: list[tuple[str, Key, bytes]] = []
        self.letters: list[DeadLetter] = []
        self.emitted: list[EncodedRow] = []
        self.number_of_messages = 0

    def send(self, message: Message | Touch) -> None:
        label, key = address(self.view, message)
        labels = list(self.steps)
        assert self.current is None or labels.index(label) > labels.index(self.current), "a message went back"
        self.bag.append((label, key, encode(message)))

    current: str | None = None

    def count_documents(self, path: str, number: int) -> None:
        pass

    def leave_unchanged(self, path: str) -> None:
        self.unchanged.add(path)

    def emit(self, row: EncodedRow) -> None:
        self.emitted.append(row)

    def refuse(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def observe(self, change: Change) -> None:
        self.bag += [(label, key, encode(change)) for label, key in addresses_of_change(self.view, change.path)]

    def cell(self, label: str, key: Key) -> Cell:
        found = self.cells.get((label, key))
        if found is None:
            found = self.cells[label, key] = StoredCell(self.steps[label].number_of_logs)
        return found

    def settle(self, most: int = 1 << 60) -> None:
        """Delivers messages until none is left, or a number of them was delivered."""
        while self.bag and most:
            most -= 1
            place = self.order.randrange(len(self.bag)) if self.order is not None else 0
            self.bag[place], self.bag[-1] = self.bag[-1], self.bag[place]
            label, key, message = self.bag.pop()
            self.number_of_messages += 1
            self.current = label
            self.steps[label].take(self.cell(label, key), key, decode(message))
            self.current = None

    def rows(self) -> list[str]:
        return [key.name for label, key in self.cells if label == ROW]

    def render(self, some: Iterable[str] | None = None) -> list[str]:
        """Renders dirty rows; gives those that wait."""
        step = self.steps[ROW]
        assert isinstance(step, RowStep)
        waiting = []
        for row_id in self.rows() if some is None else some:
            self.current = ROW
            if not step.render(self.cell(ROW, Key(row_id)), row_id):
                waiting.append(row_id)
        self.current = None
        return waiting

    def expire(self, horizon: int) -> None:
        """Drops the cells whose contents went before a time."""
        for (label, _), cell in self.cells.items():
            self.steps[label].expire(cell, horizon)

    def snapshot(self) -> object:
        """Returns the content of a runner's checkpoint: cells, and messages in transit."""
        return copy.deepcopy((self.cells, self.bag))

    def restore(self, snapshot: object) -> None:
        self.cells, self.bag = copy.deepcopy(snapshot)  # type: ignore[misc]


class Network:
    """The steps of all views of a plan."""

    def __init__(self, plan: Plan, order: random.Random | None = None) -> None:
        labels = reporting_labels([KeyedView(Plan((view,), plan.document_types)) for view in plan.views])
        self.views = [
            ViewNetwork(view, plan, order, reporting=some) for view, some in zip(plan.views, labels, strict=True)
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
            standing: dict[str, EncodedRow] = {}
            for row in view.emitted:
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
