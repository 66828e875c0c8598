"""A view's keyed steps, one change at a time, told as `docs/following_a_change_on_beam.md` shows it."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.pretty import pretty_repr

from boiler_beam.events import Change
from boiler_beam.plan import compile_plan
from boiler_beam.steps.keyed.routing import Key
from boiler_beam.steps.keyed.wire import decode
from boiler_beam.views import ViewModel
from tests.helpers.histories import change
from tests.helpers.network import ViewNetwork

_WIDTH = 100


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
        self.emitted.clear()

    def take(self, path: str, version: int, fields: Any, *, is_told: bool = True) -> None:
        """Applies a change, and delivers its messages."""
        self.observe(change(path, version, fields))
        while self.bag:
            label, key, message = self.bag.pop(0)
            known = decode(message)
            is_change = isinstance(known, Change)
            if is_told:
                told = f"Change({path!r}, {version}, ...)" if is_change else pretty_repr(known, max_width=_WIDTH)
                print(f"{label} at {_shown(key)} takes {told}")
            self.steps[label].take(self.cell(label, key), key, known)

    def show(self, label: str, name: str) -> None:
        """Prints what a cell keeps: its head, then the entries of its logs."""
        cell = self.cell(label, Key(name))
        print(pretty_repr(self.steps[label].heads.read(cell), max_width=_WIDTH))
        for place, log in enumerate(cell.logs):
            for entry in log.read():
                print(f"log {place}: {msgspec.msgpack.decode(entry)}")

    def write(self) -> None:
        """Renders the dirty rows, and prints the emitted ones."""
        for row in self.render():
            print(f"{row} waits")
        for one in self.emitted:
            print(one.path, one.stamp)
            print("deleted" if one.fields is None else one.fields.decode())
        self.emitted.clear()


def _shown(key: Key) -> str:
    return key.name if key.part is None else f"{key.name}, {key.part!r}"
