"""The oracle: the rows by definition, computed from scratch and without an index (S4 to S6). The only naive code.

Every executor is compared with it. It scans all documents for each edge of each row: for tests, not for data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import assert_never

from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Fixed, Group, Plan, Reference, Referrers, Root, ViewPlan
from boiler_beam.plan.tree import Edge
from boiler_beam.steps.functions import NOTHING, FunctionRaised, contribution, group_ids, is_shown, references, targets
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.row import is_missing, render

__all__ = ["Truth", "compute"]

Documents = dict[str, DomainModel]


@dataclass
class Truth:
    """What is right.

    Attributes:
        rows: The fields (canonical JSON bytes) of every row, by its path.
        unknown: The paths (or masks of paths) of rows whose getters raised: what stood before stays.
        dead_letters: What was refused on the way, once for each row that met it.
    """

    rows: dict[str, bytes] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def compute(plan: Plan, changes: Iterable[Change | DeadLetter]) -> Truth:
    """The rows of a plan over the newest valid-or-deleted version of every document in `changes`."""
    truth = Truth()
    versions = NewestVersions(plan, truth.dead_letters.append)
    versions.add_all(changes)
    for view in plan.views:
        _View(view, versions.documents, truth).compute()
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
                for row_id, key in self.quietly(group_ids, root, document) or ():
                    rows.setdefault(row_id, (key, {}))[1][path] = document
        claimed: set[str] = set()
        for row_id, (key, own) in sorted(rows.items()):  # the smallest wins a contested path (S11)
            self.row(row_id, key, own, claimed)

    def row(self, row_id: str, key: Any, own: Documents, claimed: set[str]) -> None:
        reached = {self.view.root.name: self.first(self.view.root, own)}
        for edge in self.view.edges[1:]:
            reached[edge.name] = self.first(edge, self.reach(edge, reached))
        if any(is_missing(edge, reached[edge.name]) for edge in self.view.edges):
            return

        def aggregate(place: int) -> Any:
            one = self.view.aggregates[place]
            state = one.fold.empty()
            for member in reached[one.edge].values():
                value = self.quietly(contribution, one, member)
                if value is not None and value is not NOTHING:
                    one.fold.add(state, member.path, value)
            return one.fold.result(state)

        for copy in render(self.view, row_id, key, reached.__getitem__, aggregate, self.truth.dead_letters.append):
            if copy.path in claimed and not copy.is_mask:
                message = f"{self.view.name}: another row has this path"
                letter = DeadLetter(stage="claim", code="contested_path", message=message, path=copy.path)
                self.truth.dead_letters.append(letter)
            elif copy.fields is None:
                self.truth.unknown.add(copy.path)
            else:
                self.truth.rows[copy.path] = copy.fields
            claimed.add(copy.path)

    def first(self, edge: Edge, documents: Documents) -> Documents:
        """What a row has of the documents that it reached over an edge."""
        if edge.order is None or edge.limit is None:
            return documents
        return {one.path: one for one in edge.order.first(documents.values(), edge.limit)}

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
        return {path: one for path, one in self.documents[edge.family].items() if self.quietly(is_shown, edge, one)}

    def quietly(self, function: Any, what: Any, document: DomainModel) -> Any:
        """What a user's function gives; None, and a dead letter, where it raises (S10a)."""
        try:
            return function(what, document)
        except FunctionRaised as error:
            self.truth.dead_letters.append(
                DeadLetter(stage="down", code=error.code, message=str(error), path=document.path)
            )
            return None
