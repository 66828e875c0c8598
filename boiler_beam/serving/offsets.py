"""Positions in the history of a view, and the opaque texts by which clients know them.

| position | text | meaning |
| --- | --- | --- |
| `Position(7)` | `0000000000000007_z` | all rows as of commit 7 are known |
| `Position(7, "a", is_snapshot=True)` | `0000000000000007_a61` | of a snapshot begun at commit 7: rows up to `a` |
| `Position(7, "a")` | `0000000000000007_m61` | of the changes of commit 7: those up to path `a` |

Their order as texts is the order of reading.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from boiler_beam.serving.problems import Problem

__all__ = ["BEGIN", "Position", "parse_offset"]

BEGIN = "-1"
"""The offset before all rows."""
_OFFSET = re.compile(r"(\d{16})_(?:(z)|([am])((?:[0-9a-f]{2})*))")


class Position(NamedTuple):
    """How far a client has read a view; see the module.

    Attributes:
        number: A commit number.
        path: The last row path that was read; None where there is nothing left to read of that commit.
        is_snapshot: Whether rows are read, not changes.
    """

    number: int
    path: str | None = None
    is_snapshot: bool = False

    @property
    def text(self) -> str:
        """The offset.

        >>> Position(7, "a").text
        '0000000000000007_m61'
        """
        if self.path is None:
            return f"{self.number:016d}_z"
        return f"{self.number:016d}_{'a' if self.is_snapshot else 'm'}{self.path.encode().hex()}"


def parse_offset(text: str) -> Position:
    """Returns the position of an offset.

    >>> parse_offset("0000000000000007_m61")
    Position(number=7, path='a', is_snapshot=False)

    Raises:
        Problem: It is none.
    """
    found = _OFFSET.fullmatch(text)
    try:
        if found is not None:
            number, is_whole, kind, path = found.groups()
            return (
                Position(int(number)) if is_whole else Position(int(number), bytes.fromhex(path).decode(), kind == "a")
            )
    except UnicodeDecodeError:
        pass
    raise Problem(400, "invalid offset", "expected -1, now, or an offset that this server gave")
