"""The join of a backfill in one process: a dict is the grouping.

Whatever hangs on a row is looked up when the row is made: references by path, referrers and members in an index that
is built once for each edge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from typing_extensions import assert_never

from boiler_beam.engine.reach import reach
from boiler_beam.events import DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, Plan, Reference, Referrers, Root, ViewPlan
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.claims import Claims
from boiler_beam.steps.functions import (
    NOTHING,
    FunctionRaised,
    contribution,
    group_ids,
    is_shown,
    known_references,
    references,
    targets,
)
from boiler_beam.steps.missing import Absences, Unmade, unmade
from boiler_beam.steps.newest import NewestVersions, dead_letter_of
from boiler_beam.steps.row import Copy, is_missing, render
from boiler_beam.steps.taint import MayBelong, marked, suspicion

__all__ = ["Join", "Own", "ViewJoin"]

_NONE: dict[str, DomainModel] = {}
Taints = dict[str, tuple[str, ...]]
"""Invalid documents by where they may be at an edge."""


class Join:
    """The rows of every view over the newest versions of all documents.

    Args:
        plan: The views.
        versions: The documents.
        refuse: Takes the dead letters of users' functions and getters.
    """

    def __init__(self, plan: Plan, versions: NewestVersions, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan, self.versions, self._refuse = plan, versions, refuse
        self.number_of_letters = 0

    def refuse(self, letter: DeadLetter) -> None:
        """Takes a dead letter."""
        self.number_of_letters += 1
        self._refuse(letter)

    def of_view(self, view: ViewPlan, absences: Absences | None = None) -> tuple[Sequence[MayBelong], Iterator[Copy]]:
        """The invalid documents that may belong to any row of a view, and its rows.

        Rows have no fields where they can't be known from here: a getter raised, or an invalid document may make them.

        Args:
            view: The view.
            absences: Takes why roots, or groups, make no row.
        """
        joined = ViewJoin(self, view)
        return joined.may_belong, self._rows(joined, absences or Absences())

    def _rows(self, joined: ViewJoin, absences: Absences) -> Iterator[Copy]:
        view = joined.view
        claims = Claims(view.name)
        for own in joined.own():
            number = self.number_of_letters
            copies = joined.copies(own)
            if self.number_of_letters > number:
                absences.failed += all(copy.fields is None for copy in copies)
            elif own.documents and not copies:
                absences.add(joined.unmade(own))
            if view.paths.is_unique:
                yield from copies
            else:
                for copy in copies:
                    claims.add(own.row_id, copy)
        for letter in claims.refused():
            self.refuse(letter)
        yield from claims.settled()


class Own(NamedTuple):
    """What makes a row: its id, its key, the root or the members, and the invalid documents that may be among these.

    A row that only an invalid document would make has no documents.
    """

    row_id: str
    key: Any
    documents: dict[str, DomainModel]
    tainted_by: tuple[str, ...]


class ViewJoin:
    """The join of one view: what each edge shows is indexed once, and looked up for each row."""

    def __init__(self, join: Join, view: ViewPlan) -> None:
        self.join, self.view, self.versions = join, view, join.versions
        self.documents = {edge.name: self._shown(edge) for edge in view.edges}
        self.index = {edge.name: self._index(edge) for edge in view.edges}
        self.contributions = [self._contributions(place) for place in range(len(view.aggregates))]
        self._try_references()
        self.is_anything_invalid = any(self.versions.invalid[edge.family] for edge in view.edges)
        self.may_belong: list[MayBelong] = []
        self.taints: dict[str, Taints] = {edge.name: self._taints(edge) for edge in view.edges}
        shared = _shared(view)
        self._own_edges = [edge for edge in view.edges[1:] if edge.name not in shared]
        reach = self.reacher({})
        for edge in view.edges[1:]:
            if edge.name in shared:
                self.may_belong += [MayBelong(path) for path in self._tainting(edge, reach)]

    # What is made once for each edge ----------------------------------------------------------------------------------

    def _raised(self, edge: Edge, document: DomainModel, error: FunctionRaised) -> None:
        change = self.versions.changes[edge.family][document.path]
        self.join.refuse(dead_letter_of("down", error.code, f"{self.view.name}: {error}", change))

    def _shown(self, edge: Edge) -> dict[str, DomainModel]:
        every = self.versions.documents[edge.family]
        if isinstance(edge, Fixed):
            every = {edge.path: every[edge.path]} if edge.path in every else {}
        if edge.where is None and edge.order is None and edge.model is self.join.plan.families[edge.family].base:
            return every
        shown = {}
        for path, document in every.items():
            try:
                if is_shown(edge, document):
                    shown[path] = document
            except FunctionRaised as error:
                self._raised(edge, document, error)
        return shown

    def _index(self, edge: Edge) -> dict[str, list[DomainModel]]:
        """The documents under each target (referrers) or row id (group); what has none is not shown."""
        index: defaultdict[str, list[DomainModel]] = defaultdict(list)
        match edge:
            case Referrers():
                keys_of: Callable[[DomainModel], list[str]] = partial(targets, edge)
            case Group():
                keys_of = lambda document: [row for row, _ in group_ids(edge, document)]  # noqa: E731
            case _:
                return index
        shown, nowhere = self.documents[edge.name], set()
        for path, document in shown.items():
            keys: list[str] = []
            try:
                keys = keys_of(document)
            except FunctionRaised as error:
                self._raised(edge, document, error)
            for one in keys:
                index[one].append(document)
            if not keys:
                nowhere.add(path)
        if nowhere:
            self.documents[edge.name] = {path: one for path, one in shown.items() if path not in nowhere}
        return index

    def _contributions(self, place: int) -> dict[str, Any]:
        """What each document adds to an aggregate, by path."""
        aggregate = self.view.aggregates[place]
        edge = self.view.by_name[aggregate.edge]
        found = {}
        for path, document in self.documents[edge.name].items():
            try:
                if (value := contribution(aggregate, document)) is not NOTHING:
                    found[path] = value
            except FunctionRaised as error:
                self._raised(edge, document, error)
        return found

    def _try_references(self) -> None:
        """Tells which documents do not say what they refer to: each once, however many rows ask it."""
        for edge in self.view.edges:
            if not (isinstance(edge, Reference) and edge.field.may_raise):
                continue
            for parent in self.documents[edge.parent or ""].values():
                try:
                    references(edge, parent)
                except FunctionRaised as error:
                    self._raised(self.view.by_name[edge.parent or ""], parent, error)

    def _taints(self, edge: Edge) -> Taints:
        """By each path, row id or target the invalid documents that may be there at an edge (S5)."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for path in self.versions.invalid[edge.family]:
            standing = self.versions.documents[edge.family].get(path)
            keys, unknown = suspicion(edge, path, standing, self.versions.partial(edge.family, path))
            for key in keys:
                found[key].append(path)
            if unknown is not None:
                self.may_belong.append(MayBelong(path, unknown))
        return {key: tuple(paths) for key, paths in found.items()}

    # What is made for each row ----------------------------------------------------------------------------------------

    def own(self) -> Iterator[Own]:
        """What makes each row of the view."""
        root = self.view.root
        taints = self.taints[root.name]
        match root:
            case Root():
                documents = self.documents[root.name]
                for path, document in documents.items():
                    yield Own(self.view.row_id(path), document.doc_id, {path: document}, taints.get(path, ()))
                for path in taints.keys() - documents.keys():
                    yield Own(self.view.row_id(path), "", {}, taints[path])
            case Group():
                index = self.index[root.name]
                for row_id, members in index.items():
                    key = next(key for one, key in group_ids(root, members[0]) if one == row_id)
                    yield Own(row_id, key, {one.path: one for one in members}, taints.get(row_id, ()))
                for row_id in taints.keys() - index.keys():
                    yield Own(row_id, "", {}, taints[row_id])
            case _:
                assert_never(root)

    def reacher(self, own: dict[str, DomainModel]) -> Callable[[str], dict[str, DomainModel]]:
        """What each edge reaches, by its name, for the row that some documents make."""
        reached: dict[str, dict[str, DomainModel]] = {self.view.root.name: self._first(self.view.root, own)}

        def reached_over(name: str) -> dict[str, DomainModel]:
            found = reached.get(name)
            if found is None:
                edge = self.view.by_name[name]
                found = reached[name] = self._first(edge, self._reached(edge, reached_over))
            return found

        return reached_over

    def copies(self, own: Own) -> Sequence[Copy]:
        """The copies of a row; of one that an invalid document may belong to also the mask of copies not known."""
        view, reach = self.view, self.reacher(own.documents)
        tainted_by = self.tainted_by(own, reach) if self.is_anything_invalid else ()
        copies = self._rendered(own, reach)
        if tainted_by:
            return marked(view, own.row_id, copies, tainted_by)
        return copies

    def _rendered(self, own: Own, reach: Callable[[str], dict[str, DomainModel]]) -> Sequence[Copy]:
        view = self.view
        if not own.documents:
            return ()
        for edge in view.edges:
            if is_missing(edge, _NONE) and is_missing(edge, reach(edge.name)):
                return ()
        return render(view, own.row_id, own.key, reach, lambda place: self._aggregate(place, reach), self.join.refuse)

    def unmade(self, own: Own) -> Unmade:
        """Why a row is not there that something makes."""
        return unmade(self.view, self.reacher(own.documents))

    def _first(self, edge: Edge, documents: dict[str, DomainModel]) -> dict[str, DomainModel]:
        """What a row has of the documents that it reached over an edge."""
        if edge.limit is None or edge.order is None or len(documents) <= edge.limit:
            return documents
        return {one.path: one for one in edge.order.first(documents.values(), edge.limit)}

    def _reached(self, edge: Edge, reached_over: Callable[[str], dict[str, DomainModel]]) -> dict[str, DomainModel]:
        index = self.index[edge.name]
        return reach(
            edge,
            lambda: reached_over(edge.parent or ""),
            self.documents[edge.name].get,
            lambda key: index.get(key, ()),
            known_references,
        )

    def _aggregate(self, place: int, reach: Callable[[str], dict[str, DomainModel]]) -> Any:
        aggregate = self.view.aggregates[place]
        contributions = self.contributions[place]
        fold, state = aggregate.fold, aggregate.fold.empty()
        for path in reach(aggregate.edge):
            value = contributions.get(path, NOTHING)
            if value is not NOTHING:
                fold.add(state, path, value)
        return fold.result(state)

    def tainted_by(self, own: Own, reach: Callable[[str], dict[str, DomainModel]]) -> tuple[str, ...]:
        """The invalid documents that may be one of the row's, for all that is known of their keys."""
        found = dict.fromkeys(own.tainted_by)
        for edge in self._own_edges if own.documents else ():
            found.update(dict.fromkeys(self._tainting(edge, reach)))
        return tuple(sorted(found))

    def _tainting(self, edge: Edge, reach: Callable[[str], dict[str, DomainModel]]) -> Iterator[str]:
        """The invalid documents that may be reached over an edge."""
        if taints := self.taints[edge.name]:
            for key in self._keys(edge, reach):
                yield from taints.get(key, ())

    def _keys(self, edge: Edge, reach: Callable[[str], dict[str, DomainModel]]) -> Iterable[str]:
        """Where a row looks for documents over an edge."""
        match edge:
            case Reference():
                parents = reach(edge.parent or "").values()
                return (path for parent in parents for _, path in known_references(edge, parent))
            case Referrers():
                return reach(edge.parent or "")
            case Fixed():
                return (edge.path,)
            case Root() | Group():
                raise AssertionError("a row has one root")
            case _:
                assert_never(edge)


def _shared(view: ViewPlan) -> set[str]:
    """The edges over which all rows of a view reach the same: a fixed document, and what hangs on it."""
    found: set[str] = set()
    for edge in view.edges:  # parents first
        if isinstance(edge, Fixed) or edge.parent in found:
            found.add(edge.name)
    return found
