"""The join of a backfill in one process: a dict is the grouping.

Whatever hangs on a row is looked up when the row is made: references by path, referrers and members in an index that
is built once for each edge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from typing_extensions import assert_never

from boiler_beam.errors import RenderError
from boiler_beam.events import DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, Plan, Reference, Referrers, Root, ViewPlan
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import NOTHING, FunctionRaised, contribution, group_ids, is_shown, references, targets
from boiler_beam.steps.newest import NewestVersions, dead_letter_of
from boiler_beam.steps.row import is_missing, render

__all__ = ["Computed", "Join", "ViewJoin"]

_NONE: dict[str, DomainModel] = {}


class Computed(NamedTuple):
    """A row that exists: its path, and its fields as canonical JSON bytes."""

    path: str
    fields: bytes


class Join:
    """The rows of every view over the newest versions of all documents.

    Args:
        plan: The views.
        versions: The documents.
        refuse: Takes the dead letters of users' functions and getters.
    """

    def __init__(self, plan: Plan, versions: NewestVersions, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan, self.versions, self.refuse = plan, versions, refuse

    def rows(self, view: ViewPlan) -> Iterator[Computed | str]:
        """The rows of a view; of one that can't be told from here (tainted, or a getter raised) its path alone."""
        return ViewJoin(self, view).rows()


class ViewJoin:
    """The join of one view: what each edge shows is indexed once, and looked up for each row."""

    def __init__(self, join: Join, view: ViewPlan) -> None:
        self.join, self.view, self.versions = join, view, join.versions
        self.documents = {edge.name: self._shown(edge) for edge in view.edges}
        self.index = {edge.name: self._index(edge) for edge in view.edges}
        self.contributions = [self._contributions(place) for place in range(len(view.aggregates))]
        self.is_anything_invalid = any(self.versions.invalid[edge.family] for edge in view.edges)
        self.taints = {edge.name: self._taints(edge) for edge in view.edges} if self.is_anything_invalid else {}

    # What is made once for each edge ----------------------------------------------------------------------------------

    def _raised(self, edge: Edge, document: DomainModel, error: FunctionRaised) -> None:
        change = self.versions.changes[edge.family][document.path]
        self.join.refuse(dead_letter_of("down", error.code, f"{self.view.name}: {error}", change))

    def _shown(self, edge: Edge) -> dict[str, DomainModel]:
        every = self.versions.documents[edge.family]
        if edge.where is None and edge.model is self.join.plan.families[edge.family].base:
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
        """The documents under each target (referrers) or row id (group)."""
        index: defaultdict[str, list[DomainModel]] = defaultdict(list)
        match edge:
            case Referrers():
                keys_of: Callable[[DomainModel], list[str]] = partial(targets, edge)
            case Group():
                keys_of = lambda document: [row for row, _ in group_ids(edge, document)]  # noqa: E731
            case _:
                return index
        for document in self.documents[edge.name].values():
            try:
                for one in keys_of(document):
                    index[one].append(document)
            except FunctionRaised as error:
                self._raised(edge, document, error)
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

    def _taints(self, edge: Edge) -> frozenset[str]:
        """The paths (or row ids, or targets) by which an invalid document may reach a row over this edge (S5)."""
        invalid = self.versions.invalid[edge.family]
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

    def rows(self) -> Iterator[Computed | str]:
        """See `Join.rows`."""
        before, behind = self.view.row_path
        root = self.view.root
        taints = self.taints.get(root.name, frozenset())
        seen: set[str] = set()
        match root:
            case Root():
                for path, document in self.documents[root.name].items():
                    row_id = path[path.rfind("/") + 1 :]
                    seen.add(path)
                    yield from self._row(f"{before}{row_id}{behind}", row_id, {path: document}, path in taints)
                for path in taints - seen:
                    yield f"{before}{path[path.rfind('/') + 1 :]}{behind}"
            case Group():
                for row_id, members in self.index[root.name].items():
                    seen.add(row_id)
                    key = next(key for one, key in group_ids(root, members[0]) if one == row_id)
                    reached = {document.path: document for document in members}
                    yield from self._row(f"{before}{row_id}{behind}", key, reached, row_id in taints)
                for row_id in taints - seen:
                    yield f"{before}{row_id}{behind}"
            case _:
                assert_never(root)

    def own_documents(self, row_path: str) -> dict[str, DomainModel]:
        """The documents that make a row: the root's, or the group's members; none where there is no such row."""
        before, behind = self.view.row_path
        row_id = row_path[len(before) : len(row_path) - len(behind)]
        root = self.view.root
        match root:
            case Root():
                return {path: one for path, one in self.documents[root.name].items() if one.doc_id == row_id}
            case Group():
                return {one.path: one for one in self.index[root.name].get(row_id, ())}
            case _:
                assert_never(root)

    def reacher(self, own: dict[str, DomainModel]) -> Callable[[str], dict[str, DomainModel]]:
        """What each edge reaches, by its name, for the row that some documents make."""
        reached: dict[str, dict[str, DomainModel]] = {self.view.root.name: own}

        def reach(name: str) -> dict[str, DomainModel]:
            found = reached.get(name)
            if found is None:
                found = reached[name] = self._reached(self.view.by_name[name], reach)
            return found

        return reach

    def _row(self, path: str, key: Any, own: dict[str, DomainModel], is_tainted: bool) -> Iterator[Computed | str]:
        view, reach = self.view, self.reacher(own)
        if is_tainted or (self.is_anything_invalid and self._is_tainted(reach)):
            yield path
            return
        for edge in view.edges:
            if is_missing(edge, _NONE) and is_missing(edge, reach(edge.name)):
                return
        try:
            yield Computed(path, render(view, path, key, reach, lambda place: self._aggregate(place, reach)))
        except RenderError as error:
            self.join.refuse(DeadLetter(stage="render", code=error.code, message=str(error), path=path))
            yield path

    def _reached(self, edge: Edge, reach: Callable[[str], dict[str, DomainModel]]) -> dict[str, DomainModel]:
        documents = self.documents[edge.name]
        match edge:
            case Reference():
                found = {}
                for parent in reach(edge.parent or "").values():
                    for _, path in self._references(edge, parent):
                        if (document := documents.get(path)) is not None:
                            found[path] = document
                return found
            case Referrers():
                index = self.index[edge.name]
                parents = reach(edge.parent or "")
                return {document.path: document for path in parents for document in index.get(path, ())}
            case Fixed():
                document = documents.get(edge.path)
                return {} if document is None else {edge.path: document}
            case Root() | Group():
                raise AssertionError("the row's own edge is reached from the start")
            case _:
                assert_never(edge)

    def _references(self, edge: Reference, parent: DomainModel) -> list[tuple[str | None, str]]:
        try:
            return references(edge, parent)
        except FunctionRaised as error:
            self._raised(self.view.by_name[edge.parent or ""], parent, error)
            return []

    def _aggregate(self, place: int, reach: Callable[[str], dict[str, DomainModel]]) -> Any:
        aggregate = self.view.aggregates[place]
        contributions = self.contributions[place]
        fold, state = aggregate.fold, aggregate.fold.empty()
        for path in reach(aggregate.edge):
            value = contributions.get(path, NOTHING)
            if value is not NOTHING:
                fold.add(state, path, value)
        return fold.result(state)

    def _is_tainted(self, reach: Callable[[str], dict[str, DomainModel]]) -> bool:
        for edge in self.view.edges[1:]:
            taints = self.taints[edge.name]
            if not taints:
                continue
            match edge:
                case Reference():
                    if any(
                        path in taints
                        for parent in reach(edge.parent or "").values()
                        for _, path in self._references(edge, parent)
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
