"""Claims: of several rows that claim one path, the one with the smallest id gets it (S11).

Rows can claim one path only where it does not identify the row (`RowPath.is_unique` is False).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from boiler_beam.events import DeadLetter
from boiler_beam.steps.emission import Emitted, emit
from boiler_beam.steps.row import Copy

__all__ = ["ClaimedPath", "Claims", "contested", "losers"]


def contested(view: str, path: str, row_id: str) -> DeadLetter:
    """The dead letter of a row that loses its path to another row."""
    message = f"{view}: expected a row path of its own for {row_id!r}, got one that a row with a smaller id wants, too"
    return DeadLetter(stage="claim", code="contested_path", message=message, path=path)


def losers(row_ids: Iterable[str]) -> list[str]:
    """Of the rows that claim one path, those that do not get it.

    >>> losers(["u2", "u1", "u3"])
    ['u2', 'u3']
    """
    return sorted(row_ids)[1:]


class ClaimedPath(msgspec.Struct, array_like=True):
    """What a stream keeps of one path that several rows may claim.

    Attributes:
        fields: The fields of each row that claims it, by row id.
        emitted: The last emission at the path.
    """

    fields: dict[str, bytes] = {}
    emitted: Emitted | None = None

    def claim(self, row_id: str, fields: bytes | None) -> list[str]:
        """Takes the claim of a row (None: it no longer claims the path); returns the rows that lose the path by it."""
        before = losers(self.fields)
        if fields is None:
            self.fields.pop(row_id, None)
        else:
            self.fields[row_id] = fields
        return [one for one in losers(self.fields) if one not in before]

    def emit(self, version: int, epoch: int, now: int | None = None) -> tuple[Emitted, bytes | None] | None:
        """The emission of the fields of the row that has the path, as `steps.emission.emit` decides."""
        fields = self.fields[min(self.fields)] if self.fields else None
        new = emit(self.emitted, version, fields, epoch, now)
        if new is None:
            return None
        self.emitted = new
        return new, fields


class Claims:
    """The claims of one view's rows: the copies of rows, by path.

    >>> claims = Claims("Profile")
    >>> claims.add("u2", Copy("names/ann", b"{}"))
    >>> claims.add("u1", Copy("names/ann", None))
    >>> list(claims.settled()), [dead_letter.message for dead_letter in claims.refused()]
    ([Copy(path='names/ann', fields=None, tainted_by=())], [])
    >>> claims.add("u3", Copy("names/ann", b"{}"))
    >>> [dead_letter.message for dead_letter in claims.refused()]
    ["Profile: expected a row path of its own for 'u3', got one that a row with a smaller id wants, too"]
    """

    def __init__(self, view: str) -> None:
        self.view = view
        self._claims: dict[str, dict[str, Copy]] = {}
        self._masks: dict[str, Copy] = {}
        self._taints: dict[str, dict[str, None]] = {}

    def add(self, row_id: str, copy: Copy) -> None:
        """Takes a copy of a row: a claim for its path.

        A wildcard, or a copy that is unknown because of invalid documents, claims nothing: its path is only unknown.
        """
        if copy.tainted_by:
            self._taints.setdefault(copy.path, {}).update(dict.fromkeys(copy.tainted_by))
        if copy.fields is None and (copy.is_wildcard or copy.tainted_by):
            self._masks[copy.path] = copy
        else:
            self._claims.setdefault(copy.path, {})[row_id] = copy

    def settled(self) -> Iterator[Copy]:
        """Yields a copy for each path: first the unknown paths without a claim, then the copies that get their path."""
        for path, copy in self._masks.items():
            if path not in self._claims:
                yield copy._replace(tainted_by=tuple(sorted(self._taints.get(path, ()))))
        for path, claims in self._claims.items():
            first = claims[min(claims)]
            is_known = first.fields is not None  # a row whose getter raised stays as it is, tainted or not (S6)
            yield first._replace(tainted_by=tuple(sorted(self._taints.get(path, ())))) if is_known else first

    def refused(self) -> Iterator[DeadLetter]:
        """Yields a dead letter for each row that loses its path to one with a smaller id; unknown rows do not count."""
        for path, claims in self._claims.items():
            for row_id in losers(row_id for row_id, copy in claims.items() if copy.fields is not None):
                yield contested(self.view, path, row_id)
