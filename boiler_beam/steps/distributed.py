"""Edges whose documents are sent between workers: what a document contributes, and which of its fields rows get.

The hash join (`steps.hash_join`) and the keyed delta join (`steps.keyed`) both send documents as messages. What a
document contributes is decided in `steps.contributions`; here it becomes bytes.

>>> from boiler_beam.plan import compile_plan
>>> from boiler_beam.samples.meeting import OrganizationSummary
>>> plan = compile_plan([OrganizationSummary])
>>> (users, _) = DistributedPlan(plan, DistributedEdge).edges
>>> fields = b'{"firstName": "Ann", "lastName": "Gray", "organization": "org1"}'
>>> users.contributed(users.decode("users/u1", 7, fields), Change("users/u1", 7, msgspec.Raw(fields)), print)
({'org1': 'org1'}, WireContribution(values=((0, 0),), links=(), sort_key=None))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from boiler_beam.compare import same_value
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel, narrow_fields
from boiler_beam.plan import Plan, PlannedEdge, Reference
from boiler_beam.steps.contributions import contributions_of
from boiler_beam.steps.functions import NOTHING, FunctionRaised
from boiler_beam.steps.newest import dead_letter_of
from boiler_beam.values import to_wire

__all__ = ["DistributedEdge", "DistributedPlan", "WireContribution"]


class WireContribution(msgspec.Struct, frozen=True, array_like=True, gc=False, eq=False):
    """What a document contributes at one edge that shows it, as it is sent between workers.

    Attributes:
        values: What it adds to aggregates: the index of each in its view, and the value as on the wire.
        links: The paths that it refers to, for each of `PlannedEdge.references`.
        sort_key: Its position in the edge's order; None if the edge has no limit.
    """

    values: tuple[tuple[int, Any], ...] = ()
    links: tuple[tuple[str, ...], ...] = ()
    sort_key: bytes | None = None

    def is_same_as(self, other: WireContribution | None) -> bool:
        """Whether another version of the document contributes the same; 1 and 1.0 differ."""
        return other is not None and (
            self.links == other.links and self.sort_key == other.sort_key and same_value(self.values, other.values)
        )


class DistributedEdge:
    """An edge of a plan that runs on many workers.

    Attributes:
        parent: The parent edge; None for a root or group.
    """

    def __init__(self, plan: Plan, planned: PlannedEdge, parent: DistributedEdge | None) -> None:
        self.planned, self.edge, self.index, self.parent = planned, planned.edge, planned.index, parent
        self.codec = plan.document_types[planned.edge.type_index]
        self._contribute = contributions_of(planned).contribute

    def __repr__(self) -> str:
        return repr(self.planned)

    def contributed(
        self, document: DomainModel, change: Change, refuse: Callable[[DeadLetter], None]
    ) -> tuple[dict[str, Any], WireContribution] | None:
        """Where rows find a document and what it contributes; None where the edge does not show it.

        Args:
            document: A document of the edge's type.
            change: The change that it was made of.
            refuse: Takes the dead letters of users' functions that raise (S10a).

        Returns:
            `Contribution.keys` as a dict, of a group with its keys as on the wire (of other edges None); and the rest.
        """

        def report(error: FunctionRaised) -> None:
            refuse(dead_letter_of("document", error.code, f"{self.planned.view.name}: {error}", change))

        found = self._contribute(document, report)
        if found is None:
            return None
        keys = found.keys if isinstance(found.keys, dict) else dict.fromkeys(found.keys)
        values = zip(self.planned.aggregates, found.values, strict=True)
        contribution = WireContribution(
            tuple([(index, to_wire(value)) for (index, _), value in values if value is not NOTHING]),
            found.links,
            found.sort_key if self.edge.limit is not None else None,
        )
        return {key: to_wire(group_key) for key, group_key in keys.items()}, contribution

    @cached_property
    def _stored_names(self) -> frozenset[str] | None:
        """The stored names of the fields that rows get; None: all."""
        edge = self.edge
        if edge.only is None:
            return None
        ordered_by = edge.order.fields if edge.order is not None else ()
        below = [child.edge for child in self.planned.references]
        links = [one.field.text.partition(".")[0] for one in below if isinstance(one, Reference)]
        return self.codec.stored_names({*edge.only, *ordered_by, *links})

    def row_fields(self, fields: bytes) -> bytes:
        """The fields that rows get of a document: those that `only=` names, or all."""
        return fields if self._stored_names is None else narrow_fields(fields, self._stored_names)

    @property
    def is_narrowed(self) -> bool:
        """Whether rows get a part of a document's fields."""
        return self._stored_names is not None

    def decode(self, path: str, version: int, fields: bytes) -> Any:
        """The document that a row reads, from its `row_fields`."""
        read = self.codec.partial if self.is_narrowed else self.codec.decode
        return read(path, version, fields)


E = TypeVar("E", bound=DistributedEdge)


class DistributedPlan(Generic[E]):
    """A plan that runs on many workers.

    Attributes:
        plan: The plan.
        edges: Its edges, by `PlannedEdge.index`.
        edges_of_type: For each document type, the edges that may show some of them.
    """

    def __init__(self, plan: Plan, edge_type: Callable[[Plan, PlannedEdge, Any], E]) -> None:
        self.plan = plan
        self.edges: list[E] = []
        self.edges_of_type: list[list[E]] = [[] for _ in plan.document_types]
        for planned in plan.planned_edges:  # parents first
            edge = edge_type(plan, planned, None if planned.parent is None else self.edges[planned.parent.index])
            self.edges.append(edge)
            self.edges_of_type[edge.edge.type_index].append(edge)
