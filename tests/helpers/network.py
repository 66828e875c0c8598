"""A network of the steps of a stream: messages wait in one bag and are delivered in any order, each exactly once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Plan
from boiler_beam.steps.claims import Claims
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.stream import (
    Document,
    DocumentCell,
    First,
    FirstCell,
    Reach,
    ReachCell,
    Row,
    RowCell,
    StreamPlan,
)
from boiler_beam.steps.stream.messages import Added, Candidate, Lies, Message, Owned, Shown, Wanted
from boiler_beam.values import decode_fields
from tests.helpers.executors import Outcome

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Message).decode


class Network:
    """The steps over cells in memory."""

    def __init__(self, plan: Plan, order: random.Random | None = None) -> None:
        self.plan, self.order = StreamPlan(plan), order
        self.bag: list[bytes] = []
        self.letters: list[DeadLetter] = []
        self.versions = NewestVersions(plan, self.letters.append)
        self.documents: dict[tuple[int, str], DocumentCell] = defaultdict(DocumentCell)
        self.reaches: dict[Any, ReachCell] = defaultdict(ReachCell)
        self.firsts: dict[Any, FirstCell] = defaultdict(FirstCell)
        self.rows: dict[tuple[int, str], RowCell] = defaultdict(RowCell)
        self.delivered = 0
        send = self.send
        self.document = Document(self.plan, send, self.letters.append)
        self.reach, self.first = Reach(self.plan, send), First(self.plan, send)
        self.row = Row(self.plan, self.letters.append)

    def send(self, message: Any) -> None:
        """Puts a message into the bag, as bytes."""
        self.bag.append(_encode(message))

    def observe(self, change: Change) -> None:
        """One observed version."""
        families = self.plan.plan.families_of(change.path)
        before = {family: self.versions.changes[family].get(change.path) for family in families}
        self.versions.add(change)
        for family in families:
            standing = self.versions.changes[family].get(change.path)
            if standing is not None and standing is not before[family]:
                document = self.versions.documents[family].get(change.path)
                self.document.changed(self.documents[family, change.path], family, document, standing)

    def step(self, most: int = 1 << 60) -> None:
        """Delivers messages until none is left, or so many were."""
        while self.bag and most:
            most -= 1
            place = self.order.randrange(len(self.bag)) if self.order is not None else 0
            self.bag[place], self.bag[-1] = self.bag[-1], self.bag[place]
            self.delivered += 1
            self._deliver(_decode(self.bag.pop()))

    def _deliver(self, message: Any) -> None:
        match message:
            case Wanted():
                self.reach.wanted(self.reaches[message.edge, message.key], message)
            case Lies():
                self.reach.lies(self.reaches[message.edge, message.key], message)
            case Candidate():
                limited = self.plan.edges[message.edge][1].limit is not None
                key = (message.edge, message.row, "" if limited else message.path)
                self.first.candidate(self.firsts[key], message)
            case Shown():
                self.row.shown(self.rows[self.plan.edges[message.edge][0], message.row], message)
            case Added():
                self.row.added(self.rows[self.plan.edges[message.edge][0], message.row], message)
            case Owned():
                key = tuple(message.key) if isinstance(message.key, list) else message.key
                self.row.owned(self.rows[message.view, message.row], msgspec.structs.replace(message, key=key))

    def addresses(self) -> list[str]:
        """The addresses of the rows that do not wait."""
        rendered = [
            copy
            for (view, row_id), cell in self.rows.items()
            if not self.row.is_waiting(cell)
            for copy in self.row.render(cell, view, row_id)
        ]
        return [decode_fields(copy.fields or b"{}")["address"] for copy in rendered]

    def outcome(self) -> Outcome:
        """The rows when all is delivered."""
        assert not self.bag
        outcome = Outcome()
        claims = [Claims(view.name) for view in self.plan.plan.views]
        for (view, row_id), cell in self.rows.items():
            assert not self.row.is_waiting(cell), f"{row_id} waits for ever"
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
    network = Network(plan, order)
    for change in changes:
        network.observe(change)
        network.step(order.randrange(6) if order is not None else 1 << 60)
    network.step()
    return network.outcome()
