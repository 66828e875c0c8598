"""Telling that a row has a document over an edge, no longer has it, or that the document changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from boiler_beam.models import narrow_fields
from boiler_beam.steps.stream.cells import State
from boiler_beam.steps.stream.messages import Added, Message, Shown, Wanted
from boiler_beam.steps.stream.plan import StreamPlan

__all__ = ["Send", "show"]

Send = Callable[[Message], None]


def show(
    plan: StreamPlan, send: Send, edge: int, row: str, path: str, old: State | None, new: State | None, version: int
) -> None:
    """A row had a document in one state over an edge, and has it in another one; None: it did not reach it.

    Sends the difference: to the row what the document is, to aggregates what it adds and takes back, to the edges below
    what the row wants of them, more and less.
    """
    was, now = old.role if old is not None else None, new.role if new is not None else None
    if plan.travels[edge]:
        state = new or old
        assert state is not None
        weight = (new is not None) - (old is not None)
        links = [] if now is None else [link for link in plan.links(now, path) if plan.awaited[link[0]]]
        names, fields = plan.travelling[edge], state.fields if now is not None else b""
        if fields and names is not None:
            fields = narrow_fields(fields, names)
        send(Shown(edge, row, path, weight, state.sequence, now is not None, fields, links, state.version, version))
    if was == now:
        return
    if plan.aggregates[edge]:
        for role, weight in ((was, -1), (now, 1)):
            for place, value in role.contributions if role is not None else ():
                send(Added(edge, place, row, path, value, weight, version))
    if plan.references[edge] or plan.below[edge]:
        wanted: Counter[tuple[int, str]] = Counter()
        for role, weight in ((was, -1), (now, 1)):
            for child, keys in plan.links(role, path) if role is not None else ():
                for key in keys:
                    wanted[child, key] += weight
        for (child, key), weight in wanted.items():
            if weight:
                send(Wanted(child, key, row, weight, version))
