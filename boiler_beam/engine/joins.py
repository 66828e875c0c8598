"""The incremental joins, one for each edge: its documents D and the subscriptions S of rows meet by key.

The delta of S * D in a batch is S * delta(D) + delta(S) * (D + delta(D)): `join_documents` computes the first term,
`join_subscriptions` the second one. A batch goes through the edges of a view in plan order, parents first:

    documents that changed  -+-> rows that subscribe already    -+-> the row: version, aggregates, dirty
                             |                                   +-> subscriptions to the edges below
    new subscriptions       -+-> current documents              -+

| edge | key of its documents | who subscribes |
| --- | --- | --- |
| root | the row's id | the row that the document makes |
| group | the rows' ids | the rows that the document is a member of |
| reference, fixed document | its own path | rows whose parent document refers to it |
| referrers | the paths of the parents that it refers to | rows that have the parent document |

What a document contributed before is computed again from its old version. Where a user's function takes part, which may
return something else the second time, the contribution is kept instead: exactly what was added is retracted.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Any

from typing_extensions import assert_never, override

from boiler_beam.compare import same_value
from boiler_beam.engine.index import RowIndex
from boiler_beam.engine.rows import RowRecord, ViewRows
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, PlannedEdge, PlannedView, Reference, Referrers, Root
from boiler_beam.steps.contributions import Contribution, contributions_of
from boiler_beam.steps.functions import NOTHING, FunctionRaised
from boiler_beam.steps.newest import Delta, DocumentVersions

__all__ = ["EdgeJoin", "joins_of"]

RefuseFunction = Callable[[PlannedEdge, str, FunctionRaised], None]
"""Takes the edge, the document's path and what a user's function raised."""
Links = tuple[tuple[str, ...], ...]
"""`Contribution.links`."""
Subscription = tuple[str, str, int, int]
"""Key, row id, weight, version: the row refers to the key through one document more (weight 1) or one less (-1)."""
_NO_PATHS: dict[str, None] = {}


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
        documents_at: The paths of the documents at each key; only of edges with `has_many_at_key`.
        rows_of: The rows that subscribe to each key.
        keeps_contributions: Whether contributions are kept; else they are computed again from old versions.
        references: The joins of `PlannedEdge.references`, each with its index in `Contribution.links`. Without those to
            which rows do not subscribe (see `joins_of`).
        found_by_path: Likewise, the joins of `PlannedEdge.found_by_path`.
    """

    def __init__(
        self, planned: PlannedEdge, versions: DocumentVersions, rows: ViewRows, refuse: RefuseFunction
    ) -> None:
        self.planned, self.edge, self.versions, self.rows, self.refuse = planned, planned.edge, versions, rows, refuse
        self.rows_of = RowIndex()
        self.documents_at: dict[str, dict[str, None]] = {}
        self.references: list[tuple[int, EdgeJoin]] = []
        self.found_by_path: list[EdgeJoin] = []
        contributions = contributions_of(planned)
        self._contribute, self._keys, self._shows = contributions.contribute, contributions.keys, contributions.shows
        self.keeps_contributions = contributions.may_raise
        self._contributions: dict[str, Contribution] = {}
        self._subscriptions: list[Subscription] = []
        self._bit = 1 << planned.position
        self._aggregates = [index for index, _ in planned.aggregates]
        self._limited = _Limited(self) if self.edge.limit is not None else None
        self._raised_by = ""

    # Contributions ----------------------------------------------------------------------------------------------------

    def contribution(self, path: str) -> Contribution | None:
        """The contribution of the document at a path; None where there is none that the edge shows."""
        if self.keeps_contributions:
            return self._contributions.get(path)
        return self._contribution_of(self.versions.documents.get(path))

    def shown(self, path: str) -> DomainModel | None:
        """The document at a path; None if there is none, or the edge does not show it."""
        document = self.versions.documents.get(path)
        if document is None or self.planned.shows_all:
            return document
        is_shown = (
            self._contributions.get(path) is not None if self.keeps_contributions else self._shows(document, _ignore)
        )
        return document if is_shown else None

    def _contribution_of(self, document: DomainModel | None) -> Contribution | None:
        return None if document is None else self._contribute(document, _ignore)

    def _raised(self, error: FunctionRaised) -> None:
        self.refuse(self.planned, self._raised_by, error)

    def _old_and_new(self, delta: Delta) -> tuple[Contribution | None, Contribution | None]:
        """The contributions of a document before the batch and now."""
        path, new = delta.path, delta.new
        before = self._contributions.pop(path, None) if self.keeps_contributions else self._contribution_of(delta.old)
        return before, None if new is None else self._new_contribution(path, new)

    def _new_contribution(self, path: str, document: DomainModel) -> Contribution | None:
        """The contribution of a new version of a document, which is kept where that is necessary."""
        self._raised_by = path
        contribution = self._contribute(document, self._raised)
        if contribution is not None and self.keeps_contributions:
            self._contributions[path] = contribution
        return contribution

    def keep_contributions(self) -> None:
        """Called before any document is joined: contributions are kept if aggregates are folded from them later."""
        self.keeps_contributions = self.keeps_contributions or bool(self._aggregates)

    # A batch ----------------------------------------------------------------------------------------------------------

    def subscribe(self, key: str, row_id: str, weight: int, version: int) -> None:
        """Queues a subscription of a row to a key, or with weight -1 the end of one, until `run`."""
        self._subscriptions.append((key, row_id, weight, version))

    def run(self, deltas: Sequence[Delta]) -> None:
        """Takes the changed documents of the edge's type, and the subscriptions of this batch."""
        self.join_documents(deltas)
        subscriptions, self._subscriptions = self._subscriptions, []
        self.join_subscriptions(subscriptions)
        if self._limited is not None:
            self._limited.settle()

    def load(self, documents: Mapping[str, DomainModel]) -> None:
        """Takes all documents, instead of `run`, if rows do not subscribe to them but look them up when rendered."""
        self._limited = None
        for path, document in documents.items():
            if self.keeps_contributions:
                contribution = self._new_contribution(path, document)
                keys = contribution.keys if contribution is not None else ()
            else:
                self._raised_by = path
                keys = self._keys(document, self._raised)
            if keys:
                self._index(document, keys)

    def _index(self, document: DomainModel, keys: Any) -> None:
        """Makes it possible to look a document up by its keys (`Contribution.keys`)."""

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        """Joins changed documents with the rows that subscribe already."""
        raise NotImplementedError

    def join_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        """Joins new subscriptions with the current documents; roots and groups have no subscriptions."""
        assert not subscriptions

    def change_match(
        self, row_id: str, path: str, before: Contribution | None, after: Contribution | None, version: int
    ) -> None:
        """Replaces the contribution with which a document matches a row; None: it does not match.

        The document is a member of the row, or a candidate where the edge has a limit.
        """
        if self._limited is None:
            self.change_member(row_id, path, before, after, version)
        elif before is not None or after is not None:
            self._limited.candidate(row_id, path, before, after, version)

    def change_member(
        self, row_id: str, path: str, before: Contribution | None, after: Contribution | None, version: int
    ) -> None:
        """Replaces the contribution with which a document is a member of a row; None: it is not a member.

        Updates the row's version (S7) and aggregates (S10), marks it as dirty if a getter read the edge, and sends
        subscriptions to the child edges.
        """
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
            old = before.links if before is not None else None
            new = after.links if after is not None else None
            if old != new:
                self._follow_links(row_id, old, new, version)
        if self.found_by_path and (before is None) is not (after is None):
            weight = -1 if after is None else 1
            for child in self.found_by_path:
                key = child.edge.path if isinstance(child.edge, Fixed) else path
                child.subscribe(key, row_id, weight, version)

    def _aggregate(self, record: RowRecord, path: str, before: Contribution | None, after: Contribution | None) -> None:
        """Retracts the old values of a document from the aggregates over this edge, and adds the new ones (S10)."""
        for position, index in enumerate(self._aggregates):
            old = NOTHING if before is None else before.values[position]
            new = NOTHING if after is None else after.values[position]
            if old is new or same_value(old, new):
                continue
            record.require_rendering()
            accumulator = self.rows.accumulator(record, index)
            if old is not NOTHING:
                accumulator.retract(path, old)
            if new is not NOTHING:
                accumulator.add(path, new)

    def _follow_links(self, row_id: str, old: Links | None, new: Links | None, version: int) -> None:
        """Subscribes a row to the keys to which its document refers now, and unsubscribes it from the former ones."""
        for position, child in self.references:
            before = old[position] if old is not None else ()
            after = new[position] if new is not None else ()
            if before == after:
                continue
            kept = set(before).intersection(after)
            for key in before:
                if key not in kept:
                    child.subscribe(key, row_id, -1, version)
            for key in after:
                if key not in kept:
                    child.subscribe(key, row_id, 1, version)

    def first_documents(self, row_id: str, candidates: Callable[[], Iterable[str]]) -> Iterable[str]:
        """The paths of the documents that a row has over an edge with a limit: the first of its candidates (S12)."""
        if self._limited is not None:
            return self._limited.shown.get(row_id, _NO_PATHS)
        found = [(one.sort_key, path) for path in candidates() if (one := self.contribution(path)) is not None]
        return [path for _, path in nsmallest(self.edge.limit or 0, found)]

    # Indexes of documents ---------------------------------------------------------------------------------------------

    def _add_to_index(self, key: str, path: str) -> None:
        paths = self.documents_at.get(key)
        if paths is None:
            paths = self.documents_at[key] = {}
        paths[path] = None

    def _remove_from_index(self, key: str, path: str) -> None:
        paths = self.documents_at[key]
        del paths[path]
        if not paths:
            del self.documents_at[key]


class RootJoin(EdgeJoin):
    """The join of a root: each document makes a row."""

    @override
    def _index(self, document: DomainModel, keys: Any) -> None:
        (row_id,) = keys
        self.rows.create(row_id)

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        row_id_of = self.planned.view.row_id
        for delta in deltas:
            before, after = self._old_and_new(delta)
            if before is not None or after is not None:
                self.change_match(row_id_of(delta.path), delta.path, before, after, delta.version)


class GroupJoin(EdgeJoin):
    """The join of a group: the documents with one key make a row."""

    def __init__(
        self, planned: PlannedEdge, versions: DocumentVersions, rows: ViewRows, refuse: RefuseFunction
    ) -> None:
        super().__init__(planned, versions, rows, refuse)
        self._keeps_members = self.edge.is_read or bool(planned.children)
        """Whether rows may read their members."""

    @override
    def keep_contributions(self) -> None:
        super().keep_contributions()
        self._keeps_members = True

    @override
    def _index(self, document: DomainModel, keys: Any) -> None:
        for row_id, key in keys.items():
            self._count_member(row_id, document.path, key, 1, document.version)
            self._add_to_index(row_id, document.path)

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        keeps_members = self._keeps_members
        for delta in deltas:
            path, version = delta.path, delta.version
            before, after = self._old_and_new(delta)
            was: Any = before.keys if before is not None else {}
            now: Any = after.keys if after is not None else {}
            for row_id in was if was.keys() == now.keys() else {**was, **now}:
                was_member, is_member = row_id in was, row_id in now
                if was_member is not is_member:
                    self._count_member(row_id, path, now.get(row_id), 1 if is_member else -1, version)
                    if keeps_members:
                        (self._add_to_index if is_member else self._remove_from_index)(row_id, path)
                self.change_match(row_id, path, before if was_member else None, after if is_member else None, version)

    def _count_member(self, row_id: str, path: str, key: Any, weight: int, version: int) -> None:
        """Changes a row's number of members by `weight`; the row is rendered, whatever its getters read."""
        record = self.rows.records.get(row_id) or self.rows.create(row_id)
        record.members += weight
        if weight > 0:
            record.key = key
        record.require_rendering()
        record.version = max(record.version, version)
        self.rows.dirty[row_id] = None


class KeyedJoin(EdgeJoin):
    """The join of a reference or a fixed document: rows subscribe to the document's own path."""

    def __init__(
        self, planned: PlannedEdge, versions: DocumentVersions, rows: ViewRows, refuse: RefuseFunction
    ) -> None:
        super().__init__(planned, versions, rows, refuse)
        self._only = self.edge.path if isinstance(self.edge, Fixed) else None
        self._is_looked_up = planned.shows_all and not planned.has_dependents and self._limited is None
        """Whether rows only look its documents up: nothing depends on their contributions."""

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        rows_of, invalidate, bit = self.rows_of.of, self.rows.invalidate, self._bit
        for delta in deltas:
            path, version = delta.path, delta.version
            if self._only is not None and path != self._only:
                continue
            row_ids = rows_of(path)
            if self._is_looked_up:
                for row_id in row_ids:
                    invalidate(row_id, bit, version)
            elif row_ids or self.keeps_contributions:
                before, after = self._old_and_new(delta)
                for row_id in row_ids:
                    if before is None and after is None:
                        invalidate(row_id, bit, version)
                    else:
                        self.change_match(row_id, path, before, after, version)

    def join_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        add, invalidate, bit, documents = self.rows_of.add, self.rows.invalidate, self._bit, self.versions.documents
        for key, row_id, weight, version in subscriptions:
            count = add(key, row_id, weight)
            if count != (weight if weight > 0 else 0):
                continue  # neither its first subscription to the key, nor the end of its last one
            document = documents.get(key)
            if document is not None and document.version > version:
                version = document.version
            contribution = None if self._is_looked_up or document is None else self.contribution(key)
            if contribution is None:
                invalidate(row_id, bit, version)
            elif weight > 0:
                self.change_match(row_id, key, None, contribution, version)
            else:
                self.change_match(row_id, key, contribution, None, version)


class ReferrersJoin(EdgeJoin):
    """The join of referrers: rows subscribe to the paths of their parent documents, to which the documents refer."""

    def __init__(
        self, planned: PlannedEdge, versions: DocumentVersions, rows: ViewRows, refuse: RefuseFunction
    ) -> None:
        super().__init__(planned, versions, rows, refuse)
        self._has_several_keys = isinstance(self.edge, Referrers) and self.edge.by.is_many

    @override
    def _index(self, document: DomainModel, keys: Any) -> None:
        for key in keys:
            self._add_to_index(key, document.path)

    def join_documents(self, deltas: Sequence[Delta]) -> None:
        rows_of = self.rows_of.of
        for delta in deltas:
            path, version = delta.path, delta.version
            before, after = self._old_and_new(delta)
            was = before.keys if before is not None else ()
            now = after.keys if after is not None else ()
            if was == now:
                for row_id in dict.fromkeys([row_id for key in now for row_id in rows_of(key)]):
                    self.change_match(row_id, path, before, after, version)
                continue
            if not was and len(now) == 1:  # one that is new: most are
                (key,) = now
                self._add_to_index(key, path)
                for row_id in rows_of(key):
                    self.change_match(row_id, path, None, after, version)
                continue
            for key in was:
                if key not in now:
                    self._remove_from_index(key, path)
            for key in now:
                if key not in was:
                    self._add_to_index(key, path)
            had = {row_id: None for key in was for row_id in rows_of(key)}
            has = {row_id: None for key in now for row_id in rows_of(key)}
            for row_id in {**had, **has}:
                self.change_match(
                    row_id, path, before if row_id in had else None, after if row_id in has else None, version
                )

    def join_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        add, documents_at, documents = self.rows_of.add, self.documents_at, self.versions.documents
        invalidate, bit, has_several = self.rows.invalidate, self._bit, self._has_several_keys
        for key, row_id, weight, version in subscriptions:
            count = add(key, row_id, weight)
            if count != (weight if weight > 0 else 0):
                continue  # neither its first subscription to the key, nor the end of its last one
            invalidate(row_id, bit, version)
            for path in documents_at.get(key, _NO_PATHS):
                contribution = self.contribution(path)
                assert contribution is not None
                if has_several and self._is_reached_by_another_key(contribution.keys, key, row_id):
                    continue
                newest = max(version, documents[path].version)
                if weight > 0:
                    self.change_match(row_id, path, None, contribution, newest)
                else:
                    self.change_match(row_id, path, contribution, None, newest)

    def _is_reached_by_another_key(self, keys: Iterable[str], key: str, row_id: str) -> bool:
        """Whether a document refers to another one of the row's parents as well."""
        return any(other != key and self.rows_of.has(other, row_id) for other in keys)


class _Limited:
    """Chooses the members of rows over an edge with a limit: the first of their candidates (S12).

    Attributes:
        shown: The members of each row, with the contributions that were added to it.
    """

    def __init__(self, join: EdgeJoin) -> None:
        assert join.edge.limit is not None
        self._join, self._limit = join, join.edge.limit
        self._ranked: dict[str, list[tuple[bytes, str]]] = {}
        """The candidates of each row in the edge's order: sort key and path."""
        self._changed: dict[str, dict[str, int]] = {}
        """For each row, the candidates that changed in this batch, with the versions of the changes."""
        self.shown: dict[str, dict[str, Contribution]] = {}

    def candidate(
        self, row_id: str, path: str, before: Contribution | None, after: Contribution | None, version: int
    ) -> None:
        """Replaces the contribution with which a document is a candidate of a row; None: it is not one."""
        ranked = self._ranked.get(row_id)
        if ranked is None:
            ranked = self._ranked[row_id] = []
        if before is not None:
            index = bisect_left(ranked, (before.sort_key, path))
            assert ranked[index] == (before.sort_key, path)
            del ranked[index]
        if after is not None:
            insort(ranked, (after.sort_key, path))
        if not ranked:
            del self._ranked[row_id]
        changed = self._changed.setdefault(row_id, {})
        changed[path] = max(version, changed.get(path, version))

    def settle(self) -> None:
        """Ends the batch of this edge: makes the first candidates of each changed row its members."""
        join, pending, self._changed = self._join, self._changed, {}
        for row_id, changed in pending.items():
            newest = max(changed.values())
            shown = self.shown.setdefault(row_id, {})
            first = [path for _, path in self._ranked.get(row_id, ())[: self._limit]]
            for path in [path for path in shown if path not in first]:
                join.change_member(row_id, path, shown.pop(path), None, changed.get(path, newest))
            for path in first:
                if path in shown and path not in changed:
                    continue
                contribution = join.contribution(path)
                assert contribution is not None
                version = max(changed.get(path, newest), join.versions.documents[path].version)
                join.change_member(row_id, path, shown.get(path), contribution, version)
                shown[path] = contribution
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
        is_followed: Whether rows subscribe to an edge; if not, they look its documents up when they are rendered.
    """
    joins = [_join_of(one)(one, types[one.edge.type_index], rows, refuse) for one in view.edges]
    for join in joins:
        references, others = join.planned.references, join.planned.found_by_path
        join.references = [(n, joins[one.position]) for n, one in enumerate(references) if is_followed(one)]
        join.found_by_path = [joins[one.position] for one in others if is_followed(one)]
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
