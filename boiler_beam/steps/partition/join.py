"""The joins of a partitioned backfill: those who want a document, and the document, meet in its partition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from boiler_beam.plan import Reference, Referrers
from boiler_beam.steps.messages import Candidate, Document, Hang, Invalid, MayBelong, Role, Taint, Want
from boiler_beam.steps.partition.first import First
from boiler_beam.steps.partition.levels import ROWS, WRITE, PartitionedPlan, Send
from boiler_beam.steps.partition.reached import Reached, RowIds, Wants, add_rows

__all__ = ["join_level"]


def join_level(plan: PartitionedPlan, level: int, messages: Iterable[Any], send: Send) -> None:
    """Of one partition: brings together those who want documents, and the documents that lie or hang there."""
    _Join(plan, level, messages, send).run()


class _Join:
    """What came to one partition of one level; the lists go by the number of an edge."""

    def __init__(self, plan: PartitionedPlan, level: int, messages: Iterable[Any], send: Send) -> None:
        self.plan, self.level, self.send = plan, level, send
        self.reached = Reached(plan, level, send)
        edges = range(len(plan.edges))
        self.documents: list[dict[str, tuple[Document, Role]]] = [{} for _ in edges]
        self.invalid: list[set[str]] = [set() for _ in edges]
        self.wants: list[Wants] = [{} for _ in edges]
        self.hanging: list[list[Hang]] = [[] for _ in edges]
        self.first: dict[int, First] = {}
        for message in messages:
            match message:
                case Candidate():
                    number = message.role.edge
                    if number not in self.first:
                        self.first[number] = First(plan.edges[number][1])
                    self.first[number].add(message)
                case Want():
                    add_rows(self.wants[message.edge], message.path, message.rows)
                case Document():
                    for role in message.roles:
                        self.documents[role.edge][message.path] = (message, role)
                case Hang():
                    self.hanging[message.edge].append(message)
                case Invalid():
                    for edge in message.edges:
                        self.invalid[edge].add(message.path)

    def run(self) -> None:
        for first in self.first.values():
            for one, rows in first.settled():
                self.reached.show(one.role, one.path, one.version, one.fields, rows)
        for number, (view, edge) in enumerate(self.plan.edges):
            if isinstance(edge, Reference) and self.plan.reach_level[number] == self.level:
                self._lie(number, view)
            elif isinstance(edge, Referrers) and self.hanging[number]:
                self._hang(number, view)
        self.reached.finish()

    def _lie(self, number: int, view: int) -> None:
        """The documents of a reference: they lie at the paths that are wanted."""
        documents, invalid, tell = self.documents[number], self.invalid[number], self.reached.tell
        for path, rows in self.wants[number].items():
            if path in invalid:
                self._taint(view, path, rows)
            if (found := documents.get(path)) is not None:
                document, role = found
                tell(role, path, document.version, document.fields, rows)

    def _hang(self, number: int, view: int) -> None:
        """The documents of referrers: they came to the paths that they name."""
        parent = self.plan.parent[number]
        assert parent is not None
        parents = self.wants[parent]
        if self.plan.meets_children(parent):  # a parent that is missing or hidden hangs nothing on a row
            shown = self.documents[parent]
            parents = {path: rows for path, rows in parents.items() if path in shown}
        for hang in self.hanging[number]:
            if hang.parent not in parents:
                continue
            rows = parents[hang.parent]
            if hang.role is None:
                self._taint(view, hang.path, rows)
            else:
                self.reached.tell(hang.role, hang.path, hang.version, hang.fields, rows)

    def _taint(self, view: int, document: str, rows: RowIds) -> None:
        if rows is None:
            self.send(WRITE, MayBelong(view, document, ()))
        else:
            self.send(ROWS, Taint(view, False, document, list(rows)))
