"""Whole commits: changes wait until no more of their version are expected (S19).

>>> import msgspec
>>> reorder = Reorder(lateness_micros=10)
>>> def seen(version): return [one.version for one in reorder.push(Change("a/1", version, msgspec.Raw(b"null")))]
>>> seen(100), seen(105), seen(111), seen(100), reorder.late
([], [], [100], [100], 1)
>>> [one.version for one in reorder.rest()]
[105, 111]
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from boiler_beam.events import Change

__all__ = ["Reorder"]


class Reorder:
    """Releases whole versions, oldest first, that are older than the newest one seen by the allowed lateness.

    Args:
        lateness_micros: The allowed lateness in microseconds.
        waiting: Changes that waited when the program ended.
        released: The version up to which none waits.

    Attributes:
        released: The version up to which no change waits.
        late: How many changes came after their version was released; these are not held.
    """

    def __init__(self, lateness_micros: int, waiting: Iterable[Change] = (), released: int = -1) -> None:
        self.lateness_micros, self.released, self.late = lateness_micros, released, 0
        self._number = 0
        self._heap: list[tuple[int, int, Change]] = []
        for change in waiting:
            self._hold(change)

    def _hold(self, change: Change) -> None:
        self._number += 1
        heapq.heappush(self._heap, (change.version, self._number, change))

    def push(self, change: Change) -> Iterator[Change]:
        """Takes a change; yields those that need not wait any longer."""
        if change.version <= self.released:
            self.late += 1
            yield change
            return
        self._hold(change)
        yield from self._release(change.version - self.lateness_micros - 1)

    @property
    def is_holding(self) -> bool:
        """Whether there are changes that wait."""
        return bool(self._heap)

    def is_late(self, change: Change) -> bool:
        """Whether its version is released already."""
        return change.version <= self.released

    def rest(self) -> Iterator[Change]:
        """Yields all that wait, after the last change."""
        yield from self._release(max((version for version, _, _ in self._heap), default=-1))

    def _release(self, version: int) -> Iterator[Change]:
        self.released = max(self.released, version)
        while self._heap and self._heap[0][0] <= version:
            yield heapq.heappop(self._heap)[2]
