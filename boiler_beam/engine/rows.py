"""The rows of one view: what is kept of each, which ones are dirty, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from boiler_beam.engine.accumulators import Accumulator, accumulator_of
from boiler_beam.engine.lookup import JoinedDocuments, RowDocuments, RowLookup
from boiler_beam.events import DeadLetter, EncodedRow, Stamp
from boiler_beam.plan import Group, PlannedView
from boiler_beam.steps.claims import ClaimedPath, contested
from boiler_beam.steps.emission import Emitted, emissions, is_in_sink, uncertain
from boiler_beam.steps.functions import NOTHING
from boiler_beam.steps.missing import Absences, absence_of
from boiler_beam.steps.newest import digest_of
from boiler_beam.steps.row import Copy, render

__all__ = ["RowRecord", "ViewRows"]

_ALL_EDGES = -1


class RowRecord:
    """What is kept of one row, beside the documents that it has.

    Attributes:
        version: The newest version of all documents that affected it (S7), in microseconds; -1 where none did.
        read: A bit mask, by position in the view, of the edges that its getters read in the last rendering: a change
            over another edge does not make it dirty. All edges if it was never rendered, if that failed, or if an
            aggregate or the number of members changed since.
        members: How many documents a group's row has.
        key: The group's key.
        accumulators: The accumulators of its aggregates, by their indexes in the view.
        emitted: The last emission at each of its paths. A copy that could not be rendered and was never written has an
            uncertain one at its path or wildcard: what is in the sink stays (S6).
        failing: The digests of the dead letters of its last rendering: a repeated failure is reported once.
    """

    __slots__ = ("accumulators", "emitted", "failing", "key", "members", "read", "version")

    def __init__(self) -> None:
        self.version, self.read, self.members = -1, _ALL_EDGES, 0
        self.key: object = None
        self.accumulators: dict[int, Accumulator] | None = None
        self.emitted: dict[str, Emitted] = {}
        self.failing: tuple[bytes, ...] = ()

    def require_rendering(self) -> None:
        """Makes the next change render the row, whatever its getters read: an aggregate or its members changed."""
        self.read = _ALL_EDGES

    def forget_documents(self) -> None:
        """Drops what was derived from its documents, before they are joined again."""
        self.read, self.members, self.key, self.accumulators = _ALL_EDGES, 0, None, None


class ViewRows:
    """The rows of one view.

    Args:
        planned: The view.
        refuse: Takes the dead letters of getters and `paths()`.

    Attributes:
        records: What is kept of each row, by its id.
        claimed: If several rows may claim one path: what is kept of each path.
        dirty: The rows that a change affected since they were last rendered.
        changed: The rows of which the state must store a new record at the end of this batch.
        changed_paths: Likewise, the paths in `claimed`.
        generation: The generation of the rows that are written (S13).
        epoch: Rows that were written in an earlier epoch may differ from what the sink holds (S14).
        floor: The least version of a stamp: that of the last backfill of the sink (S16).
        rows_added: By how much the number of rows in the sink grew since the last transaction, which resets it.
        failures_added: Likewise, the number of rows that could not be rendered.
    """

    def __init__(self, planned: PlannedView, refuse: Callable[[DeadLetter], None]) -> None:
        self.planned, self.view, self.refuse = planned, planned.view, refuse
        self.records: dict[str, RowRecord] = {}
        self.claimed: dict[str, ClaimedPath] = {}
        self.dirty: dict[str, None] = {}
        self.changed: dict[str, None] = {}
        self.changed_paths: dict[str, None] = {}
        self.generation, self.epoch, self.floor = 1, 0, 0
        self.rows_added = self.failures_added = 0
        self.lookup: RowLookup
        self._changed_claims: dict[str, int] = {}
        """The paths whose claims changed since their rows were emitted, with the version of the next emission."""
        self._folded: dict[int, JoinedDocuments] = {}
        """For aggregates that are folded at rendering: the edge's join."""
        self._is_group = isinstance(self.view.root, Group)
        self._is_unique = self.view.paths.is_unique
        self._folds = [aggregate.fold for aggregate in self.view.aggregates]

    def end_batch(self) -> None:
        """Says that the changed records were committed."""
        self.changed, self.changed_paths = {}, {}

    # From the joins ---------------------------------------------------------------------------------------------------

    def create(self, row_id: str) -> RowRecord:
        """Adds a row that was not known."""
        record = self.records[row_id] = RowRecord()
        return record

    def invalidate(self, row_id: str, bit: int, version: int) -> None:
        """Raises a row's version (S7), and marks it as dirty if its getters read the changed edge.

        Args:
            row_id: The row.
            bit: The edge, as one bit of `RowRecord.read`.
            version: The version of the change.
        """
        record = self.records[row_id]
        if record.version < version:
            record.version = version
            self.changed[row_id] = None
        if record.read & bit:
            self.dirty[row_id] = None

    def accumulator(self, record: RowRecord, index: int) -> Accumulator:
        """The accumulator of one aggregate of a row."""
        known = record.accumulators
        if known is None:
            known = record.accumulators = {}
        found = known.get(index)
        if found is None:
            found = known[index] = accumulator_of(self._folds[index])
        return found

    # From the sink ----------------------------------------------------------------------------------------------------

    def touch(self, path: str, read_time: int, *, is_held_back: bool) -> None:
        """Takes a touch: a backfill saw that the sink holds another row than it computed at a path (S16).

        The row is written again even if its fields are those of the last emission.

        Args:
            path: The row path.
            read_time: The backfill's, in microseconds since the epoch; the row's version becomes at least this.
            is_held_back: Whether no row of the view is written yet: then all of them will be written later anyway.
        """
        if self._is_unique:
            row_ids = [self.view.paths.row_id_of(path)]
        else:
            claim = self._claim_at(path)
            claim.emitted = uncertain(claim.emitted)
            row_ids = list(claim.fields)
            if not is_held_back:
                self._changed_claims[path] = read_time
        for row_id in row_ids:
            record = self.records.get(row_id) or self.create(row_id)
            record.version = max(record.version, read_time)
            record.emitted[path] = uncertain(record.emitted.get(path))
            self.changed[row_id] = None
            if not is_held_back:
                self.dirty[row_id] = None

    def refused_by_sink(self, path: str) -> int:
        """Notes that the sink refused a row: what it holds there is unknown, so the next change is written (S14).

        Returns:
            1 if the path held no row before: it was counted as one in the sink, and is none. Otherwise 0.
        """
        if self._is_unique:
            row_id = self.view.paths.row_id_of(path)
            emitted = self.records[row_id].emitted
            last = emitted.get(path)
            emitted[path] = new = uncertain(last, is_refused=True)
            self.changed[row_id] = None
        else:
            claim = self._claim_at(path)
            last = claim.emitted
            claim.emitted = new = uncertain(last, is_refused=True)
        return int(last is not None and last.digest is not None and new.digest is None)

    # Rendering --------------------------------------------------------------------------------------------------------

    def documents(self, row_id: str) -> RowDocuments:
        """The documents that a row has over each edge."""
        return RowDocuments(row_id, self.lookup)

    def exists(self, row_id: str, documents: RowDocuments) -> bool:
        """Whether the row has a root, or members."""
        if self._is_group:
            record = self.records.get(row_id)
            return record is not None and record.members > 0
        return documents.has(self.view.root.name)

    def copies(self, row_id: str, documents: RowDocuments, refuse: Callable[[DeadLetter], None]) -> Sequence[Copy]:
        """The copies of a row; none where there is no row."""
        record = self.records.get(row_id)
        if record is None or not self.exists(row_id, documents):
            return ()
        for edge in self.view.required:
            if not documents.has(edge.name):
                return ()
        states: dict[int, Any] = {}

        def aggregate(index: int) -> object:
            join = self._folded.get(index)
            if join is None:
                return self.accumulator(record, index).result()
            if index not in states:
                states.update(self._fold(join, documents.paths(join.edge.name)))
            return self._folds[index].result(states[index])

        return render(self.view, row_id, record.key, documents, aggregate, refuse, documents.value)

    def fold_documents(self, joins: Sequence[JoinedDocuments]) -> None:
        """Makes rows fold their aggregates from their documents when they are rendered, because no change follows.

        Args:
            joins: The joins of the edges with aggregates; they keep the contributions of their documents.
        """
        self._folded = {index: join for join in joins for index, _ in join.planned.aggregates}

    def _fold(self, join: JoinedDocuments, paths: Iterable[str]) -> dict[int, Any]:
        """Folds documents of one edge; returns the states of all aggregates over it."""
        states = {index: self._folds[index].empty() for index, _ in join.planned.aggregates}
        adds = [(self._folds[index].add, state) for index, state in states.items()]
        for path in paths:
            contribution = join.contribution(path)
            if contribution is not None:
                for (add, state), value in zip(adds, contribution.values, strict=True):
                    if value is not NOTHING:
                        add(state, path, value)
        return states

    def take_dirty(self) -> Iterator[EncodedRow]:
        """Renders the dirty rows; returns those that differ from what was written last."""
        row_ids, self.dirty = self.dirty, {}
        yield from self.emit_rows(row_ids)

    def emit_rows(self, row_ids: Iterable[str]) -> Iterator[EncodedRow]:
        """Renders some rows; returns those that differ from what was written last."""
        for row_id in row_ids:
            record = self.records[row_id]
            dead_letters: list[DeadLetter] = []
            documents = self.documents(row_id)
            copies = self.copies(row_id, documents, dead_letters.append)
            if dead_letters or record.failing:
                self._report(row_id, record, dead_letters)
            if not copies and not self.exists(row_id, documents):
                record.key = record.accumulators = None  # all contributions were retracted
            record.read = _ALL_EDGES if None in [copy.fields for copy in copies] else documents.read
            version, before = max(record.version, self.floor), tuple(record.emitted)
            for path, last, new, fields in emissions(record.emitted, self.view.paths, copies, version, self.epoch):
                self.changed[row_id] = None
                if self._is_unique:
                    yield self._row(path, last, new, fields)
                else:
                    self._claim_path(path, row_id, fields, version)
            if tuple(record.emitted) != before:
                self.changed[row_id] = None
        while self._changed_claims:
            path, version = self._changed_claims.popitem()
            claim = self._claim_at(path)
            last, emission = claim.emitted, claim.emit(version, self.epoch)
            if emission is not None:
                yield self._row(path, last, *emission)

    def _report(self, row_id: str, record: RowRecord, dead_letters: Sequence[DeadLetter]) -> None:
        """Reports the dead letters that the last rendering of the row did not have."""
        digests = tuple(map(digest_of, dead_letters))
        for dead_letter, digest in zip(dead_letters, digests, strict=True):
            if digest not in record.failing:
                self.refuse(dead_letter)
        self.failures_added += bool(digests) - bool(record.failing)
        if record.failing != digests:
            record.failing = digests
            self.changed[row_id] = None

    def _row(self, path: str, last: Emitted | None, new: Emitted, fields: bytes | None) -> EncodedRow:
        self.rows_added += (fields is not None) - is_in_sink(last, new.epoch)
        return EncodedRow(path, Stamp(self.generation, new.version, new.seq), fields)

    # Paths that several rows may claim --------------------------------------------------------------------------------

    def _claim_at(self, path: str) -> ClaimedPath:
        found = self.claimed.get(path)
        if found is None:
            found = self.claimed[path] = ClaimedPath()
        self.changed_paths[path] = None
        return found

    def _claim_path(self, path: str, row_id: str, fields: bytes | None, version: int) -> None:
        """Stores the fields with which a row claims a path (None: no longer); a row that loses it is a dead letter."""
        for one in self._claim_at(path).claim(row_id, fields):
            self.refuse(contested(self.view.name, path, one))
        self._changed_claims[path] = max(version, self._changed_claims.get(path, 0))

    # Of all rows ------------------------------------------------------------------------------------------------------

    def absences(self, most: int) -> Absences:
        """Why rows with a root, or members, are absent; looks at no more than `most` of them."""
        found, looked_at = Absences(), 0
        for row_id, record in self.records.items():
            documents = self.documents(row_id)
            if record.failing or not self.exists(row_id, documents):
                continue
            looked_at += 1
            if looked_at > most:
                break
            found.add(absence_of(self.view, documents))
        return found

    def known_paths(self) -> tuple[set[str], set[str]]:
        """The paths that were written in this epoch; and other paths, or wildcards, where the sink may hold rows."""
        written: set[str] = set()
        unknown: set[str] = set()
        for record in self.records.values():
            for path, one in record.emitted.items():
                (written if one.is_certain and one.epoch == self.epoch else unknown).add(path)
        return written, unknown
