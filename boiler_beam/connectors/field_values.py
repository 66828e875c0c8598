"""Values that a store computes when a document is written: `SERVER_TIME`, `increment`, `array_union` and others.

with bb.transaction(store) as tx:
    meeting = tx.get(Meeting, "m1")
    meeting.visits = bb.increment(1)
    meeting.opened_at = bb.SERVER_TIME
    meeting.note = bb.DELETE_FIELD
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from boiler_beam.values import INT64_MAX, INT64_MIN, from_wire, to_wire

__all__ = ["DELETE_FIELD", "SERVER_TIME", "FieldTransform", "array_remove", "array_union", "increment"]


class FieldTransform(NamedTuple):
    """A value that the store computes.

    Attributes:
        kind: What it does.
        operand: A number for `increment`, a list for arrays; in JSON form.
    """

    kind: Literal["delete", "server_time", "increment", "array_union", "array_remove"]
    operand: Any = None

    def applied(self, old: Any, time: Any) -> Any:
        """Returns the new value (JSON form) from the old one, None if there is none, and the time of the write.

        An integer beyond int64 becomes the nearest one, as in Firestore. A value of another type counts as absent.
        Source: https://firebase.google.com/docs/firestore/reference/rest/v1/Write#FieldTransform
        """
        if self.kind == "server_time":
            return time
        if self.kind == "increment":
            known = from_wire(old)
            is_number = isinstance(known, (int, float)) and not isinstance(known, bool)
            total = (known if is_number else 0) + from_wire(self.operand)
            return to_wire(max(INT64_MIN, min(INT64_MAX, total)) if type(total) is int else total)
        items = list(old) if isinstance(old, list) else []
        if self.kind == "array_remove":
            return [item for item in items if item not in self.operand]
        for item in self.operand:
            if item not in items:
                items.append(item)
        return items


SERVER_TIME: Any = FieldTransform("server_time")
"""The time of the commit."""
DELETE_FIELD: Any = FieldTransform("delete")
"""Removes the field from the document."""


def increment(by: float) -> Any:
    """Adds a number to the stored one: without reading it, so that concurrent increments do not conflict."""
    return FieldTransform("increment", to_wire(by))


def array_union(*values: Any) -> Any:
    """Appends those values that the stored array does not contain."""
    return FieldTransform("array_union", to_wire(list(values)))


def array_remove(*values: Any) -> Any:
    """Removes values from the stored array."""
    return FieldTransform("array_remove", to_wire(list(values)))
