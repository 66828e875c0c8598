"""The step at a row: what its edges reached and what its aggregates hold, until it is rendered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from boiler_beam.events import DeadLetter
from boiler_beam.plan import Edge, Group, ViewPlan
from boiler_beam.steps.row import Copy, is_missing, render
from boiler_beam.steps.stream.messages import Added, Owned, Shown
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.values import decode_wire, encode_wire, from_wire

__all__ = ["Row", "RowCell"]

_KEPT = 1 << 17
"""Documents that are kept as they were read, for the next row that has them."""


@dataclass
class _Entry:
    """A document that a row has over an edge, while `weight` is positive."""

    weight: int = 0
    sequence: int = -2
    fields: bytes | None = None
    links: list[tuple[int, list[str]]] = field(default_factory=list)
    version: int = 0


@dataclass
class RowCell:
    """What is kept of one row.

    Attributes:
        version: The newest version of all messages that reached it (S7).
        entries: Of each edge's number, the documents by path.
        members: How many members a group's row has.
        key: The group's key.
        states: Of each aggregate that can take values back, its accumulator.
        added: Of each other one, what was added: path and value, by weight.
    """

    version: int = 0
    entries: dict[int, dict[str, _Entry]] = field(default_factory=dict)
    members: int = 0
    key: Any = None
    states: dict[int, Any] = field(default_factory=dict)
    added: dict[int, dict[tuple[str, bytes], int]] = field(default_factory=dict)


class Row:
    """Key: a view and a row. Takes what it has and adds, in any order; `render` says which copies there are of it.

    Shown(location, l1, +1, missing)      a required edge has nothing: no row
    Shown(location, l1, 0, {...})         the row can be rendered
    Shown(meeting, m1, 0, -> l2)          its location is l2 now, which has not answered: the row waits, as it stands
    Shown(location, l2, +1, {...})        rendered
    """

    def __init__(self, plan: StreamPlan, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan, self.refuse = plan, refuse
        self._decoded: dict[tuple[int, str], tuple[bytes, Any]] = {}  # many rows have one document: it is read once
        self._numbers = [
            {name: number for number, (where, name) in enumerate(plan.places) if where == place}
            for place in range(len(plan.plan.views))
        ]

    def shown(self, cell: RowCell, message: Shown) -> None:
        """The row has a document once more or less, or it changed."""
        cell.version = max(cell.version, message.version)
        entry = cell.entries.setdefault(message.edge, {}).setdefault(message.path, _Entry())
        entry.weight += message.weight
        if message.weight >= 0 and message.sequence >= entry.sequence:
            entry.sequence, entry.fields, entry.links = message.sequence, message.fields, message.links
            entry.version = message.document_version

    def added(self, cell: RowCell, message: Added) -> None:
        """An aggregate has a value once more or less."""
        cell.version = max(cell.version, message.version)
        view = self.plan.plan.views[self.plan.edges[message.edge][0]]
        fold = view.aggregates[message.aggregate].fold
        if fold.can_retract:
            if message.aggregate not in cell.states:
                cell.states[message.aggregate] = fold.empty()
            change = fold.add if message.weight > 0 else fold.retract
            change(cell.states[message.aggregate], message.path, from_wire(message.value))
            return
        values = cell.added.setdefault(message.aggregate, {})
        key = message.path, encode_wire(from_wire(message.value))
        values[key] = values.get(key, 0) + message.weight
        if not values[key]:
            del values[key]

    def owned(self, cell: RowCell, message: Owned) -> None:
        """A group has a member more or less."""
        cell.version = max(cell.version, message.version)
        cell.members += message.weight
        if message.weight > 0:
            cell.key = tuple(message.key) if isinstance(message.key, list) else message.key

    def is_waiting(self, cell: RowCell) -> bool:
        """Whether a document that the row wants has not answered yet (S8)."""
        for entries in cell.entries.values():
            for entry in entries.values():
                if entry.weight > 0 and entry.fields is not None:
                    for child, keys in entry.links:
                        answers = cell.entries.get(child, {})
                        if any(key not in answers or answers[key].weight <= 0 for key in keys):
                            return True
        return False

    def render(self, cell: RowCell, place: int, row_id: str) -> Sequence[Copy]:
        """The copies of the row as it stands; none where there is no row."""
        view = self.plan.plan.views[place]
        numbers = self._numbers[place]
        known: dict[str, dict[str, Any]] = {}

        def reached(name: str) -> dict[str, Any]:
            if name not in known:
                entries = cell.entries.get(numbers[name], {})
                known[name] = {
                    path: self._document(view.by_name[name], numbers[name], path, entry)
                    for path, entry in entries.items()
                    if entry.weight > 0 and entry.fields is not None
                }
            return known[name]

        is_group = isinstance(view.root, Group)
        if not (cell.members > 0 if is_group else reached(view.root.name)):
            return ()
        if any(is_missing(edge, reached(edge.name)) for edge in view.edges if is_missing(edge, {})):
            return ()
        key = cell.key if is_group else row_id[row_id.rfind("/") + 1 :]
        return render(view, row_id, key, reached, lambda one: self._aggregate(cell, view, one), self.refuse)

    def _document(self, edge: Edge, number: int, path: str, entry: _Entry) -> Any:
        codec, fields = self.plan.plan.families[edge.family], entry.fields
        assert fields is not None
        if self.plan.travelling[number] is not None:
            return codec.partial(path, entry.version, fields)
        key = edge.family, path
        known = self._decoded.get(key)
        if known is not None and (known[0] is fields or known[0] == fields) and known[1].version == entry.version:
            return known[1]
        if len(self._decoded) >= _KEPT:
            self._decoded.clear()
        document = codec.decode(path, entry.version, fields)
        self._decoded[key] = fields, document
        return document

    def _aggregate(self, cell: RowCell, view: ViewPlan, place: int) -> Any:
        fold = view.aggregates[place].fold
        if place in cell.states:
            return fold.result(cell.states[place])
        state = fold.empty()
        for (path, value), weight in cell.added.get(place, {}).items():
            if weight > 0:
                fold.add(state, path, decode_wire(value))
        return fold.result(state)
