"""Runs a view's keyed stages one change at a time, and prints the messages for `docs/following_a_change.md`."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.pretty import pretty_repr

from boiler_beam.events import Change
from boiler_beam.plan import compile_plan
from boiler_beam.steps.stream.messages import Message
from boiler_beam.views import ViewModel
from tests.helpers.histories import change
from tests.helpers.network import ViewNetwork

_WIDTH = 100
_decode_message = msgspec.msgpack.Decoder(Message).decode


class Followed(ViewNetwork):
    """Delivers the messages of a change in the order in which they are sent, and prints them."""

    def __init__(self, view: type[ViewModel]) -> None:
        plan = compile_plan([view])
        super().__init__(plan.views[0], plan)

    def begin_with(self, *table: tuple[str, int, Any]) -> None:
        """Applies some changes and writes the rows, without printing."""
        for one in table:
            self.take(*one, is_told=False)
        self.render()
        self.given.clear()

    def take(self, path: str, version: int, fields: Any, *, is_told: bool = True) -> None:
        """Applies a change, and delivers its messages."""
        self.observe(change(path, version, fields))
        while self.bag:
            stage, key, message = self.bag.pop(0)
            known = message if isinstance(message, Change) else _decode_message(message)
            is_change = isinstance(known, Change)
            if is_told:
                told = f"Change({path!r}, {version}, ...)" if is_change else pretty_repr(known, max_width=_WIDTH)
                print(f"{stage} at {key} takes {told}")
            self.stages[stage].take(self.cell(stage, key), key, known)

    def show(self, stage: str, key: str) -> None:
        """Prints the state of a cell: its head, then the entries of its logs."""
        cell = self.cell(stage, key)
        print(pretty_repr(self.stages[stage]._codec.read(cell), max_width=_WIDTH))  # type: ignore[attr-defined]
        for place, log in enumerate(cell.logs):
            for entry in log.read():
                print(f"log {place}: {msgspec.msgpack.decode(entry)}")

    def write(self) -> None:
        """Renders the dirty rows, and prints the emitted ones."""
        for row in self.render():
            print(f"{row} waits")
        for one in self.given:
            print(one.path, one.stamp)
            print("deleted" if one.fields is None else one.fields.decode())
        self.given.clear()
