"""Computes the rows of a plan by scanning all documents for each edge of each row; for tests only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cmp_to_key
from typing import Any

from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel, Narrowed
from boiler_beam.oracle.compare import compare, compare_paths, compare_ties
from boiler_beam.oracle.newest import newest_documents
from boiler_beam.plan import Aggregate, Fixed, Group, Plan, Reference, Referrers, Root, ViewPlan
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import (
    NOTHING,
    FunctionRaised,
    aggregated_value,
    group_ids,
    is_shown,
    references,
    targets,
)
from boiler_beam.steps.row import render
from boiler_beam.views.fold import Collect, CountDistinct, Extreme

__all__ = ["Truth", "compute"]

Documents = dict[str, DomainModel]
_by_path = cmp_to_key(compare_paths)


@dataclass
class Truth:
    """The expected result of a run.

    Attributes:
        rows: The fields (canonical JSON bytes) of every row, by its path.
        unknown: The paths (or wildcards of paths) of rows whose getters raised; their old rows stay.
        dead_letters: The expected dead letters, once for each row that is affected.
    """

    rows: dict[str, bytes] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def compute(plan: Plan, changes: Iterable[Change | DeadLetter]) -> Truth:
    """Computes the rows of a plan from the newest valid or deleted version of every document in `changes`."""
    truth = Truth()
    documents = newest_documents(plan, changes, truth.dead_letters.append)
    for view in plan.views:
        _View(view, documents, truth).compute()
    return truth


@dataclass
class _View:
    view: ViewPlan
    documents: list[Documents]
    truth: Truth

    def compute(self) -> None:
        root = self.view.root
        rows: dict[str, tuple[Any, Documents]] = {}
        for path, document in self.shown(root).items():
            if isinstance(root, Root):
                rows[self.view.row_id(path)] = (document.doc_id, {path: document})
            else:
                for row_id, key in (self.quietly(group_ids, root, document) or {}).items():
                    rows.setdefault(row_id, (key, {}))[1][path] = document
        claimed: set[str] = set()
        for row_id, (key, own) in sorted(
            rows.items()
        ):  # of the rows that claim one path, the one with the smallest id is written (S11)
            self.row(row_id, key, own, claimed)

    def row(self, row_id: str, key: Any, own: Documents, claimed: set[str]) -> None:
        reached = {self.view.root.name: self.first(self.view.root, own)}
        for edge in self.view.edges[1:]:
            reached[edge.name] = self.first(edge, self.reach(edge, reached))
        if not all(reached[edge.name] for edge in self.view.required):
            return

        def aggregate(index: int) -> Any:
            one = self.view.aggregates[index]
            return self.aggregate(one, reached[one.edge])

        def value(name: str) -> Any:
            edge = self.view.by_name[name]
            return self.value(edge, reached[edge.name], reached.get(edge.parent or "", {}))

        for copy in render(
            self.view, row_id, key, reached.__getitem__, aggregate, self.truth.dead_letters.append, value
        ):
            if copy.path in claimed and not copy.is_wildcard:
                message = f"{self.view.name}: another row has this path"
                dead_letter = DeadLetter(stage="claim", code="contested_path", message=message, path=copy.path)
                self.truth.dead_letters.append(dead_letter)
            elif copy.fields is None:
                self.truth.unknown.add(copy.path)
            else:
                self.truth.rows[copy.path] = copy.fields
            claimed.add(copy.path)

    def first(self, edge: Edge, documents: Documents) -> Documents:
        """The documents that a row reached over an edge."""
        return documents if edge.limit is None else dict(self.ordered(edge, documents)[: edge.limit])

    def ordered(self, edge: Edge, documents: Documents) -> list[tuple[str, DomainModel]]:
        """Returns documents in the order of `order_by`, or by path."""
        found = sorted(documents.items(), key=lambda item: _by_path(item[0]))
        if edge.order is None:
            return found
        return [
            item for _, item in _sorted([(edge.order.ranks(item[1]), item) for item in found], edge.order.descending)
        ]

    def value(self, edge: Edge, reached: Documents, parents: Documents) -> Any:
        """Returns what a getter reads from an edge: one document or None, or a dict in the declared order."""
        shown: Any = (
            reached if edge.only is None else {path: Narrowed(reached[path], edge.name, edge.only) for path in reached}
        )
        if not edge.is_many:
            return next(iter(shown.values()), None)
        paths = [path for path, _ in self.ordered(edge, reached)]
        if edge.order is None and isinstance(edge, Reference) and edge.field.is_many and len(parents) == 1:
            (parent,) = parents.values()
            found = [(key, path) for key, path in self.quietly(references, edge, parent) or () if path in reached]
            if edge.keyed_by == "map":
                return {key: shown[path] for key, path in found}
            paths = list(dict.fromkeys(path for _, path in found))
        return {path if edge.keyed_by == "path" else path.rpartition("/")[2]: shown[path] for path in paths}

    def aggregate(self, one: Aggregate, members: Documents) -> Any:
        """Returns the value of an aggregate."""
        counted = [(path, self.quietly(aggregated_value, one, members[path])) for path in sorted(members, key=_by_path)]
        known = [(path, value) for path, value in counted if value is not None and value is not NOTHING]
        match one.fold:
            case CountDistinct():
                values = sorted((value for _, value in known), key=cmp_to_key(compare))
                return sum(index == 0 or compare(values[index - 1], value) != 0 for index, value in enumerate(values))
            case Extreme():
                values = sorted((value for _, value in known), key=cmp_to_key(compare_ties))
                return values[-1 if one.fold.largest else 0] if values else None
            case Collect():
                items = _sorted([(by, item) for _, (by, item) in known], one.fold.descending)
                return [item for _, item in items][: one.fold.limit]
        state = one.fold.empty()
        for path, value in known:
            one.fold.add(state, path, value)
        return one.fold.result(state)

    def reach(self, edge: Edge, reached: dict[str, Documents]) -> Documents:
        shown, parents = self.shown(edge), reached[edge.parent or ""]
        match edge:
            case Reference():
                wanted = {path for one in parents.values() for _, path in self.quietly(references, edge, one) or ()}
                return {path: one for path, one in shown.items() if path in wanted}
            case Referrers():
                return {
                    path: one
                    for path, one in shown.items()
                    if not parents.keys().isdisjoint(self.quietly(targets, edge, one) or ())
                }
            case Fixed():
                return {path: one for path, one in shown.items() if path == edge.path}
            case Root() | Group():
                raise AssertionError("a row has one root")
            case _:
                assert_never(edge)

    def shown(self, edge: Edge) -> Documents:
        return {path: one for path, one in self.documents[edge.type_index].items() if self.quietly(is_shown, edge, one)}

    def quietly(self, function: Any, what: Any, document: DomainModel) -> Any:
        """Calls a user's function of one document.

        If it raises, there is a dead letter, and the result is None (S10a).
        """
        try:
            return function(what, document)
        except FunctionRaised as error:
            self.truth.dead_letters.append(
                DeadLetter(stage="document", code=error.code, message=str(error), path=document.path)
            )
            return None


def _sorted(items: list[tuple[Any, Any]], descending: tuple[bool, ...]) -> list[tuple[Any, Any]]:
    """Sorts pairs of sort values and anything: nulls last; ties keep their order."""
    for index in reversed(range(len(descending))):
        known = [item for item in items if item[0][index] is not None]
        nulls = [item for item in items if item[0][index] is None]
        known.sort(key=lambda item: cmp_to_key(compare_ties)(item[0][index]), reverse=descending[index])
        items = known + nulls
    return items
