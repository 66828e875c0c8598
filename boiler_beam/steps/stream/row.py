"""The step at a row: what its edges reached and what its aggregates hold, until it is rendered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from boiler_beam.events import DeadLetter
from boiler_beam.plan import Edge, Group, ViewPlan
from boiler_beam.steps.row import Copy, is_missing, render
from boiler_beam.steps.stream.cells import Entry, RowCell
from boiler_beam.steps.stream.messages import Added, Owned, Shown
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.values import from_wire

__all__ = ["Lookup", "Row"]

Lookup = Callable[[int, str], Any]
"""The document of a family (its place in the plan) at a path, or None."""


class Row:
    """Key: a view and a row. Takes what it has and adds, in any order; `render` says which copies there are of it.

    Shown(location, l1, +1, missing)      a required edge has nothing: no row
    Shown(location, l1, 0, {...})         the row can be rendered
    Shown(meeting, m1, 0, -> l2)          its location is l2 now, which has not answered: the row waits, as it stands
    Shown(location, l2, +1, {...})        rendered
    """

    def __init__(self, plan: StreamPlan, refuse: Callable[[DeadLetter], None], look_up: Lookup | None = None) -> None:
        self.plan, self.refuse, self.look_up = plan, refuse, look_up
        self._numbers = [
            {name: number for number, (where, name) in enumerate(plan.places) if where == place}
            for place in range(len(plan.plan.views))
        ]

    def shown(self, cell: RowCell, message: Shown) -> None:
        """The row has a document once more or less, or it changed."""
        cell.version = max(cell.version, message.version)
        entries, weight = cell.entries[message.edge], message.weight
        entry = entries.get(message.path)
        if entry is not None:
            weight += entry.weight
        if not weight and self.plan.is_local:
            entries.pop(message.path, None)
        elif message.weight >= 0 and (entry is None or message.sequence >= entry.sequence):
            entries[message.path] = Entry(
                weight, message.sequence, message.is_there, message.links, message.fields, message.document_version
            )
        elif entry is None:  # what it was comes later
            entries[message.path] = Entry(weight, -2, False, [], b"", 0)
        else:
            entries[message.path] = Entry(
                weight, entry.sequence, entry.is_there, entry.links, entry.fields, entry.version
            )

    def added(self, cell: RowCell, message: Added) -> None:
        """An aggregate has a value once more or less."""
        cell.version = max(cell.version, message.version)
        place, weight = message.aggregate, message.weight
        fold = self.plan.plan.views[self.plan.edges[message.edge][0]].aggregates[place].fold
        value = from_wire(message.value)
        if fold.keeps == "state":
            if place not in cell.states:
                cell.states[place] = fold.empty()
            (fold.add if weight > 0 else fold.retract)(cell.states[place], message.path, value)
            return
        values, key = cell.added[place], fold.rank(message.path, value)
        known = values.get(key)
        before = known[0] if known is not None else 0
        after = before + weight
        if after:
            values[key] = after, message.value if fold.keeps == "ranking" else None
        else:
            values.pop(key, None)
        if fold.keeps == "distinct":
            cell.states[place] = cell.states.get(place, 0) + (after > 0) - (before > 0)

    def owned(self, cell: RowCell, message: Owned) -> None:
        """A group has a member more or less."""
        cell.version = max(cell.version, message.version)
        cell.members += message.weight
        if message.weight > 0:
            cell.key = tuple(message.key) if isinstance(message.key, list) else message.key

    def is_waiting(self, cell: RowCell, place: int) -> bool:
        """Whether a document that the row wants has not answered yet (S8)."""
        for number in self._numbers[place].values():
            for _, entry in cell.entries[number].items() if self.plan.travels[number] else ():
                if entry.weight > 0 and entry.is_there:
                    for child, keys in entry.links:
                        answers = cell.entries[child]
                        if any((answer := answers.get(key)) is None or answer.weight <= 0 for key in keys):
                            return True
        return False

    def render(self, cell: RowCell, place: int, row_id: str) -> Sequence[Copy]:
        """The copies of the row as it stands; none where there is no row."""
        view = self.plan.plan.views[place]
        numbers = self._numbers[place]
        known: dict[str, dict[str, Any]] = {}

        def reached(name: str) -> dict[str, Any]:
            if name not in known:
                number = numbers[name]
                entries = cell.entries[number].items() if self.plan.travels[number] else ()
                known[name] = {
                    path: self._document(view.by_name[name], number, path, entry)
                    for path, entry in entries
                    if entry.weight > 0 and entry.is_there
                }
            return known[name]

        is_group = isinstance(view.root, Group)
        if not (cell.members > 0 if is_group else reached(view.root.name)):
            return ()
        if any(is_missing(edge, reached(edge.name)) for edge in view.edges if is_missing(edge, {})):
            return ()
        key = cell.key if is_group else row_id[row_id.rfind("/") + 1 :]
        return render(view, row_id, key, reached, lambda one: self._aggregate(cell, view, one), self.refuse)

    def is_empty(self, cell: RowCell, place: int) -> bool:
        """Whether nothing but its version is left of it."""
        numbers = [number for number in self._numbers[place].values() if self.plan.travels[number]]
        return not cell.members and not any(any(True for _ in cell.entries[number].items()) for number in numbers)

    def _document(self, edge: Edge, number: int, path: str, entry: Entry) -> Any:
        if self.look_up is not None:
            return self.look_up(edge.family, path)
        codec = self.plan.plan.families[edge.family]
        if self.plan.travelling[number] is not None:
            return codec.partial(path, entry.version, entry.fields)
        return codec.decode(path, entry.version, entry.fields)

    def _aggregate(self, cell: RowCell, view: ViewPlan, place: int) -> Any:
        fold = view.aggregates[place].fold
        if fold.keeps == "distinct":
            return cell.states.get(place, 0)
        if fold.keeps == "state":
            return fold.result(cell.states[place] if place in cell.states else fold.empty())
        state = fold.empty()
        present = (value for weight, value in cell.added[place].ranked() if weight > 0)
        for value in islice(present, fold.limit):
            fold.add(state, "", from_wire(value))
        return fold.result(state)
