"""Claims: of several rows that want one path, the one with the smallest id has it (S11).

Only of views whose row path does not name the row: `RowPath.is_unique` says which.
"""

from __future__ import annotations

from collections.abc import Iterator

from boiler_beam.events import DeadLetter
from boiler_beam.steps.row import Copy

__all__ = ["Claims", "contested"]


def contested(view: str, path: str, row_id: str) -> DeadLetter:
    """The dead letter of a row whose path another one has; which one may change as rows come and go."""
    message = f"{view}: expected a row path of its own for {row_id!r}, got one that a row with a smaller id wants, too"
    return DeadLetter(stage="claim", code="contested_path", message=message, path=path)


class Claims:
    """The copies of the rows of one view, by path.

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
        """A row wants a path; one that may exist, and was not computed, only taints it."""
        if copy.tainted_by:
            self._taints.setdefault(copy.path, {}).update(dict.fromkeys(copy.tainted_by))
        if copy.fields is None and (copy.is_wildcard or copy.tainted_by):
            self._masks[copy.path] = copy
        else:
            self._claims.setdefault(copy.path, {})[row_id] = copy

    def settled(self) -> Iterator[Copy]:
        """The copies that have their paths; first those, and the wildcards of those, that can't be known."""
        for path, copy in self._masks.items():
            if path not in self._claims:
                yield copy._replace(tainted_by=tuple(sorted(self._taints.get(path, ()))))
        for path, claims in self._claims.items():
            first = claims[min(claims)]
            is_known = first.fields is not None  # a row whose getter raised stays as it is, tainted or not (S6)
            yield first._replace(tainted_by=tuple(sorted(self._taints.get(path, ())))) if is_known else first

    def refused(self) -> Iterator[DeadLetter]:
        """The dead letters of the others; a row that can't be told takes the path from none that can."""
        for path, claims in self._claims.items():
            for row_id in sorted(row_id for row_id, copy in claims.items() if copy.fields is not None)[1:]:
                yield contested(self.view, path, row_id)
