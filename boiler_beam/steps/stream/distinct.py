"""The step that counts a value once, however many documents have it."""

from __future__ import annotations

from boiler_beam.steps.stream.messages import Out

__all__ = ["Distinct"]


class Distinct:
    """Key: an aggregate, a row and a value. Keeps how many documents have it; sends 1 when the first comes, -1 at last.

    Counted(authors, c1, "Ann", +1)     c1 counts one value more
    Counted(authors, c1, "Ann", +1)     nothing
    Counted(authors, c1, "Ann", -2)     c1 counts one value less
    """

    def __init__(self, out: Out) -> None:
        self.out = out

    def counted(self, before: int, edge: int, aggregate: int, row: str, value: bytes, weight: int, version: int) -> int:
        """So many documents more or less have the value; gives how many have it now."""
        after = before + weight
        if (before > 0) != (after > 0):
            part = aggregate, None, 1 if after > 0 else -1
            self.out.shown(edge, row, "", 1, None, None, (part,), None, version)
        return after
