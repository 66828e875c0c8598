"""Telling that a row has a document over an edge, no longer has it, or that the document changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from boiler_beam.models import narrow_fields
from boiler_beam.steps.messages import Role
from boiler_beam.steps.stream.messages import Added, Message, Shown, Wanted
from boiler_beam.steps.stream.plan import StreamPlan

__all__ = ["Send", "State", "show"]

Send = Callable[[Message], None]


@dataclass(frozen=True)
class State:
    """What a document is at an edge: `role` None where it is missing or hidden."""

    sequence: int
    role: Role | None
    fields: bytes
    version: int


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
        weight = int(new is not None) - int(old is not None)
        links = [] if now is None else [link for link in plan.links(now, path) if plan.awaited[link[0]]]
        names = plan.travelling[edge]
        fields = None if now is None else state.fields if names is None else narrow_fields(state.fields, names)
        send(Shown(edge, row, path, weight, state.sequence, fields, links, state.version, version))
    for role, weight in ((was, -1), (now, 1)):
        for place, value in role.contributions if role is not None else ():
            send(Added(edge, place, row, path, value, weight, version))
    wanted: Counter[tuple[int, str]] = Counter()
    for role, weight in ((was, -1), (now, 1)):
        for child, keys in plan.links(role, path) if role is not None else ():
            for key in keys:
                wanted[child, key] += weight
    for (child, key), weight in wanted.items():
        if weight:
            send(Wanted(child, key, row, weight, version))
