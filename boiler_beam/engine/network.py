"""The steps of a stream in one process: what one sends, the next one takes at once.

So between two changes all that a change sent has arrived, and rows look documents up where distributed ones hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from boiler_beam.engine.reach import reach
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Edge, Group, Reference, Root
from boiler_beam.steps.functions import known_references
from boiler_beam.steps.row import store_value
from boiler_beam.steps.stream import CountWays, Distinct, Down, First, Row, StreamPlan, Up
from boiler_beam.steps.stream.cells import Cells, RowCell
from boiler_beam.steps.stream.down import NOTHING_NEW
from boiler_beam.steps.stream.messages import Part, State

__all__ = ["Network", "Over"]

Documents = dict[str, DomainModel]


class Network:
    """The steps over cells; it is what they send to (see `Out`).

    Args:
        plan: The views.
        refuse: Takes the dead letters.
        cells: Where the cells are.

    Attributes:
        dirty: Of each view, the rows that a change touched; whoever renders them takes them out.
        silent: The views (their places) whose rows are not given yet: they do not get dirty.
        number_of_messages: How many were delivered.
    """

    def __init__(self, plan: StreamPlan, refuse: Callable[[DeadLetter], None], cells: Cells) -> None:
        self.plan, self.cells = plan, cells
        views = plan.plan.views
        self.dirty: list[dict[str, None]] = [{} for _ in views]
        self.silent: set[int] = set()
        self.number_of_messages = 0
        self._documents = 0
        self._invalid = [0 for _ in plan.plan.families]
        self.down = Down(plan, self, refuse)
        self.row = Row(plan, refuse)
        self._up, self._first, self._ways = Up(plan, self), First(plan, self), CountWays(plan, self)
        self._distinct = Distinct(self)
        self._view_of = [view for view, _ in plan.edges]
        self._holds_members = [
            isinstance(edge, Group) and edge.limit is None and plan.travels[number]
            for number, (_, edge) in enumerate(plan.edges)
        ]
        self._documents_of = [self.cells.documents(edge.family) for _, edge in plan.edges]
        self._listed_below = [[child for child, _ in plan.references[number]] for number in range(len(plan.edges))]
        self._readers: list[dict[str, Reader]] = [{} for _ in views]
        for number, (view, edge) in enumerate(plan.edges):
            self._readers[view][edge.name] = self._reader(number, edge)

    def observe(self, change: Change) -> None:
        """Takes one observed version of a document."""
        for place, family in enumerate(self.plan.plan.families_of(change.path)):
            cell = self.cells.down(family, change.path)
            was_there, was_invalid = cell.fields != b"null", cell.invalid is not None
            document = self.down.observed(cell, family, change)
            if document is not NOTHING_NEW:
                self.cells.keep(family, change.path, document)
                self.down.tell(cell, self.plan.of_family[family], document, change)
                if place == 0:
                    self._documents += (document is not None) - was_there
            self._invalid[family] += (cell.invalid is not None) - was_invalid

    def take_counts(self) -> Iterator[tuple[str, int]]:
        """How many more documents are known, and how many more of each collection have a newer invalid version."""
        yield "documents", self._documents
        for family, number in zip(self.plan.plan.families, self._invalid, strict=True):
            if number:
                yield f"invalid {family.pattern.text}", number
        self._clear_counts()

    def _clear_counts(self) -> None:
        self._documents, self._invalid = 0, [0 for _ in self._invalid]

    def rebuild(self, family: int, path: str, numbers: Iterable[int]) -> None:
        """Says again what a known document is at some edges: of views that were changed or added.

        Its newest invalid version stands if these views' models can read it now (S2).
        """
        cell = self.cells.down(family, path)
        if cell.invalid is not None:
            version, fields = cell.invalid
            cell.refused = ()  # these models may refuse it, too, and say so
            self.observe(Change(path, version, msgspec.Raw(fields)))
        if cell.version >= 0:
            change = Change(path, cell.version, msgspec.Raw(cell.fields))
            self.down.tell(cell, numbers, self.cells.documents(family)(path), change)

    def forget(self) -> None:
        """After a rollback: what was touched is not."""
        self._clear_counts()
        for dirty in self.dirty:
            dirty.clear()

    # What steps send --------------------------------------------------------------------------------------------------

    def lies(self, edge: int, key: str, path: str, old: State | None, new: State, version: int, /) -> None:
        """See `Out`."""
        self.number_of_messages += 1
        self._up.lies(self.cells.up(edge, key), edge, key, path, old, new, version)

    def touched(self, edge: int, path: str, version: int, /) -> None:
        """See `Out`."""
        self.number_of_messages += 1
        view = self._view_of[edge]
        for row, _ in self.cells.up(edge, path).rows.items():
            self.number_of_messages += 1
            self._changed(self.cells.row(view, row), view, edge, row, path, version)

    def wanted(self, edge: int, key: str, row: str, weight: int, version: int, /) -> None:
        """See `Out`."""
        self.number_of_messages += 1
        self._up.wanted(self.cells.up(edge, key), edge, key, row, weight, version)

    def candidate(self, edge: int, row: str, path: str, weight: int, state: State, version: int, /) -> None:
        """See `Out`."""
        self.number_of_messages += 1
        if self.plan.counts_ways[edge]:
            self._ways.candidate(self.cells.ways(edge, row, path), edge, row, path, weight, state, version)
        else:
            self._first.candidate(self.cells.first(edge, row), edge, row, path, weight, state, version)

    def counted(self, edge: int, aggregate: int, row: str, value: bytes, weight: int, version: int, /) -> None:
        """See `Out`."""
        self.number_of_messages += 1
        counts = self.cells.distinct(self._view_of[edge], aggregate, row)
        before = counts.get(value, 0)
        counts.put(value, self._distinct.counted(before, edge, aggregate, row, value, weight, version))

    def shown(
        self,
        edge: int,
        row: str,
        path: str,
        weight: int,
        old: State | None,
        new: State | None,
        parts: Sequence[Part],
        member: tuple[int, Any] | None,
        version: int,
        /,
    ) -> None:
        """See `Out`."""
        self.number_of_messages += 1
        view = self._view_of[edge]
        cell = self.cells.row(view, row)
        if parts or member is not None:
            cell.read = -1
            for place, value, times in parts:
                self.row.added(cell, edge, place, path, value, times)
            if member is not None:
                self.row.owned(cell, *member)
        self._changed(cell, view, edge, row, path, version)
        if self._holds_members[edge] and (old is None) is not (new is None):
            self.cells.up(edge, row).documents.change(path, old, new)

    def _changed(self, cell: RowCell, view: int, edge: int, row: str, path: str, version: int) -> None:
        """A document changed over an edge: the row is dirty if it read it; what getters read is brought up to date."""
        if cell.version < version:
            cell.version = version
        if cell.read >> edge & 1 and view not in self.silent:
            self.dirty[view][row] = None
        values = cell.values
        if not values:
            return
        for child in self._listed_below[edge]:
            values.pop(child, None)
        known = values.get(edge)
        if known is None:
            return
        document, key = self._documents_of[edge](path), None
        if type(known) is Listed and self.plan.shows_all[edge]:
            key = known.keys.get(path)
        if key is None or document is None:
            del values[edge]
        else:
            known.documents[key] = document

    # What rows have ---------------------------------------------------------------------------------------------------

    def over(self, view: int, row: str, values: dict[int, Any]) -> Over:
        """What a row has over each edge of its view; `values` are those of its cell."""
        return Over(row, self._readers[view], values)

    def _shown(self, number: int, family: int) -> Callable[[str], DomainModel | None]:
        """The document at a path, where an edge shows it: it said so."""
        document = self.cells.documents(family)
        if self.plan.shows_all[number]:
            return document

        def shown(path: str) -> DomainModel | None:
            cell = self.cells.look(family, path)
            return document(path) if cell is not None and number in cell.said else None

        return shown

    def _reader(self, number: int, edge: Edge) -> Reader:
        view, lies_at, first = self.plan.plan.views[self._view_of[number]], self.cells.up, self.cells.first
        document, shown = self.cells.documents(edge.family), self._shown(number, edge.family)

        def each(paths: Iterable[str]) -> Documents:
            return {path: one for path in paths if (one := document(path)) is not None}

        def lying(key: str) -> Iterable[Any]:
            return each(path for path, _, _ in lies_at(number, key).documents.each()).values()

        documents: Callable[[str, Over], Documents]
        parent = view.by_name.get(edge.parent or "")
        match edge:
            case _ if edge.limit is not None:
                documents = lambda row, over: each(first(number, row).shown)  # noqa: E731
            case Group():
                documents = lambda row, over: {one.path: one for one in lying(row)}  # noqa: E731
            case Root():
                before = "" if view.paths.root is not None else f"{self.plan.plan.families[edge.family].pattern.text}/"
                documents = lambda row, over: {} if (one := shown(before + row)) is None else {one.path: one}  # noqa: E731
                if edge.only is None:
                    return Reader(number, documents, lambda over: shown(before + over.row), self._bits(number))
            case _:
                assert parent is not None
                above = parent.name
                documents = lambda row, over: reach(edge, lambda: over(above), shown, lying, known_references)  # noqa: E731
        is_plain = edge.limit is None and edge.order is None and edge.only is None
        if isinstance(edge, Reference) and is_plain and parent is not None and not parent.is_many:
            return Reader(number, documents, _listed(edge, shown), self._bits(number))
        return Reader(number, documents, None, self._bits(number))

    def _bits(self, number: int) -> int:
        parent = self.plan.parent[number]
        return 1 << number | (0 if parent is None else self._bits(parent))


class Reader(NamedTuple):
    """How the rows of a view read one edge.

    Attributes:
        number: Of the edge.
        documents: From a row and what it has over the edges above to what it has over this one.
        value: The same, as getters read it, where that is faster; else None.
        bits: Stands for the edge and those above in a set.
    """

    number: int
    documents: Callable[[str, Over], Documents]
    value: Callable[[Over], Any] | None
    bits: int


class Over:
    """What a row has over each edge, read where somebody asks.

    Attributes:
        row: The row.
        read: The edges that were asked for, as a set of bits: a change over another one changes nothing of the row.
    """

    __slots__ = ("_known", "_readers", "_values", "read", "row")

    def __init__(self, row: str, readers: dict[str, Reader], values: dict[int, Any]) -> None:
        self.row, self._readers, self._values = row, readers, values
        self._known: dict[str, Documents] = {}
        self.read = 0

    def __call__(self, name: str) -> Documents:
        """The documents by path."""
        found = self._known.get(name)
        if found is None:
            reader = self._readers[name]
            self.read |= reader.bits
            found = self._known[name] = reader.documents(self.row, self)
        return found

    def value(self, edge: Edge) -> Any:
        """What a getter reads."""
        reader = self._readers[edge.name]
        if reader.value is not None:
            self.read |= reader.bits
            value = self._values.get(reader.number)
            if value is None:
                value = reader.value(self)
                if value is not None:
                    self._values[reader.number] = value
            return dict(value.documents) if type(value) is Listed else value  # a getter may do with it as it likes
        return store_value(edge, self(edge.name), lambda: self(edge.parent) if edge.parent else {})


class Listed(NamedTuple):
    """What a getter reads of an edge to many documents, and the key of each by its path; None where it has several."""

    documents: dict[str | None, DomainModel]
    keys: dict[str, str | None]


def _listed(edge: Reference, shown: Callable[[str], DomainModel | None]) -> Callable[[Over], Any]:
    """What a getter reads of the documents that a field of one document refers to, in its order."""
    above, is_map, is_by_id = edge.parent or "", edge.keyed_by == "map", edge.keyed_by == "doc_id"

    def one(over: Over) -> Any:
        for parent in over(above).values():
            for _, path in known_references(edge, parent):
                return shown(path)
        return None

    def many(over: Over) -> Listed:
        found = Listed({}, {})
        for parent in over(above).values():
            for key, path in known_references(edge, parent):
                document = shown(path)
                if document is not None:
                    name = key if is_map else path[path.rfind("/") + 1 :] if is_by_id else path
                    found.documents[name] = document
                    found.keys[path] = None if path in found.keys and found.keys[path] != name else name
        return found

    return many if edge.is_many else one
