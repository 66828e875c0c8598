"""A network of the steps of a stream whose messages wait in one bag, as bytes, and are delivered in any order."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec

from boiler_beam.engine.stream import Network
from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Plan
from boiler_beam.steps.claims import Claims
from boiler_beam.steps.stream import MemoryCells, StreamPlan
from boiler_beam.steps.stream.messages import Message
from boiler_beam.values import decode_fields
from tests.helpers.executors import Outcome

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Message).decode


class ShuffledNetwork(Network):
    """Each message is delivered once, at any time."""

    def __init__(self, plan: Plan, order: random.Random | None = None) -> None:
        self.order = order
        self.bag: list[bytes] = []
        self.letters: list[DeadLetter] = []
        self.memory = MemoryCells()
        super().__init__(StreamPlan(plan), self.letters.append, self.memory)
        self.rows = self.memory.rows

    def send(self, message: Message) -> None:
        """Puts a message into the bag."""
        self.bag.append(_encode(message))

    def settle(self, most: int = 1 << 60) -> None:
        """Delivers messages until none is left, or so many were."""
        while self.bag and most:
            most -= 1
            place = self.order.randrange(len(self.bag)) if self.order is not None else 0
            self.bag[place], self.bag[-1] = self.bag[-1], self.bag[place]
            self.deliver(_decode(self.bag.pop()))

    def addresses(self) -> list[str]:
        """The addresses of the rows that do not wait."""
        rendered = [
            copy
            for (view, row_id), cell in self.rows.items()
            if not self.row.is_waiting(cell, view)
            for copy in self.row.render(cell, view, row_id)
        ]
        return [decode_fields(copy.fields or b"{}")["address"] for copy in rendered]

    def outcome(self) -> Outcome:
        """The rows when all is delivered."""
        assert not self.bag
        outcome = Outcome()
        claims = [Claims(view.name) for view in self.plan.plan.views]
        for (view, row_id), cell in self.rows.items():
            assert not self.row.is_waiting(cell, view), f"{row_id} waits for ever"
            for copy in self.row.render(cell, view, row_id):
                claims[view].add(row_id, copy)
        for one in claims:
            for copy in one.settled():
                if copy.fields is None:
                    outcome.tainted.add(copy.path)
                else:
                    outcome.rows[copy.path] = copy.fields
        return outcome


def streamed(plan: Plan, changes: Iterable[Change], order: random.Random | None = None) -> Outcome:
    """A history through the network: changes and deliveries in turns."""
    network = ShuffledNetwork(plan, order)
    for change in changes:
        network.observe(change)
        network.settle(order.randrange(6) if order is not None else 1 << 60)
    network.settle()
    return network.outcome()
