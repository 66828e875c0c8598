"""Base of the steps that know which documents a row has over an edge."""

from __future__ import annotations

from typing import Any

import msgspec

from boiler_beam.events import DeadLetter
from boiler_beam.steps.distributed import WireContribution
from boiler_beam.steps.keyed.messages import (
    CandidateDelta,
    DocumentState,
    MemberDelta,
    MembershipDelta,
    RankedValuesDelta,
    SubscriptionDelta,
    ValueCountDelta,
    ValueDelta,
)
from boiler_beam.steps.keyed.plan import KeyedEdge, KeyedView
from boiler_beam.steps.keyed.step import Output, Step, StepSettings
from boiler_beam.values import from_wire

__all__ = ["EdgeStep"]

_Terms = list[tuple[WireContribution, int]]
"""Contributions of a document, each with the number of times that it is added to a row."""


class EdgeStep(Step):
    """Base of the steps of one edge."""

    def __init__(self, view: KeyedView, label: str, output: Output, settings: StepSettings, edge: KeyedEdge) -> None:
        super().__init__(view, label, output, settings)
        self.edge = edge
        self._reports = settings.reporting is None or label in settings.reporting

    def report(self, dead_letter: DeadLetter) -> None:
        """Reports a dead letter; that a document is invalid only if this step reports for all that read it."""
        if self._reports or dead_letter.stage == "document":
            self.output.refuse(dead_letter)

    def count_document(self, path: str, number: int) -> None:
        """Reports that a document came into being (1) or was deleted (-1); 0: neither."""
        if number:
            self.output.count_documents(path, number)

    def change_match(
        self, row: str, path: str, old: DocumentState | None, new: DocumentState | None, weight: int, version: int
    ) -> None:
        """Replaces the state in which a document matches a row, `weight` times; None: it does not match.

        The document is a candidate if the edge has a limit or several paths may lead to it, else a member.
        """
        edge = self.edge
        if edge.edge.limit is None and not edge.planned.counts_paths:
            if weight < 0 and old is None:
                old, new, weight = new, None, -weight
            self.change_member(row, path, old, new, weight, version)
            return
        for state, times in ((old, -weight), (new, weight)):
            if state is not None:
                self.output.send(CandidateDelta(edge.index, row, path, times, state, version))

    def change_member(
        self,
        row: str,
        path: str,
        old: DocumentState | None,
        new: DocumentState | None,
        weight: int,
        version: int,
        member: MemberDelta | None = None,
    ) -> None:
        """Replaces the state in which a document is a member of a row; None: it is not a member.

        Sends the difference: to the row the document and the values of aggregates, to the steps of child edges the
        keys to which the row subscribes now, and those to which it no longer subscribes.
        """
        edge, values = self.edge, list[ValueDelta]()
        if edge.planned.has_dependents:
            was = None if old is None else old.contribution
            now = None if new is None else new.contribution
            if was is not now and (was is None or not was.is_same_as(now)):
                terms = [(one, times) for one, times in ((was, -weight), (now, weight)) if one is not None]
                values = self._send_values(row, path, terms, version)
                self._send_subscriptions(row, path, terms, version)
        sequence, document = None, None
        if edge.planned.carries_fields:
            sequence = None if old is None else old.sequence
            document = None if new is None else self._row_state(new)
        elif not values and member is None:
            return
        delta = MembershipDelta(edge.index, row, path, weight, sequence, document, values, member, version)
        self.output.send(delta)

    def _row_state(self, state: DocumentState) -> DocumentState:
        """A state as rows keep it: of its contribution only the links, by which a row knows to what it subscribes."""
        if state.contribution is None or not (state.contribution.values or state.contribution.sort_key):
            return state
        return msgspec.structs.replace(state, contribution=WireContribution(links=state.contribution.links))

    def _send_values(self, row: str, path: str, terms: _Terms, version: int) -> list[ValueDelta]:
        """Sends values that are counted or ordered to their own steps; returns the others, which the row gets."""
        values: list[ValueDelta] = []
        ranked: dict[int, list[tuple[Any, int]]] = {}
        for contribution, times in terms:
            for index, value in contribution.values:
                fold = self.view.view.aggregates[index].fold
                if fold.keeps == "distinct":
                    counted = fold.rank(path, from_wire(value))
                    self.output.send(ValueCountDelta(index, row, counted, times, version))
                elif fold.keeps == "ranking":
                    ranked.setdefault(index, []).append((value, times))
                else:
                    values.append(ValueDelta(index, value, times))
        for index, some in ranked.items():
            self.output.send(RankedValuesDelta(index, row, path, some, version))
        return values

    def _send_subscriptions(self, row: str, path: str, terms: _Terms, version: int) -> None:
        weights: dict[tuple[int, str], int] = {}
        for contribution, times in terms:
            for child, keys in self.edge.subscriptions(contribution, path):
                for key in keys:
                    weights[child, key] = weights.get((child, key), 0) + times
        for (child, key), change in weights.items():
            if change:
                self.output.send(SubscriptionDelta(child, key, row, change, version))
