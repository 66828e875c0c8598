"""How often one row may be written: the first write goes at once, then the newest after each pause (S17).

>>> from boiler_beam.events import Row, Stamp
>>> pace, clock = Pace(1.0), [0.0]
>>> def row(version): return Entry("V", Row("rows/r", Stamp(1, version, 0), b"{}"))
>>> def sent(*entries): return [[one.row.stamp.version for one in some] for some in pace.split(entries, clock[0])]
>>> sent(row(1))
[[1], []]
>>> sent(row(2), row(3))
[[], [3]]
>>> clock[0] = 1.0
>>> sent(row(3))
[[3], []]
"""

from __future__ import annotations

from collections.abc import Iterable

from boiler_beam.engine.state.base import Entry

__all__ = ["Pace"]


class Pace:
    """Says which rows may be written now.

    Args:
        seconds: Between two writes of a row; 0: they go at once.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._times: dict[str, float] = {}
        """When each row was written lately, oldest first."""

    def split(self, entries: Iterable[Entry], now: float) -> tuple[list[Entry], list[Entry]]:
        """Those that may go now, and those that wait; of several of one row the newest. Dead letters always go."""
        if not self.seconds:
            return list(entries), []
        newest: dict[str, Entry] = {}
        due, waiting = [], []
        for entry in entries:
            if entry.row is None:
                due.append(entry)
                continue
            other = newest.get(entry.row.path)
            if other is None or other.row is None or other.row.stamp <= entry.row.stamp:
                newest[entry.row.path] = entry
        while self._times and (path := next(iter(self._times))) and self._times[path] + self.seconds <= now:
            del self._times[path]
        for path, entry in newest.items():
            if path in self._times:
                waiting.append(entry)
            else:
                self._times[path] = now
                due.append(entry)
        return due, waiting

    def pause(self, now: float) -> float:
        """Seconds until the next row that waits may be written."""
        return max(0.0, next(iter(self._times.values()), now) + self.seconds - now)
