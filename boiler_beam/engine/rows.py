"""The rows of one view: what is kept of each, which ones are dirty, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from boiler_beam.engine.accumulators import Accumulator, accumulator_of
from boiler_beam.engine.lookup import JoinedDocuments, RowDocuments, RowLookup
from boiler_beam.events import DeadLetter, EncodedRow, Stamp
from boiler_beam.plan import Group, PlannedView
from boiler_beam.steps.claims import contested
from boiler_beam.steps.emission import Emitted, emissions, emit, is_in_sink, uncertain
from boiler_beam.steps.functions import NOTHING
from boiler_beam.steps.missing import Absences, absence_of
from boiler_beam.steps.newest import digest_of
from boiler_beam.steps.row import Copy, render

__all__ = ["EVERYTHING", "ClaimedPath", "RowRecord", "ViewRows"]

EVERYTHING = -1
"""All edges as a set of bits."""


class RowRecord:
    """What is kept of one row, beside the documents that it has.

    Attributes:
        version: The newest version of all documents that affected it (S7), in microseconds; -1 where none did.
        read: The edges that its getters read last, as bits by their positions in the view: a change over another one
            changes nothing. All of them where it was not rendered, or where that failed.
        members: How many documents a group's row has.
        key: The group's key.
        accumulators: What its aggregates hold, by their places in the view.
        emitted: What was written last at each of its paths; uncertain at the paths, or wildcards, of copies that could
            not be rendered and were never written: what is in the sink stays (S6).
        failing: The digests of the dead letters of its last rendering: what fails again in the same way is no other.
    """

    __slots__ = ("accumulators", "emitted", "failing", "key", "members", "read", "version")

    def __init__(self) -> None:
        self.version, self.read, self.members = -1, EVERYTHING, 0
        self.key: object = None
        self.accumulators: dict[int, Accumulator] | None = None
        self.emitted: dict[str, Emitted] = {}
        self.failing: tuple[bytes, ...] = ()

    def forget_documents(self) -> None:
        """As if it had none: they are joined anew."""
        self.read, self.members, self.key, self.accumulators = EVERYTHING, 0, None, None


class ClaimedPath:
    """What is kept of one path that several rows may want (S11): what each wants there, and what was written last."""

    __slots__ = ("emitted", "fields")

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.emitted: Emitted | None = None


class ViewRows:
    """The rows of one view.

    Args:
        planned: The view.
        refuse: Takes the dead letters of getters and `paths()`.

    Attributes:
        records: What is kept of each row, by its id.
        claimed: Where a row path does not name its row: what is kept of each path.
        dirty: The rows that a change affected since they were rendered last.
        changed: The rows of whose records something changed that a restarted program must know.
        changed_paths: The same, of `claimed`.
        generation: Of the rows that are written (S13).
        epoch: What was written in an earlier epoch is not known to be what the sink holds (S14).
        floor: The version that every stamp has at the least: that of a backfill in between (S16).
        in_sink: How many more rows are in the sink than when the view was opened.
        failing: How many more rows could not be rendered.
    """

    def __init__(self, planned: PlannedView, refuse: Callable[[DeadLetter], None]) -> None:
        self.planned, self.view, self.refuse = planned, planned.view, refuse
        self.records: dict[str, RowRecord] = {}
        self.claimed: dict[str, ClaimedPath] = {}
        self.dirty: dict[str, None] = {}
        self.changed: dict[str, None] = {}
        self.changed_paths: dict[str, None] = {}
        self.generation, self.epoch, self.floor = 1, 0, 0
        self.in_sink = self.failing = 0
        self.lookup: RowLookup
        self._contested: dict[str, int] = {}
        """The paths whose claims changed, with the versions of their new rows."""
        self._folded: dict[int, tuple[JoinedDocuments, int]] = {}
        self._is_group = isinstance(self.view.root, Group)
        self._is_unique = self.view.paths.is_unique
        self._folds = [aggregate.fold for aggregate in self.view.aggregates]

    def end_batch(self) -> None:
        """What changed so far was committed."""
        self.changed, self.changed_paths = {}, {}

    # From the joins ---------------------------------------------------------------------------------------------------

    def create(self, row_id: str) -> RowRecord:
        """A row that was not known."""
        record = self.records[row_id] = RowRecord()
        return record

    def touched(self, row_id: str, bit: int, version: int) -> None:
        """Something changed over an edge, which is one bit: the row is dirty if it was read."""
        record = self.records[row_id]
        if record.version < version:
            record.version = version
            self.changed[row_id] = None
        if record.read & bit:
            self.dirty[row_id] = None

    def accumulator(self, record: RowRecord, index: int) -> Accumulator:
        """What one aggregate of a row holds."""
        known = record.accumulators
        if known is None:
            known = record.accumulators = {}
        found = known.get(index)
        if found is None:
            found = known[index] = accumulator_of(self._folds[index])
        return found

    # From the sink ----------------------------------------------------------------------------------------------------

    def touch(self, path: str, read_time: int, *, is_held_back: bool) -> None:
        """A backfill found another row at a path, or one that should not be (S16): it is written, not older than that.

        Args:
            path: The row path.
            read_time: Of the backfill, in microseconds since the epoch.
            is_held_back: Whether no row of the view is written yet: then all of them are later.
        """
        if self._is_unique:
            row_ids = [self.view.paths.row_id_of(path)]
        else:
            claim = self._claim(path)
            claim.emitted = uncertain(claim.emitted)
            row_ids = list(claim.fields)
            if not is_held_back:
                self._contested[path] = read_time
        for row_id in row_ids:
            record = self.records.get(row_id) or self.create(row_id)
            record.version = max(record.version, read_time)
            record.emitted[path] = uncertain(record.emitted.get(path))
            self.changed[row_id] = None
            if not is_held_back:
                self.dirty[row_id] = None

    def refused_by_sink(self, path: str) -> int:
        """The sink refused a row: what is at its path is not known, and its next change is written (S14).

        Returns:
            How many rows less are in the sink than were counted: 1 where none was there before.
        """
        if self._is_unique:
            row_id = self.view.paths.row_id_of(path)
            emitted = self.records[row_id].emitted
            last = emitted.get(path)
            emitted[path] = new = uncertain(last, is_refused=True)
            self.changed[row_id] = None
        else:
            claim = self._claim(path)
            last = claim.emitted
            claim.emitted = new = uncertain(last, is_refused=True)
        return int(last is not None and last.digest is not None and new.digest is None)

    # Rendering --------------------------------------------------------------------------------------------------------

    def documents(self, row_id: str) -> RowDocuments:
        """What a row has over each edge."""
        return RowDocuments(row_id, self.lookup)

    def exists(self, row_id: str, documents: RowDocuments) -> bool:
        """Whether a root, or members, make the row."""
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
        key = record.key if self._is_group else row_id[row_id.rfind("/") + 1 :]

        def aggregate(index: int) -> object:
            join = self._folded.get(index)
            if join is not None:
                return self._fold(index, *join, documents)
            return self.accumulator(record, index).result()

        return render(self.view, row_id, key, documents, aggregate, refuse, documents.value)

    def fold_documents(self, joins: Sequence[JoinedDocuments]) -> None:
        """Aggregates are folded from the documents that rows have, when they are rendered: where none changes.

        Args:
            joins: Those of the edges with aggregates; they keep what their documents contribute.
        """
        for join in joins:
            for place, (index, _) in enumerate(join.planned.aggregates):
                self._folded[index] = join, place

    def _fold(self, index: int, join: JoinedDocuments, place: int, documents: RowDocuments) -> object:
        fold = self._folds[index]
        state = fold.empty()
        for path in documents(join.edge.name):
            said = join.contribution(path)
            value = NOTHING if said is None else said.values[place]
            if value is not NOTHING:
                fold.add(state, path, value)
        return fold.result(state)

    def take_dirty(self) -> Iterator[EncodedRow]:
        """The dirty rows that differ from what was written of them last."""
        row_ids, self.dirty = self.dirty, {}
        yield from self.written(row_ids)

    def written(self, row_ids: Iterable[str]) -> Iterator[EncodedRow]:
        """Of some rows what differs from what was written of them last."""
        for row_id in row_ids:
            record = self.records[row_id]
            dead_letters: list[DeadLetter] = []
            documents = self.documents(row_id)
            copies = self.copies(row_id, documents, dead_letters.append)
            if dead_letters or record.failing:
                self._report(row_id, record, dead_letters)
            if not copies and not self.exists(row_id, documents):
                record.key = record.accumulators = None  # what was added was taken back
            record.read = EVERYTHING if None in [copy.fields for copy in copies] else documents.read
            version, before = max(record.version, self.floor), tuple(record.emitted)
            for path, last, new, fields in emissions(record.emitted, self.view.paths, copies, version, self.epoch):
                self.changed[row_id] = None
                if self._is_unique:
                    yield self._row(path, last, new, fields)
                else:
                    self._claims(path, row_id, fields, version)
            if tuple(record.emitted) != before:
                self.changed[row_id] = None
        while self._contested:
            path, version = self._contested.popitem()
            yield from self._settled(path, version)

    def _report(self, row_id: str, record: RowRecord, dead_letters: Sequence[DeadLetter]) -> None:
        """Reports the dead letters that the last rendering of the row did not have."""
        digests = tuple(map(digest_of, dead_letters))
        for dead_letter, which in zip(dead_letters, digests, strict=True):
            if which not in record.failing:
                self.refuse(dead_letter)
        self.failing += bool(digests) - bool(record.failing)
        if record.failing != digests:
            record.failing = digests
            self.changed[row_id] = None

    def _row(self, path: str, last: Emitted | None, new: Emitted, fields: bytes | None) -> EncodedRow:
        self.in_sink += (fields is not None) - is_in_sink(last, new.epoch)
        return EncodedRow(path, Stamp(self.generation, new.version, new.seq), fields)

    # Paths that several rows may want ---------------------------------------------------------------------------------

    def _claim(self, path: str) -> ClaimedPath:
        found = self.claimed.get(path)
        if found is None:
            found = self.claimed[path] = ClaimedPath()
        self.changed_paths[path] = None
        return found

    def _claims(self, path: str, row_id: str, fields: bytes | None, version: int) -> None:
        """A row wants a path to hold something else; each row that loses it by that is a dead letter."""
        claim = self._claim(path)
        before = sorted(claim.fields)
        if fields is None:
            claim.fields.pop(row_id, None)
        else:
            claim.fields[row_id] = fields
        for one in sorted(claim.fields)[1:] if before not in ([], [row_id]) else ():
            if one not in before[1:]:
                self.refuse(contested(self.view.name, path, one))
        self._contested[path] = max(version, self._contested.get(path, 0))

    def _settled(self, path: str, version: int) -> Iterator[EncodedRow]:
        """What is to be written at a path: what the row with the smallest id wants (S11)."""
        claim = self._claim(path)
        fields = claim.fields[min(claim.fields)] if claim.fields else None
        last = claim.emitted
        new = emit(last, version, fields, self.epoch)
        if new is not None:
            claim.emitted = new
            yield self._row(path, last, new, fields)

    # Of all rows ------------------------------------------------------------------------------------------------------

    def absences(self, most: int) -> Absences:
        """Why rows are not there that something makes, of so many of them at the most."""
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
        """The paths that were written in this epoch, and the paths (or wildcards) of copies that were not rendered."""
        written: set[str] = set()
        unknown: set[str] = set()
        for record in self.records.values():
            for path, one in record.emitted.items():
                (written if one.is_certain and one.epoch == self.epoch else unknown).add(path)
        return written, unknown
