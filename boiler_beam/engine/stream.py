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

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter, Row, Stamp
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.row import Copy
from boiler_beam.steps.stream import (
    Document,
    DocumentCell,
    First,
    FirstCell,
    Reach,
    ReachCell,
    RowCell,
    StreamPlan,
)
from boiler_beam.steps.stream import Row as RowStep
from boiler_beam.steps.stream.messages import Added, Candidate, Lies, Message, Owned, Shown, Wanted

__all__ = ["Network", "Stream"]

RowKey = tuple[int, str]
"""A view's place in the plan, and a row's id."""


class Network:
    """The steps, and a cell for each of their keys; messages are delivered in the order in which they were sent.

    Args:
        plan: The views.
        refuse: Takes the dead letters.

    Attributes:
        rows: The cell of each row.
        dirty: The rows that were touched, in that order; whoever renders them takes them out.
        number_of_messages: How many were delivered.
    """

    def __init__(self, plan: Plan, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan = StreamPlan(plan)
        self.versions = NewestVersions(plan, refuse)
        self.rows: defaultdict[RowKey, RowCell] = defaultdict(RowCell)
        self.dirty: dict[RowKey, None] = {}
        self.number_of_messages = 0
        self._documents: defaultdict[tuple[int, str], DocumentCell] = defaultdict(DocumentCell)
        self._reaches: defaultdict[tuple[int, str], ReachCell] = defaultdict(ReachCell)
        self._firsts: defaultdict[tuple[int, str, str], FirstCell] = defaultdict(FirstCell)
        self._waiting: deque[Message] = deque()
        self._document = Document(self.plan, self.send, refuse)
        self._reach, self._first = Reach(self.plan, self.send), First(self.plan, self.send)
        self.row = RowStep(self.plan, refuse)

    def observe(self, change: Change) -> None:
        """Takes one observed version of a document."""
        families = self.plan.plan.families_of(change.path)
        before = [self.versions.changes[family].get(change.path) for family in families]
        self.versions.add(change)
        for family, known in zip(families, before, strict=True):
            standing = self.versions.changes[family].get(change.path)
            if standing is not None and standing is not known:
                document = self.versions.documents[family].get(change.path)
                self._document.changed(self._documents[family, change.path], family, document, standing)

    def send(self, message: Message) -> None:
        """Takes a message on its way."""
        self._waiting.append(message)

    def settle(self) -> None:
        """Delivers messages until none is left."""
        while self._waiting:
            self.deliver(self._waiting.popleft())

    def deliver(self, message: Message) -> None:
        """Hands a message to the step at its key."""
        self.number_of_messages += 1
        match message:
            case Wanted():
                self._reach.wanted(self._reaches[message.edge, message.key], message)
            case Lies():
                self._reach.lies(self._reaches[message.edge, message.key], message)
            case Candidate():
                is_limited = self.plan.edges[message.edge][1].limit is not None
                key = message.edge, message.row, "" if is_limited else message.path
                self._first.candidate(self._firsts[key], message)
            case Shown():
                self.row.shown(self._touched(self.plan.edges[message.edge][0], message.row), message)
            case Added():
                self.row.added(self._touched(self.plan.edges[message.edge][0], message.row), message)
            case Owned():
                self.row.owned(self._touched(message.view, message.row), message)
            case _:
                assert_never(message)

    def _touched(self, view: int, row_id: str) -> RowCell:
        self.dirty[view, row_id] = None
        return self.rows[view, row_id]


class Stream:
    """Takes changes in batches, and gives the rows that each batch changes.

    Args:
        plan: The views.
        refuse: Takes the dead letters.
        generations: The generation of each view's rows (S13), 1 where it is not named.
    """

    def __init__(
        self, plan: Plan, refuse: Callable[[DeadLetter], None], generations: dict[str, int] | None = None
    ) -> None:
        self.plan, self.refuse = plan, refuse
        self.network = Network(plan, refuse)
        self._generations = [(generations or {}).get(view.name, 1) for view in plan.views]
        self._copies: dict[RowKey, dict[str, bytes]] = {}  # what each row wants to be, where it can be told
        self._claims: dict[str, dict[str, tuple[int, bytes]]] = {}  # of contested paths: by row id, version and fields
        self._emitted: dict[str, Row] = {}  # of each path what was given last, deletions among them

    def take(self, changes: Iterable[Change | DeadLetter]) -> Iterator[Row]:
        """The rows whose fields a batch of changes changed, deleted ones without fields; each path once."""
        for change in changes:
            if isinstance(change, DeadLetter):
                self.refuse(change)
            else:
                self.network.observe(change)
        self.network.settle()
        dirty, self.network.dirty = self.network.dirty, {}
        touched: dict[str, tuple[int, int]] = {}  # of each path the view, and the version that touched it
        for place, row_id in dirty:
            cell = self.network.rows[place, row_id]
            for path in self._claimed(place, row_id, cell.version, self.network.row.render(cell, place, row_id)):
                touched[path] = place, max(cell.version, touched.get(path, (0, 0))[1])
        for path, (place, version) in touched.items():
            claims = self._claims.get(path)
            fields = claims[min(claims)][1] if claims else None
            last = self._emitted.get(path)
            if fields == (last.fields if last is not None else None):
                continue
            stamp = Stamp(self._generations[place], version, version)
            if last is not None:
                stamp = stamp._replace(version=max(version, last.stamp.version), seq=max(version, last.stamp.seq + 1))
            row = self._emitted[path] = Row(path, stamp, fields)
            yield row

    def _claimed(self, place: int, row_id: str, version: int, copies: Sequence[Copy]) -> Iterator[str]:
        """Puts what a row wants to be in place of what it wanted; gives the paths of both."""
        paths = self.plan.views[place].paths
        known = self._copies.pop((place, row_id), {})
        untold = {copy.path for copy in copies if copy.fields is None}
        wanted = {path: fields for path, fields in known.items() if path in untold or paths.mask_of(path) in untold}
        wanted |= {copy.path: copy.fields for copy in copies if copy.fields is not None}
        if wanted:
            self._copies[place, row_id] = wanted
        for path in [*known, *(path for path in wanted if path not in known)]:
            claims = self._claims.setdefault(path, {})
            claims.pop(row_id, None)
            if path in wanted:
                claims[row_id] = version, wanted[path]
                if len(claims) > 1:
                    self._contest(self.plan.views[place].name, path, claims)
            elif not claims:
                del self._claims[path]
            yield path

    def _contest(self, view: str, path: str, claims: dict[str, Any]) -> None:
        winner, *others = sorted(claims)
        for row_id in others:
            message = f"{view}: expected a row path of its own for {row_id!r}, got that of {winner!r}"
            self.refuse(DeadLetter(stage="claim", code="contested_path", message=message, path=path))
