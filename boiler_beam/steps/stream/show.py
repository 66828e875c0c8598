"""Telling that a row has a document over an edge, no longer has it, or that the document changed."""

from __future__ import annotations

from typing import Any

from boiler_beam.steps.stream.messages import Out, Part, Role, State
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.values import from_wire

__all__ = ["Showing"]


class Showing:
    """Base of the steps that know what a row has.

    Args:
        plan: The views.
        out: Where it goes.
    """

    def __init__(self, plan: StreamPlan, out: Out) -> None:
        self.plan, self.out = plan, out
        self._travels, self._hangs = plan.travels, plan.hangs
        self._is_wanting = [bool(plan.references[number] or plan.below[number]) for number in range(len(plan.edges))]
        self._folds = [[aggregate.fold for aggregate in plan.plan.views[view].aggregates] for view, _ in plan.edges]

    def show(
        self,
        edge: int,
        row: str,
        path: str,
        old: State | None,
        new: State | None,
        weight: int,
        version: int,
        member: tuple[int, Any] | None = None,
    ) -> None:
        """A row had a document in one state over an edge, and has it in another one; None: it did not reach it.

        Sends the difference, so many times: to the row what the document is and what its aggregates get, to the edges
        below what the row wants of them, more and less. Of a group, too, whether the row has a member more or less.
        """
        parts: list[Part] = []
        if self._hangs[edge]:
            was, now = old.role if old is not None else None, new.role if new is not None else None
            if not (was is now or (was is not None and was.is_as(now))):
                parts = self._parts(edge, row, path, was, now, weight, version)
                if self._is_wanting[edge]:
                    self._want(edge, row, path, was, now, weight, version)
        if self._travels[edge]:
            self.out.shown(edge, row, path, weight, old, new, parts, member, version)
        elif parts or member is not None:
            self.out.shown(edge, row, path, weight, None, None, parts, member, version)

    def _parts(
        self, edge: int, row: str, path: str, was: Role | None, now: Role | None, weight: int, version: int
    ) -> list[Part]:
        """What aggregates get; values that count once go another way."""
        folds, parts = self._folds[edge], []
        for role, sign in ((was, -weight), (now, weight)):
            for place, value in role.contributions if role is not None else ():
                fold = folds[place]
                if fold.keeps == "distinct":
                    self.out.counted(edge, place, row, fold.rank(path, from_wire(value)), sign, version)
                else:
                    parts.append((place, value, sign))
        return parts

    def _want(
        self, edge: int, row: str, path: str, was: Role | None, now: Role | None, weight: int, version: int
    ) -> None:
        if was is not None and now is not None and was.links == now.links:
            return
        plan, wanted = self.plan, dict[tuple[int, str], int]()
        for role, sign in ((was, -weight), (now, weight)):
            for child, keys in plan.links(role, path) if role is not None else ():
                for key in keys:
                    wanted[child, key] = wanted.get((child, key), 0) + sign
        for (child, key), change in wanted.items():
            if change:
                self.out.wanted(child, key, row, change, version)
