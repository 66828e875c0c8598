"""The rows of one view over all documents that are known: one big batch into empty indexes.

Used by backfills, by `ViewModel.get` and by `boiler_beam.inspection`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from boiler_beam.engine.incremental import ViewEngine
from boiler_beam.engine.lookup import RowDocuments
from boiler_beam.events import DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Aggregate, Fixed, PlannedEdge, PlannedView, Reference
from boiler_beam.steps.claims import Claims
from boiler_beam.steps.functions import NOTHING, known_references
from boiler_beam.steps.missing import Absence, Absences, absence_of
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.row import Copy
from boiler_beam.steps.taint import PossibleMember, possible_keys, taint_copies

__all__ = ["ComputedView"]


class ComputedView:
    """The rows of one view.

    Args:
        planned: The view.
        versions: The documents.
        refuse: Takes the dead letters of users' functions and getters.

    Attributes:
        possible_members: The invalid documents that may belong to any row of the view.
        absences: The rows that have a root, or members, and are absent, as `rows` found them.
    """

    def __init__(self, planned: PlannedView, versions: NewestVersions, refuse: Callable[[DeadLetter], None]) -> None:
        self.planned, self.view, self.types = planned, planned.view, versions.types
        self._refuse, self._number_of_dead_letters = refuse, 0
        self._engine = ViewEngine(planned, versions.types, refuse)
        self._engine.build(is_last=True)
        self._rows = self._engine.rows
        self.possible_members: list[PossibleMember] = []
        self.absences = Absences()
        self._taints: dict[str, dict[str, None]] = {}
        self._tainted_roots: set[str] = set()
        """The rows that an invalid document may make."""
        for edge in planned.edges:
            if self.types[edge.edge.type_index].invalid:
                self._taint(edge)

    # Taints -----------------------------------------------------------------------------------------------------------

    def _taint(self, planned: PlannedEdge) -> None:
        """Marks the rows that invalid documents may belong to over an edge (S5)."""
        edge, documents = planned.edge, self.types[planned.edge.type_index]
        shared_keys = set(self._shared_keys(planned)) if planned.is_shared else ()
        rows_of, records = self._engine.joins[planned.position].rows_of, self._rows.records
        for path in documents.invalid:
            keys, unknown = possible_keys(planned, path, documents.documents.get(path), documents.partial(path))
            if unknown is not None:
                self.possible_members.append(PossibleMember(path, unknown))
            if planned.is_shared:
                self.possible_members += [PossibleMember(path)] * any(key in shared_keys for key in keys)
                continue
            for row_id in keys if edge.makes_rows else [row_id for key in keys for row_id in rows_of.of(key)]:
                self._taints.setdefault(row_id, {})[path] = None
                if edge.makes_rows:
                    self._tainted_roots.add(row_id)
                    if row_id not in records:
                        self._rows.create(row_id)

    def _shared_keys(self, planned: PlannedEdge) -> Iterable[str]:
        """The keys that all rows of the view have over a shared edge, even if the view has no row."""
        edge, parent = planned.edge, planned.parent
        if isinstance(edge, Fixed):
            return (edge.path,)
        assert parent is not None
        parents = self._shared_documents(parent)
        if isinstance(edge, Reference):
            return [path for one in parents for _, path in known_references(edge, one)]
        return [one.path for one in parents]

    def _shared_documents(self, planned: PlannedEdge) -> Iterable[DomainModel]:
        """The documents that all rows have over a shared edge."""
        edge, join, keys = planned.edge, self._engine.joins[planned.position], self._shared_keys(planned)
        paths = [path for key in keys for path in (join.documents_at.get(key, ()) if edge.has_many_at_key else (key,))]
        found = {path: one for path in paths if (one := join.shown(path)) is not None}
        return found.values() if edge.order is None else edge.order.first(found.values(), edge.limit)

    def tainted_by(self, row_id: str) -> tuple[str, ...]:
        """The invalid documents that may belong to a row, as far as their keys are known."""
        return tuple(sorted(self._taints.get(row_id, ())))

    # Rows -------------------------------------------------------------------------------------------------------------

    def row_ids(self) -> Iterator[str]:
        """The rows that have a root or members, and those that an invalid document may make."""
        for row_id in self._rows.records:
            if row_id in self._tainted_roots or self.exists(row_id):
                yield row_id

    @property
    def most_rows(self) -> int:
        """How many rows there are at most, before anything is computed; copies are not counted."""
        return len(self._rows.records)

    def exists(self, row_id: str) -> bool:
        """Whether the row has a root, or members."""
        return self._rows.exists(row_id, self.documents(row_id))

    def documents(self, row_id: str) -> RowDocuments:
        """The documents that a row has over each edge."""
        return self._rows.documents(row_id)

    def added(self, planned: PlannedEdge, path: str) -> Iterator[tuple[Aggregate, Any]]:
        """What a document adds to the aggregates over an edge."""
        said = self._engine.joins[planned.position].contribution(path)
        for (_, aggregate), value in zip(planned.aggregates, said.values if said is not None else (), strict=False):
            if value is not NOTHING:
                yield aggregate, value

    def absence_of(self, row_id: str) -> Absence:
        """Why a row that has a root, or members, is absent."""
        return absence_of(self.view, self.documents(row_id))

    def copies(self, row_id: str) -> Sequence[Copy]:
        """The copies of a row; with the wildcard of other copies where an invalid document may belong to it."""
        copies = self._rows.copies(row_id, self.documents(row_id), self._count)
        tainted_by = self.tainted_by(row_id) if self._taints else ()
        return taint_copies(self.view, row_id, copies, tainted_by) if tainted_by else copies

    def _count(self, dead_letter: DeadLetter) -> None:
        self._number_of_dead_letters += 1
        self._refuse(dead_letter)

    def rows(self) -> Iterator[Copy]:
        """All copies of all rows.

        They have no fields where these are unknown: a getter raised, or an invalid document may make the row.
        """
        claims = Claims(self.view.name)
        for row_id in self._rows.records:
            number = self._number_of_dead_letters
            copies = self.copies(row_id)
            if self._number_of_dead_letters > number:
                self.absences.failed += all(copy.fields is None for copy in copies)
            elif not copies and self.exists(row_id):
                self.absences.add(self.absence_of(row_id))
            if self.view.paths.is_unique:
                yield from copies
            else:
                for copy in copies:
                    claims.add(row_id, copy)
        for dead_letter in claims.refused():
            self._refuse(dead_letter)
        yield from claims.settled()
