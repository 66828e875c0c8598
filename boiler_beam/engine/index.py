"""Which rows subscribe to each key of an edge, and through how many documents.

>>> rows = RowIndex()
>>> rows.add("users/u1", "org1", 1), rows.add("users/u1", "org1", 1), rows.add("users/u1", "org2", 1)
(1, 2, 1)
>>> list(rows.of("users/u1")), rows.has("users/u1", "org2"), rows.add("users/u1", "org2", -1)
(['org1', 'org2'], True, 0)
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["RowIndex"]

_NOBODY: tuple[str, ...] = ()


class RowIndex:
    """The rows at each key, each with the number of its documents that refer to it.

    Most keys have one row with one reference: that row is kept as it is, and a dict where there are more.
    """

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[str, str | dict[str, int]] = {}

    def add(self, key: str, row_id: str, weight: int) -> int:
        """A row refers to a key through `weight` documents more (or less); returns through how many now."""
        known = self._rows.get(key)
        if known is None:
            self._rows[key] = row_id if weight == 1 else {row_id: weight}
            return weight
        if isinstance(known, str):
            if known == row_id and weight == -1:
                del self._rows[key]
                return 0
            known = self._rows[key] = {known: 1}
        number = known.get(row_id, 0) + weight
        if number:
            known[row_id] = number
            return number
        del known[row_id]
        if not known:
            del self._rows[key]
        return 0

    def of(self, key: str) -> Iterable[str]:
        """The rows at a key."""
        known = self._rows.get(key)
        if known is None:
            return _NOBODY
        return (known,) if isinstance(known, str) else known

    def has(self, key: str, row_id: str) -> bool:
        """Whether a row is at a key."""
        known = self._rows.get(key)
        return known is not None and (known == row_id if isinstance(known, str) else row_id in known)
