"""What a row holds where it can't look documents up: the documents themselves, as they came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from boiler_beam.steps.stream.messages import Held
from boiler_beam.steps.stream.plan import StreamPlan

__all__ = ["Holding"]


class Holding:
    """The documents of one row.

    Args:
        plan: The views.
        view: The row's view (its place).
        entries: Edge, path, how often, and what it is; see `LogHeld.each`.

    Attributes:
        is_waiting: Whether something is still on its way (S8): a document in two states, or less than once, or one that
            another document refers to and that has not answered.
        read: The edges that were asked for, as bits, and those that say what is wanted over them.
    """

    def __init__(self, plan: StreamPlan, view: int, entries: Iterable[tuple[int, str, int, Held | None]]) -> None:
        self._plan = plan
        self._edges = {name: number for number, (where, name) in enumerate(plan.places) if where == view}
        self._held: dict[int, dict[str, Held]] = {number: {} for number in self._edges.values()}
        self._known: dict[str, dict[str, Any]] = {}
        self.is_waiting, self.read = False, 0
        for edge, path, weight, one in entries:
            if weight < 0 or one is None or path in self._held[edge]:
                self.is_waiting = True
            else:
                self._held[edge][path] = one
        self._wanted: dict[int, set[str]] = {number: set() for number in self._held if plan.awaited[number]}
        for number in self._held:  # parents first
            for path, one in self._held[number].items():
                if one.is_there and (number not in self._wanted or path in self._wanted[number]):
                    for child, keys in one.links:
                        self._wanted[child].update(keys)
        self.is_waiting = self.is_waiting or any(
            not wanted <= self._held[number].keys() for number, wanted in self._wanted.items()
        )

    def __call__(self, name: str) -> dict[str, Any]:
        """The documents that the row has over an edge, by path."""
        found = self._known.get(name)
        if found is None:
            number = self._edges[name]
            self.read |= self._bits(number)
            wanted = self._wanted.get(number)
            found = self._known[name] = {
                path: self._document(number, path, one)
                for path, one in self._held[number].items()
                if one.is_there and (wanted is None or path in wanted)  # else it is about to leave
            }
        return found

    def _bits(self, number: int) -> int:
        """Stands for an edge, and for those above that say what the row wants over it."""
        parent = self._plan.parent[number]
        return 1 << number | (self._bits(parent) if number in self._wanted and parent is not None else 0)

    def _document(self, number: int, path: str, held: Held) -> Any:
        codec = self._plan.plan.families[self._plan.edges[number][1].family]
        if self._plan.travelling[number] is not None:
            return codec.partial(path, held.version, held.fields)
        return codec.decode(path, held.version, held.fields)
