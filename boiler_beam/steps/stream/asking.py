"""What one document is at an edge, and what its users' functions raise; only the in-process engine's steps use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.steps.functions import NOTHING, FunctionRaised, contribution, references
from boiler_beam.steps.newest import dead_letter_of
from boiler_beam.steps.stream.messages import Link, Role
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.values import to_wire

__all__ = ["Asking"]


class Asking:
    """Asks documents what they are at an edge: all that a user wrote of one document runs here."""

    def __init__(self, plan: StreamPlan, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan, self.refuse = plan, refuse
        self._bare = [Role(number, [], [], []) for number in range(len(plan.edges))]

    def role(self, number: int, view: int, document: DomainModel, change: Change) -> Role:
        """What the document adds to the aggregates over an edge, and what the edges that hang on it refer to."""
        aggregates, children = self.plan.aggregates[number], self.plan.references[number]
        edge = self.plan.edges[number][1]
        if not aggregates and not children and edge.limit is None:
            return self._bare[number]
        contributions = []
        for place, aggregate in aggregates:
            value = self.tried(contribution, view, aggregate, document, change)
            if value is not None and value is not NOTHING:
                contributions.append((place, to_wire(value)))
        links = []
        for child, reference in children:
            if found := self.tried(references, view, reference, document, change):
                links.append(Link(child, list(dict.fromkeys([path for _, path in found]))))
        is_cut = edge.limit is not None and edge.order is not None
        ranks = [to_wire(rank) for rank in edge.order.ranks(document)] if is_cut and edge.order else []
        return Role(number, contributions, links, ranks)

    def tried(
        self, function: Callable[[Any, Any], Any], view: int, what: Any, document: DomainModel, change: Change
    ) -> Any:
        """What a function of a document gives; None, and a dead letter, where it raises (S10a)."""
        try:
            return function(what, document)
        except FunctionRaised as error:
            message = f"{self.plan.plan.views[view].name}: {error}"
            self.refuse(dead_letter_of("down", error.code, message, change))
            return None
