"""The incremental joins: of each edge, changed documents with subscribed rows, and new subscriptions with documents.

A batch goes through the edges of a view in plan order, parents first:

    documents that changed  -+-> rows that subscribe already    -+-> the row: version, aggregates, dirty
                             |                                   +-> subscriptions to the edges below
    new subscriptions       -+-> documents that are there now   -+

| edge | key of its documents | who subscribes |
| --- | --- | --- |
| root | the row's id | the row that the document makes |
| group | the rows' ids | the rows that the document is a member of |
| reference, fixed document | its own path | rows whose parent document refers to it |
| referrers | the paths of the parents that it refers to | rows that have the parent document |

What a document contributed before is asked of its old version again. Where a user's function answered, the answer is
kept instead: what was added is what is taken back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from typing_extensions import assert_never, override

from boiler_beam.compare import same_value
from boiler_beam.engine.index import RowIndex
from boiler_beam.engine.rows import EVERYTHING, RowRecord, ViewRows
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, PlannedEdge, PlannedView, Reference, Referrers, Root
from boiler_beam.steps.contributions import Contribution, contributions_of
from boiler_beam.steps.functions import NOTHING, FunctionRaised
from boiler_beam.steps.newest import Delta, DocumentVersions

__all__ = ["EdgeJoin", "joins_of"]

RefuseFunction = Callable[[PlannedEdge, str, FunctionRaised], None]
"""Takes the edge, the document's path and what a user's function raised."""
_NO_PATHS: dict[str, None] = {}


Subscription = tuple[str, str, int, int]
"""A row refers to a key of an edge through one document more (1) or less (-1): key, row id, weight and version."""


def _ignore(error: FunctionRaised) -> None:
    """What an old version raised was reported when it was current."""


class EdgeJoin:
    """The join of one edge.

    Args:
        planned: The edge.
        versions: The documents of its type.
        rows: The rows of its view.
        refuse: Takes what users' functions raise.

    Attributes:
        documents_at: The paths of the documents at each key, where many documents can be at one.
        rows_of: The rows that subscribe to each key.
        keeps: Whether what documents contribute is kept; else their old versions are asked again.
        references: The joins of the edges below that are followed, each with its place in `Contribution.links`.
        keyed_by_path: The joins of the other edges below that are followed.
    """

    def __init__(
        self, planned: PlannedEdge, versions: DocumentVersions, rows: ViewRows, refuse: RefuseFunction
    ) -> None:
        self.planned, self.edge, self.versions, self.rows, self.refuse = planned, planned.edge, versions, rows, refuse
        self.rows_of = RowIndex()
        self.documents_at: dict[str, dict[str, None]] = {}
        self.references: list[tuple[int, EdgeJoin]] = []
        self.keyed_by_path: list[EdgeJoin] = []
        contributions = contributions_of(planned)
        self._ask, self._shows = contributions.ask, contributions.shows
        self.keeps = contributions.may_raise
        self._kept: dict[str, Contribution] = {}
        self._subscriptions: list[Subscription] = []
        self._bit = 1 << planned.position
        self._aggregates = [index for index, _ in planned.aggregates]
        self._limited = _Limited(self) if self.edge.limit is not None else None
        self._raised_by = ""

    # What documents say -----------------------------------------------------------------------------------------------

    def contribution(self, path: str) -> Contribution | None:
        """What the document at a path says now; None where there is none that the edge shows."""
        if self.keeps:
            return self._kept.get(path)
        return self._asked(self.versions.documents.get(path))

    def shown(self, path: str) -> DomainModel | None:
        """The document at a path, where the edge shows it; of an edge whose documents have their own paths as keys."""
        document = self.versions.documents.get(path)
        if document is None or self.planned.shows_all:
            return document
        is_shown = path in self._kept if self.keeps else self._shows(document, _ignore)
        return document if is_shown else None

    def _asked(self, document: DomainModel | None) -> Contribution | None:
        return None if document is None else self._ask(document, _ignore)

    def _raised(self, error: FunctionRaised) -> None:
        self.refuse(self.planned, self._raised_by, error)

    def _both(self, delta: Delta) -> tuple[Contribution | None, Contribution | None]:
        """What a document said before the batch, and what it says now."""
        path, new = delta.path, delta.new
        before = self._kept.pop(path, None) if self.keeps else self._asked(delta.old)
        return before, None if new is None else self._current(path, new)

    def _current(self, path: str, document: DomainModel) -> Contribution | None:
        """What a document says from now on."""
        self._raised_by = path
        said = self._ask(document, self._raised)
        if said is not None and self.keeps:
            self._kept[path] = said
        return said

    def keep_everything(self) -> None:
        """Keeps, before any batch, all that rows may ask for when they are rendered."""
        self.keeps = self.keeps or bool(self._aggregates)

    # A batch ----------------------------------------------------------------------------------------------------------

    def subscribe(self, key: str, row_id: str, weight: int, version: int) -> None:
        """A row refers to a key through one document more or less; it is joined when this edge's turn comes."""
        self._subscriptions.append((key, row_id, weight, version))

    def run(self, deltas: Sequence[Delta]) -> None:
        """Takes the changed documents of the edge's type, and the subscriptions of this batch."""
        self.join_documents(deltas)
        subscriptions, self._subscriptions = self._subscriptions, []
        self.join_subscriptions(subscriptions)
        if self._limited is not None:
            self._limited.settle()

    def look_up(self, documents: Mapping[str, DomainModel]) -> None:
        """Takes all documents where rows look them up, and nothing else depends on them."""
        if self.keeps:
            for path, document in documents.items():
                self._current(path, document)

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        """Joins changed documents with the rows that subscribe already."""
        raise NotImplementedError

    def join_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        """Joins new subscriptions with the documents that are there; roots and groups have none."""
        assert not subscriptions

    def member(
        self, row_id: str, path: str, before: Contribution | None, after: Contribution | None, version: int
    ) -> None:
        """A row reached a document in one state, and reaches it in another one; None: not at all."""
        if self._limited is None:
            self.apply(row_id, path, before, after, version)
        elif before is not None or after is not None:
            self._limited.candidate(row_id, path, before, after, version)

    def apply(
        self, row_id: str, path: str, before: Contribution | None, after: Contribution | None, version: int
    ) -> None:
        """A row had a document in one state, and has it in another one; what depends on that follows."""
        rows = self.rows
        record = rows.records.get(row_id)
        if record is None:
            record = rows.create(row_id)
        if self._aggregates:
            self._aggregate(record, path, before, after)
        if record.version < version:
            record.version = version
            rows.changed[row_id] = None
        if record.read & self._bit:
            rows.dirty[row_id] = None
        if self.references:
            was = before.links if before is not None else None
            now = after.links if after is not None else None
            if was != now:
                self._link(row_id, was, now, version)
        if self.keyed_by_path and (before is None) is not (after is None):
            weight = -1 if after is None else 1
            for child in self.keyed_by_path:
                key = child.edge.path if isinstance(child.edge, Fixed) else path
                child.subscribe(key, row_id, weight, version)

    def _aggregate(self, record: RowRecord, path: str, before: Contribution | None, after: Contribution | None) -> None:
        for place, index in enumerate(self._aggregates):
            was = NOTHING if before is None else before.values[place]
            now = NOTHING if after is None else after.values[place]
            if was is now or same_value(was, now):
                continue
            record.read = EVERYTHING
            accumulator = self.rows.accumulator(record, index)
            if was is not NOTHING:
                accumulator.retract(path, was)
            if now is not NOTHING:
                accumulator.add(path, now)

    def _link(
        self,
        row_id: str,
        was: tuple[tuple[str, ...], ...] | None,
        now: tuple[tuple[str, ...], ...] | None,
        version: int,
    ) -> None:
        for place, child in self.references:
            before = was[place] if was is not None else ()
            after = now[place] if now is not None else ()
            if before == after:
                continue
            old, new = set(before), set(after)
            for key in before:
                if key not in new:
                    child.subscribe(key, row_id, -1, version)
            for key in after:
                if key not in old:
                    child.subscribe(key, row_id, 1, version)

    def first_of(self, row_id: str) -> Iterable[str]:
        """The paths of the documents that a row has over an edge with a limit."""
        assert self._limited is not None
        return self._limited.shown.get(row_id, _NO_PATHS)

    # Indexes of documents ---------------------------------------------------------------------------------------------

    def _place(self, key: str, path: str) -> None:
        paths = self.documents_at.get(key)
        if paths is None:
            paths = self.documents_at[key] = {}
        paths[path] = None

    def _displace(self, key: str, path: str) -> None:
        paths = self.documents_at[key]
        del paths[path]
        if not paths:
            del self.documents_at[key]


class RootJoin(EdgeJoin):
    """Each document makes a row."""

    @override
    def look_up(self, documents: Mapping[str, DomainModel]) -> None:
        super().look_up(documents)
        row_id_of, shown = self.planned.view.row_id, self.shown
        for path in documents:
            if shown(path) is not None:
                self.rows.create(row_id_of(path))

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        row_id_of = self.planned.view.row_id
        for delta in deltas:
            before, after = self._both(delta)
            if before is not None or after is not None:
                self.member(row_id_of(delta.path), delta.path, before, after, delta.version)


class GroupJoin(EdgeJoin):
    """The documents with one key make a row."""

    def __init__(
        self, planned: PlannedEdge, versions: DocumentVersions, rows: ViewRows, refuse: RefuseFunction
    ) -> None:
        super().__init__(planned, versions, rows, refuse)
        self._keeps_members = self.edge.is_read or bool(planned.children)
        """Whether rows may ask for their members."""

    @override
    def keep_everything(self) -> None:
        super().keep_everything()
        self._keeps_members = True

    @override
    def look_up(self, documents: Mapping[str, DomainModel]) -> None:
        for path, document in documents.items():
            said = self._current(path, document)
            keys: Any = said.keys if said is not None else {}
            for row_id, key in keys.items():
                self._own(row_id, path, key, 1, document.version)
                self._place(row_id, path)

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        keeps_members = self._keeps_members
        for delta in deltas:
            path, version = delta.path, delta.version
            before, after = self._both(delta)
            was: Any = before.keys if before is not None else {}
            now: Any = after.keys if after is not None else {}
            for row_id in was if was.keys() == now.keys() else {**was, **now}:
                gone, come = row_id in was, row_id in now
                if gone is not come:
                    self._own(row_id, path, now.get(row_id), 1 if come else -1, version)
                    if keeps_members:
                        (self._place if come else self._displace)(row_id, path)
                self.member(row_id, path, before if gone else None, after if come else None, version)

    def _own(self, row_id: str, path: str, key: Any, number: int, version: int) -> None:
        record = self.rows.records.get(row_id) or self.rows.create(row_id)
        record.members += number
        if number > 0:
            record.key = key
        record.read = EVERYTHING
        record.version = max(record.version, version)
        self.rows.dirty[row_id] = None


class KeyedJoin(EdgeJoin):
    """Rows refer to a document by its path: references and fixed documents."""

    def __init__(
        self, planned: PlannedEdge, versions: DocumentVersions, rows: ViewRows, refuse: RefuseFunction
    ) -> None:
        super().__init__(planned, versions, rows, refuse)
        self._only = self.edge.path if isinstance(self.edge, Fixed) else None
        self._is_looked_up = planned.shows_all and not planned.has_dependents and self._limited is None
        """Whether rows look its documents up and nothing depends on what these say."""

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        rows_of, touch, bit = self.rows_of.of, self.rows.touched, self._bit
        for delta in deltas:
            path, version = delta.path, delta.version
            if self._only is not None and path != self._only:
                continue
            row_ids = rows_of(path)
            if self._is_looked_up:
                for row_id in row_ids:
                    touch(row_id, bit, version)
            elif row_ids or self.keeps:
                before, after = self._both(delta)
                for row_id in row_ids:
                    if before is None and after is None:
                        touch(row_id, bit, version)
                    else:
                        self.member(row_id, path, before, after, version)

    def join_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        add, touch, bit, documents = self.rows_of.add, self.rows.touched, self._bit, self.versions.documents
        for key, row_id, weight, version in subscriptions:
            number = add(key, row_id, weight)
            if number != (weight if weight > 0 else 0):
                continue  # the row refers to it through other documents, too
            document = documents.get(key)
            if document is not None and document.version > version:
                version = document.version
            said = None if self._is_looked_up or document is None else self.contribution(key)
            if said is None:
                touch(row_id, bit, version)
            elif weight > 0:
                self.member(row_id, key, None, said, version)
            else:
                self.member(row_id, key, said, None, version)


class ReferrersJoin(EdgeJoin):
    """Documents refer to the parents that rows have."""

    def __init__(
        self, planned: PlannedEdge, versions: DocumentVersions, rows: ViewRows, refuse: RefuseFunction
    ) -> None:
        super().__init__(planned, versions, rows, refuse)
        self._has_several_keys = isinstance(self.edge, Referrers) and self.edge.by.is_many

    @override
    def look_up(self, documents: Mapping[str, DomainModel]) -> None:
        for path, document in documents.items():
            said = self._current(path, document)
            for key in said.keys if said is not None else ():
                self._place(key, path)

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        rows_of = self.rows_of.of
        for delta in deltas:
            path, version = delta.path, delta.version
            before, after = self._both(delta)
            was = before.keys if before is not None else ()
            now = after.keys if after is not None else ()
            if was == now:
                for row_id in dict.fromkeys([row_id for key in now for row_id in rows_of(key)]):
                    self.member(row_id, path, before, after, version)
                continue
            if not was and len(now) == 1:  # one that is new: most are
                (key,) = now
                self._place(key, path)
                for row_id in rows_of(key):
                    self.member(row_id, path, None, after, version)
                continue
            for key in was:
                if key not in now:
                    self._displace(key, path)
            for key in now:
                if key not in was:
                    self._place(key, path)
            had = {row_id: None for key in was for row_id in rows_of(key)}
            has = {row_id: None for key in now for row_id in rows_of(key)}
            for row_id in {**had, **has}:
                self.member(row_id, path, before if row_id in had else None, after if row_id in has else None, version)

    def join_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        add, documents_at, documents = self.rows_of.add, self.documents_at, self.versions.documents
        touch, bit, has_several = self.rows.touched, self._bit, self._has_several_keys
        for key, row_id, weight, version in subscriptions:
            number = add(key, row_id, weight)
            if number != (weight if weight > 0 else 0):
                continue
            touch(row_id, bit, version)
            for path in documents_at.get(key, _NO_PATHS):
                said = self.contribution(path)
                assert said is not None
                if has_several and self._is_reached_otherwise(said.keys, key, row_id):
                    continue
                newest = max(version, documents[path].version)
                if weight > 0:
                    self.member(row_id, path, None, said, newest)
                else:
                    self.member(row_id, path, said, None, newest)

    def _is_reached_otherwise(self, keys: Iterable[str], key: str, row_id: str) -> bool:
        """Whether a document refers to another one of the row's parents, too."""
        return any(other != key and self.rows_of.has(other, row_id) for other in keys)


class _Limited:
    """The first documents that rows have over an edge with a limit (S12)."""

    def __init__(self, join: EdgeJoin) -> None:
        assert join.edge.limit is not None
        self._join, self._limit = join, join.edge.limit
        self._ranked: dict[str, list[tuple[bytes, str]]] = {}
        self._changed: dict[str, dict[str, int]] = {}
        self.shown: dict[str, dict[str, Contribution]] = {}

    def candidate(
        self, row_id: str, path: str, before: Contribution | None, after: Contribution | None, version: int
    ) -> None:
        """A row reaches a document, no longer reaches it, or reaches it in another state."""
        ranked = self._ranked.get(row_id)
        if ranked is None:
            ranked = self._ranked[row_id] = []
        if before is not None:
            place = bisect_left(ranked, (before.sort_key, path))
            assert ranked[place] == (before.sort_key, path)
            del ranked[place]
        if after is not None:
            insort(ranked, (after.sort_key, path))
        if not ranked:
            del self._ranked[row_id]
        changed = self._changed.setdefault(row_id, {})
        changed[path] = max(version, changed.get(path, version))

    def settle(self) -> None:
        """At the end of a batch: what comes in, and what falls out."""
        join, pending, self._changed = self._join, self._changed, {}
        for row_id, changed in pending.items():
            newest = max(changed.values())
            shown = self.shown.setdefault(row_id, {})
            first = [path for _, path in self._ranked.get(row_id, ())[: self._limit]]
            for path in [path for path in shown if path not in first]:
                join.apply(row_id, path, shown.pop(path), None, changed.get(path, newest))
            for path in first:
                if path in shown and path not in changed:
                    continue
                said = join.contribution(path)
                assert said is not None
                version = max(changed.get(path, newest), join.versions.documents[path].version)
                join.apply(row_id, path, shown.get(path), said, version)
                shown[path] = said
            if not shown:
                del self.shown[row_id]


def joins_of(
    view: PlannedView,
    types: Sequence[DocumentVersions],
    rows: ViewRows,
    refuse: RefuseFunction,
    is_followed: Callable[[PlannedEdge], bool],
) -> list[EdgeJoin]:
    """The joins of a view's edges, parents first.

    Args:
        view: The view.
        types: The documents of each type that the plan reads.
        rows: The rows of the view.
        refuse: Takes what users' functions raise.
        is_followed: Whether rows subscribe to the documents of an edge; else they look them up.
    """
    joins = [_join_of(one)(one, types[one.edge.type_index], rows, refuse) for one in view.edges]
    for join in joins:
        references, others = join.planned.references, join.planned.keyed_by_path
        join.references = [(n, joins[one.position]) for n, one in enumerate(references) if is_followed(one)]
        join.keyed_by_path = [joins[one.position] for one in others if is_followed(one)]
    return joins


def _join_of(planned: PlannedEdge) -> type[EdgeJoin]:
    match planned.edge:
        case Root():
            return RootJoin
        case Group():
            return GroupJoin
        case Reference() | Fixed():
            return KeyedJoin
        case Referrers():
            return ReferrersJoin
        case _:
            assert_never(planned.edge)
