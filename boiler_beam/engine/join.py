"""The join of a backfill in one process: a dict is the grouping.

Whatever hangs on a row is looked up when the row is made: references by path, referrers and members in an index that
is built once for each edge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

__all__ = ["Join", "Own", "ViewJoin"]

_NONE: dict[str, DomainModel] = {}


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

    def rows(self, view: ViewPlan, absences: Absences | None = None) -> Iterator[Copy]:
        """The rows of a view; without fields where they can't be told from here: tainted, or a getter raised.

        Args:
            view: The view.
            absences: Takes why roots, or groups, make no row.
        """
        joined, absences = ViewJoin(self, view), absences or Absences()
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
    """What makes a row: its id, its key, the root or the members, and whether one of these is invalid.

    A row that only an invalid document would make has no documents.
    """

    row_id: str
    key: Any
    documents: dict[str, DomainModel]
    is_tainted: bool


class ViewJoin:
    """The join of one view: what each edge shows is indexed once, and looked up for each row."""

    def __init__(self, join: Join, view: ViewPlan) -> None:
        self.join, self.view, self.versions = join, view, join.versions
        self.documents = {edge.name: self._shown(edge) for edge in view.edges}
        self.index = {edge.name: self._index(edge) for edge in view.edges}
        self.contributions = [self._contributions(place) for place in range(len(view.aggregates))]
        self._try_references()
        self.is_anything_invalid = any(self.versions.invalid[edge.family] for edge in view.edges)
        self.taints: dict[str, frozenset[str]] = {}
        if self.is_anything_invalid:
            self.taints = {edge.name: self._taints(edge, self.versions.invalid[edge.family]) for edge in view.edges}

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

    def _taints(self, edge: Edge, invalid: Iterable[str]) -> frozenset[str]:
        """The paths (or row ids, or targets) by which invalid documents may reach a row over this edge (S5)."""
        if not isinstance(edge, (Referrers, Group)):
            return frozenset(invalid)
        found: set[str] = set()
        for path in invalid:
            standing = self.versions.documents[edge.family].get(path)
            for reading in (standing, self.versions.partial(edge.family, path)):
                try:
                    if isinstance(edge, Referrers):
                        found.update(targets(edge, reading) if reading is not None else ())
                    else:
                        found.update(one for one, _ in group_ids(edge, reading)) if reading is not None else None
                except FunctionRaised:
                    continue  # the field that would say it is invalid itself
        return frozenset(found)

    # What is made for each row ----------------------------------------------------------------------------------------

    def own(self) -> Iterator[Own]:
        """What makes each row of the view."""
        root = self.view.root
        taints = self.taints.get(root.name, frozenset())
        match root:
            case Root():
                documents = self.documents[root.name]
                for path, document in documents.items():
                    yield Own(self.view.row_id(path), document.doc_id, {path: document}, path in taints)
                for path in taints - documents.keys():
                    yield Own(self.view.row_id(path), "", {}, True)
            case Group():
                index = self.index[root.name]
                for row_id, members in index.items():
                    key = next(key for one, key in group_ids(root, members[0]) if one == row_id)
                    yield Own(row_id, key, {document.path: document for document in members}, row_id in taints)
                for row_id in taints - index.keys():
                    yield Own(row_id, "", {}, True)
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
        """The copies of a row."""
        view, reach = self.view, self.reacher(own.documents)
        if self.is_tainted(own, reach):
            return [Copy(view.paths.mask(own.row_id), None)]
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

    def is_tainted(self, own: Own, reach: Callable[[str], dict[str, DomainModel]]) -> bool:
        """Whether a row can't be told, because an invalid document may be one of its."""
        return own.is_tainted or (self.is_anything_invalid and self._is_tainted(reach, self.taints))

    def is_tainted_by(self, own: Own, path: str) -> bool:
        """Whether a row can't be told because of this document: it is invalid, and may be one of the row's."""
        invalid, view = self.versions.invalid, self.view
        taints = {edge.name: self._taints(edge, {path} & invalid[edge.family].keys()) for edge in view.edges}
        roots = taints[view.root.name]
        ids = roots if isinstance(view.root, Group) else map(view.row_id, roots)
        return own.row_id in ids or self._is_tainted(self.reacher(own.documents), taints)

    def _is_tainted(
        self, reach: Callable[[str], dict[str, DomainModel]], tainting: Mapping[str, frozenset[str]]
    ) -> bool:
        for edge in self.view.edges[1:]:
            taints = tainting[edge.name]
            if not taints:
                continue
            match edge:
                case Reference():
                    if any(
                        path in taints
                        for parent in reach(edge.parent or "").values()
                        for _, path in known_references(edge, parent)
                    ):
                        return True
                case Referrers():
                    if not taints.isdisjoint(reach(edge.parent or "")):
                        return True
                case Fixed():
                    if edge.path in taints:
                        return True
                case Root() | Group():
                    raise AssertionError("a row has one root")
                case _:
                    assert_never(edge)
        return False
