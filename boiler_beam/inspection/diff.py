"""How the rows of two sinks differ, field by field; stamps are not compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from boiler_beam.connectors.base import Sink
from boiler_beam.plan import Plan

__all__ = ["MISSING", "Difference", "differences"]

MISSING: Any = object()
"""The value of a field that a row lacks."""


class Difference(NamedTuple):
    """One row that differs.

    Attributes:
        view: The view's name.
        path: The row's path.
        kind: `inserted` (only the new sink has it), `deleted` (only the old one) or `updated`.
        fields: The fields that differ: the old and the new value as JSON has them, `MISSING` where there is none.
    """

    view: str
    path: str
    kind: str
    fields: dict[str, tuple[Any, Any]]


def differences(plan: Plan, old: Sink, new: Sink) -> Iterator[Difference]:
    """The rows of the plan's views that differ, by view and path."""
    for view in plan.views:
        before = {row.path: row.fields or b"{}" for row in old.current_rows(view.target)}
        after = {row.path: row.fields or b"{}" for row in new.current_rows(view.target)}
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) == after.get(path):
                continue
            kind = "inserted" if path not in before else "deleted" if path not in after else "updated"
            fields = _changed(before.get(path, b"{}"), after.get(path, b"{}"))
            if fields or kind != "updated":
                yield Difference(view.name, path, kind, fields)


def _changed(before: bytes, after: bytes) -> dict[str, tuple[Any, Any]]:
    old, new = msgspec.json.decode(before), msgspec.json.decode(after)
    return {
        name: (old.get(name, MISSING), new.get(name, MISSING))
        for name in sorted(old.keys() | new.keys())
        if msgspec.json.encode(old.get(name)) != msgspec.json.encode(new.get(name)) or (name in old) != (name in new)
    }
