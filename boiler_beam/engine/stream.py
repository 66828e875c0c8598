"""Rows that follow a stream of changes, in one process: the steps of a stream over cells in memory.

>>> import msgspec
>>> from boiler_beam.plan import compile_plan
>>> from boiler_beam.samples.meeting import OrganizationSummary
>>> stream = Stream(compile_plan([OrganizationSummary]), print)
>>> user = b'{"firstName": "Ann", "lastName": "Gray", "organization": "org1"}'
>>> for row in stream.take([Change("users/u1", 7, msgspec.Raw(user))]):
...     print(row.path, row.stamp, row.fields.decode())
organization_summaries/org1 Stamp(generation=1, version=7, seq=7) {"numAttending":0,"numHearingAid":0,"numUsers":1}
>>> list(stream.take([Change("users/u1", 7, msgspec.Raw(user))]))
[]
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter, Row, Stamp
from boiler_beam.plan import Plan
from boiler_beam.steps.row import Copy
from boiler_beam.steps.stream import Document, Emitted, First, MemoryCells, Reach, RowCell, StreamPlan
from boiler_beam.steps.stream import Row as RowStep
from boiler_beam.steps.stream.cells import Cells
from boiler_beam.steps.stream.document import NOTHING_NEW
from boiler_beam.steps.stream.messages import Added, Candidate, Lies, Message, Owned, Shown, Wanted

__all__ = ["Network", "Stream"]

_DOCUMENTS = 1 << 17
"""That are kept as they were read: rows have them again and again."""
_GONE, _UNTOLD, _TOUCHED = b"", b"?", b"!"
"""Instead of a digest: of a deleted row, one that could never be told, one that the sink has differently."""

RowKey = tuple[int, str]
"""A view's place in the plan, and a row's id."""


class Network:
    """The steps over cells; messages are delivered in the order in which they were sent.

    Args:
        plan: The views.
        refuse: Takes the dead letters.
        cells: Where the cells are.

    Attributes:
        dirty: The rows that were touched, in that order; whoever renders them takes them out.
        number_of_messages: How many were delivered.
        number_of_documents: How many more documents are there than when it was made.
    """

    def __init__(self, plan: StreamPlan, refuse: Callable[[DeadLetter], None], cells: Cells) -> None:
        self.plan, self.cells = plan, cells
        self.dirty: dict[RowKey, None] = {}
        self.number_of_messages = self.number_of_documents = 0
        self._waiting: deque[Message] = deque()
        self.document = Document(plan, self.send, refuse)
        self._reach, self._first = Reach(plan, self.send), First(plan, self.send)
        self._documents: dict[tuple[int, str], Any] = {}
        self.row = RowStep(plan, refuse, self.look_up if plan.is_local else None)

    def observe(self, change: Change) -> None:
        """Takes one observed version of a document."""
        for place, family in enumerate(self.plan.plan.families_of(change.path)):
            cell = self.cells.document(family, change.path)
            was_there = cell.fields != b"null"
            document = self.document.observed(cell, family, change)
            if document is not NOTHING_NEW:
                if place == 0:
                    self.number_of_documents += (document is not None) - was_there
                self._keep(family, change.path, document)

    def rebuild(self, family: int, path: str, numbers: Iterable[int]) -> None:
        """Says again what a known document is at some edges: of views that were changed or added.

        Its newest invalid version stands if these views' models can read it now (S2).
        """
        cell = self.cells.document(family, path)
        if cell.invalid is not None:
            version, fields = cell.invalid
            self.observe(Change(path, version, msgspec.Raw(fields)))
        if cell.version >= 0:
            change = Change(path, cell.version, msgspec.Raw(cell.fields))
            self.document.tell(cell, numbers, self.look_up(family, path), change)
        self.settle()

    def look_up(self, family: int, path: str) -> Any:
        """The document that stands, or None."""
        found = self._documents.get((family, path), NOTHING_NEW)
        if found is NOTHING_NEW:
            cell = self.cells.document(family, path)
            is_deleted = cell.version < 0 or cell.fields == b"null"
            codec = self.plan.plan.families[family]
            found = self._keep(family, path, None if is_deleted else codec.decode(path, cell.version, cell.fields))
        return found

    def _keep(self, family: int, path: str, document: Any) -> Any:
        if len(self._documents) >= _DOCUMENTS:
            self._documents.clear()
        self._documents[family, path] = document
        return document

    def send(self, message: Message) -> None:
        """Takes a message on its way."""
        self._waiting.append(message)

    def settle(self) -> None:
        """Delivers messages until none is left."""
        waiting, deliver = self._waiting, self.deliver
        while waiting:
            deliver(waiting.popleft())

    def deliver(self, message: Message) -> None:
        """Hands a message to the step at its key."""
        self.number_of_messages += 1
        match message:
            case Wanted():
                self._reach.wanted(self.cells.reach(message.edge, message.key), message)
            case Lies():
                self._reach.lies(self.cells.reach(message.edge, message.key), message)
            case Shown():
                self.row.shown(self._touched(self.plan.places[message.edge][0], message.row), message)
            case Added():
                self.row.added(self._touched(self.plan.places[message.edge][0], message.row), message)
            case Candidate():
                is_limited = self.plan.edges[message.edge][1].limit is not None
                key = message.row if is_limited else f"{message.row}\0{message.path}"
                self._first.candidate(self.cells.first(message.edge, key), message)
            case Owned():
                self.row.owned(self._touched(message.view, message.row), message)
            case _:
                assert_never(message)

    def _touched(self, view: int, row_id: str) -> RowCell:
        self.dirty[view, row_id] = None
        return self.cells.row(view, row_id)

    def forget(self) -> None:
        """After a rollback: what is held of the cells beside them (S21)."""
        self._documents.clear()
        self._waiting.clear()
        self.dirty.clear()


class Stream:
    """Takes changes in batches, and gives the rows that each batch changes.

    Args:
        plan: The views.
        refuse: Takes the dead letters.
        generations: The generation of each view's rows (S13), 1 where it is not named.
        cells: Where the cells are; by default in memory.

    Attributes:
        silent: The views (their places) whose rows are not given yet: their documents are not all in.
        standing: Of each view, how many rows more stand than when it was opened.
        floor: Of each view, the version that every stamp has at the least: that of a backfill in between (S16).
    """

    def __init__(
        self,
        plan: Plan,
        refuse: Callable[[DeadLetter], None],
        generations: dict[str, int] | None = None,
        cells: Cells | None = None,
    ) -> None:
        self.plan, self.refuse = plan, refuse
        self.cells: Cells = MemoryCells() if cells is None else cells
        self.network = Network(StreamPlan(plan, is_local=True), refuse, self.cells)
        known = generations or {}
        self.generations = [known.get(view.name, 1) for view in plan.views]
        self.silent: set[int] = set()
        self.floor = [0 for _ in plan.views]
        self.standing = [0 for _ in plan.views]
        self._is_simple = [not view.has_paths and view.paths.is_unique for view in plan.views]

    def take(self, batch: Iterable[Change]) -> Iterator[Row]:
        """Takes changes; gives each row that they changed once, with fields None where it is gone."""
        self.put(batch)
        return self.rows()

    def put(self, batch: Iterable[Change]) -> None:
        """Takes changes: rows get dirty."""
        network = self.network
        for change in batch:
            network.observe(change)
            network.settle()

    def touch(self, place: int, row_id: str, read_time: int) -> None:
        """A backfill found another row in the sink (S16): it is given again, not older than that."""
        cell = self.cells.row(place, row_id)
        cell.version = max(cell.version, read_time)
        paths = self.plan.views[place].paths
        for path in [path for path, _ in self.cells.copies(place, row_id).items()] or [paths.fill(row_id)]:
            emitted = self.cells.emitted(place, path)
            last = emitted.get("") or Emitted(0, 0, _GONE)
            emitted[""] = Emitted(last.version, last.seq, _TOUCHED)
        self.network.dirty[place, row_id] = None

    def rows(self) -> Iterator[Row]:
        """The dirty rows that differ from what was given of them last; those of silent views stay dirty."""
        return (row for _, row in self.placed_rows())

    def placed_rows(self) -> Iterator[tuple[int, Row]]:
        """The rows of `rows`, each with its view's place.

        The dirty rows that differ from what was given of them last; those of silent views stay dirty.
        """
        silent, network = self.silent, self.network
        dirty = [key for key in network.dirty if key[0] not in silent]
        for key in dirty:
            del network.dirty[key]
        touched: dict[tuple[int, str], int] = {}  # the paths whose claims changed, with the version that touched it
        for place, row_id in dirty:
            cell = self.cells.row(place, row_id)
            copies, version = network.row.render(cell, place, row_id), max(cell.version, self.floor[place])
            if not self._is_simple[place]:
                for path in self._claimed(place, row_id, version, copies):
                    touched[place, path] = max(version, touched.get((place, path), 0))
            elif not copies:
                yield from self._emit(place, self.plan.views[place].paths.fill(row_id), version, None)
            elif copies[0].fields is not None:
                yield from self._emit(place, copies[0].path, version, copies[0].fields)
            for copy in copies:
                if copy.fields is None:
                    self._leave(place, copy.path)
            if network.row.is_empty(cell, place):
                self.cells.drop_row(place, row_id)
        for (place, path), version in touched.items():
            claims = dict(self.cells.claims(place, path).items())
            yield from self._emit(place, path, version, claims[min(claims)] if claims else None)

    def _emit(self, place: int, path: str, version: int, fields: bytes | None) -> Iterator[tuple[int, Row]]:
        emitted = self.cells.emitted(place, path)
        last = emitted.get("")
        digest = _GONE if fields is None else hashlib.blake2b(fields, digest_size=16).digest()
        if last is None:
            if fields is None:
                return
            seq = version
        elif last.digest == digest or (fields is None and last.digest == _UNTOLD):
            return
        else:
            version, seq = max(version, last.version), max(version, last.seq + 1)
        emitted[""] = Emitted(version, seq, digest)
        was = last is not None and last.digest not in (_GONE, _UNTOLD, _TOUCHED)
        self.standing[place] += (fields is not None) - was
        yield place, Row(path, Stamp(self.generations[place], version, seq), fields)

    def _leave(self, place: int, path: str) -> None:
        """A row that can't be told: whatever stands there stays, that of an older generation, too (S6)."""
        emitted = self.cells.emitted(place, path)
        if emitted.get("") is None:
            emitted[""] = Emitted(0, 0, _UNTOLD)

    def is_left(self, place: int, path: str) -> bool:
        """Whether a row of an older generation stays: it was given in this one, or it can't be told."""
        paths = self.plan.views[place].paths
        return any(self.cells.emitted(place, one).get("") is not None for one in {path, paths.mask_of(path)})

    def _claimed(self, place: int, row_id: str, version: int, copies: Sequence[Copy]) -> Iterator[str]:
        """Puts what a row wants to be in place of what it wanted; gives the paths of both."""
        paths, held = self.plan.views[place].paths, self.cells.copies(place, row_id)
        known = {path for path, _ in held.items()}
        untold = {copy.path for copy in copies if copy.fields is None}
        stays = {path for path in known if path in untold or paths.mask_of(path) in untold}
        wanted = {copy.path: copy.fields for copy in copies if copy.fields is not None}
        for path in sorted(known - stays - wanted.keys()):
            held.pop(path)
            self.cells.claims(place, path).pop(row_id)
            yield path
        for path, fields in wanted.items():
            held[path] = True
            claims = self.cells.claims(place, path)
            claims[row_id] = fields
            if not paths.is_unique and len(others := dict(claims.items())) > 1:
                self._contest(self.plan.views[place].name, path, others)
            yield path

    def _contest(self, view: str, path: str, claims: dict[str, Any]) -> None:
        winner, *others = sorted(claims)
        for row_id in others:
            message = f"{view}: expected a row path of its own for {row_id!r}, got that of {winner!r}"
            self.refuse(DeadLetter(stage="claim", code="contested_path", message=message, path=path))
