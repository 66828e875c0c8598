"""The embedded engine: newest versions, incremental joins and rows of a plan, a batch of changes at a time.

>>> import msgspec
>>> from boiler_beam.events import Change
>>> from boiler_beam.plan import compile_plan
>>> from boiler_beam.samples.meeting import OrganizationSummary
>>> engine = IncrementalEngine(compile_plan([OrganizationSummary]), print)
>>> user = Change("users/u1", 7, msgspec.Raw(b'{"firstName": "Ann", "lastName": "Gray", "organization": "org1"}'))
>>> for row in engine.take([user]):
...     print(row.path, row.stamp, row.fields.decode())
organization_summaries/org1 Stamp(generation=1, version=7, seq=7) {"numAttending":0,"numHearingAid":0,"numUsers":1}
>>> list(engine.take([user]))
[]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from boiler_beam.engine.joins import EdgeJoin, joins_of
from boiler_beam.engine.lookup import RowLookup
from boiler_beam.engine.rows import ViewRows
from boiler_beam.events import Change, DeadLetter, EncodedRow
from boiler_beam.plan import Plan, PlannedEdge, PlannedView
from boiler_beam.steps.functions import FunctionRaised
from boiler_beam.steps.newest import Delta, DocumentVersions, NewestVersions, dead_letter_of

__all__ = ["IncrementalEngine", "ViewEngine"]


class ViewEngine:
    """The joins and the rows of one view.

    Args:
        planned: The view.
        types: The documents of each type that the plan reads.
        refuse: Takes the dead letters.

    Attributes:
        rows: Its rows.
        joins: The joins of its edges, parents first.
        is_held_back: Whether its rows are not written yet, and so never dirty.
    """

    def __init__(
        self, planned: PlannedView, types: Sequence[DocumentVersions], refuse: Callable[[DeadLetter], None]
    ) -> None:
        self.planned, self.view, self.types, self.refuse = planned, planned.view, types, refuse
        self.rows = ViewRows(planned, refuse)
        self.is_held_back = False
        self._reports = True
        self._build(lambda edge: True)

    def _build(self, is_followed: Callable[[PlannedEdge], bool]) -> None:
        self.joins: list[EdgeJoin] = joins_of(self.planned, self.types, self.rows, self._raised, is_followed)
        collection = self.types[self.view.root.type_index].codec.pattern.text
        self.rows.lookup = RowLookup(self.planned, self.joins, collection)

    def _raised(self, planned: PlannedEdge, path: str, error: FunctionRaised) -> None:
        if self._reports:
            change = self.types[planned.edge.type_index].change_of(path)
            self.refuse(dead_letter_of("document", error.code, f"{self.view.name}: {error}", change))

    def _depends(self, planned: PlannedEdge) -> bool:
        """Whether rows subscribe to an edge even if no change follows: it, or an edge below, has invalid documents."""
        return bool(self.types[planned.edge.type_index].invalid) or any(map(self._depends, planned.children))

    def take(self, deltas: Sequence[Sequence[Delta]]) -> None:
        """Joins a batch (its deltas by document type), parents first; rows are rendered only after that (S8)."""
        for join in self.joins:
            join.run(deltas[join.edge.type_index])
        if self.is_held_back:
            self.rows.dirty.clear()

    def build(self, *, reports: bool = True, is_last: bool = False) -> None:
        """Joins all documents into empty indexes; marks no row as dirty.

        Args:
            reports: Whether errors of users' functions are dead letters; False where they were reported before.
            is_last: Whether no change follows: then documents that rows can look up are not joined.
        """
        followed = {planned: not is_last or self._depends(planned) for planned in self.planned.edges}
        for record in self.rows.records.values():
            record.forget_documents()
        self._build(followed.__getitem__)
        self._reports = reports
        if is_last:
            for join in self.joins:
                join.keep_contributions()
            self.rows.fold_documents([join for join in self.joins if join.planned.aggregates])
        for join in self.joins:
            documents = join.versions.documents
            if followed[join.planned]:
                join.run([Delta(path, None, one, one.version) for path, one in documents.items()])
            else:
                join.load(documents)
        self._reports = True
        self.rows.dirty.clear()


class IncrementalEngine:
    """Keeps the rows of a plan up to date with the changes that it takes.

    Args:
        plan: The views.
        refuse: Takes the dead letters.

    Attributes:
        versions: The documents.
        views: Their joins and rows.
    """

    def __init__(self, plan: Plan, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan = plan
        self.versions = NewestVersions(plan, refuse, gives_deltas=True)
        self.views = [ViewEngine(one, self.versions.types, refuse) for one in plan.planned_views]
        self._deltas: list[list[Delta]] = []

    def take(self, batch: Iterable[Change]) -> Iterator[EncodedRow]:
        """Takes changes; returns each row that they changed, once; its fields are None where it was deleted."""
        self.observe(batch)
        self.end_batch()
        return (row for view in self.views for row in view.rows.take_dirty())

    def observe(self, batch: Iterable[Change]) -> None:
        """Takes the changes of a batch, which `undo_batch` can undo until `end_batch`."""
        self.versions.add_all(batch)
        self._deltas = [documents.deltas() for documents in self.versions.types]
        for view in self.views:
            view.take(self._deltas)

    @property
    def number_of_documents(self) -> int:
        """How many documents exist; one that is of several types counts once."""
        types_of = self.plan.types_of
        return sum(
            sum(types_of(path)[0] == index for path in one.documents) for index, one in enumerate(self.versions.types)
        )

    def new_documents(self) -> int:
        """By how much the observed batch changed the number of documents."""
        number = 0
        for index, deltas in enumerate(self._deltas):
            for one in deltas:
                if (one.old is None) is not (one.new is None) and self.plan.types_of(one.path)[0] == index:
                    number += -1 if one.new is None else 1
        return number

    def end_batch(self) -> None:
        """Ends the batch: it can't be undone any more."""
        self._deltas = []
        for documents in self.versions.types:
            documents.end_batch()
        for view in self.views:
            view.rows.end_batch()

    def undo_batch(self) -> None:
        """Restores the documents as they were before the batch, and joins all of them again (S21)."""
        self._deltas = []
        for documents in self.versions.types:
            documents.undo_batch()
        for view in self.views:
            view.build(reports=False)
