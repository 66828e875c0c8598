"""Collections that are kept as logs: a cell is appended to without being read, as Beam's bag state is.

An entry adds an item at a key some times, or retracts it: entries of one key add up, in any order (a Z-set). A log is
read when a change concerns all its entries. It is rewritten only when at least half of its entries are no longer needed
(S12), so that adding costs a constant, however large it is.

>>> from boiler_beam.steps.keyed.cells import ListLog
>>> log = ListLog()
>>> rows = WeightedLog(log, Sizes(), tuple[str, int, None])
>>> for row, weight in (("r1", 1), ("r2", 1), ("r1", -1)):
...     rows.add(row, weight, None)
>>> rows.sum(), len(log.entries)
({'r2': (1, None)}, 3)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from boiler_beam.steps.keyed.cells import Log

__all__ = ["Sizes", "WeightedLog", "add_weight"]

K = TypeVar("K")
V = TypeVar("V")
_LEAST = 64
"""A log with at most this number of entries is not rewritten."""
_encode = msgspec.msgpack.Encoder().encode


class Sizes(msgspec.Struct, array_like=True):
    """The number of entries of a log when it was last checked or rewritten, and of those added since."""

    kept: int = 0
    added: int = 0


def add_weight(sums: dict[K, tuple[int, V]], key: K, weight: int, item: V) -> None:
    """Adds an item at a key `weight` times; an item that is there 0 times is removed.

    Of a document, what is retracted comes without its fields, or as None, and perhaps first: the fuller item is kept.
    """
    known_weight, known = sums.get(key, (0, None))
    if known is not None and (weight < 0 or getattr(item, "fields", item) is None):
        item = known
    if known_weight + weight:
        sums[key] = known_weight + weight, item
    else:
        sums.pop(key, None)


@lru_cache(maxsize=64)
def _decoder(entry: Any) -> Any:
    return msgspec.msgpack.Decoder(entry)


class WeightedLog(Generic[K, V]):
    """A log whose entries, tuples of key, weight and item, add up by key."""

    def __init__(self, log: Log, sizes: Sizes, entry: Any) -> None:
        self._log, self._sizes, self._decode = log, sizes, _decoder(entry).decode

    def add(self, key: K, weight: int, item: V) -> None:
        """Adds an entry without reading the log, unless it is due to be rewritten."""
        self._log.append(_encode((key, weight, item)))
        self._sizes.added += 1
        if self._sizes.added > max(_LEAST, self._sizes.kept):
            self.sum()

    def sum(self) -> dict[K, tuple[int, V]]:
        """For each key whose weights do not add up to 0: their sum, and the item."""
        sums: dict[K, tuple[int, V]] = {}
        for entry in self._log.read():
            add_weight(sums, *self._decode(entry))
        sizes, entries = self._sizes, self._sizes.kept + self._sizes.added
        if entries > _LEAST and entries >= 2 * len(sums):
            self.rewrite(sums)
        elif sizes.added > max(_LEAST, sizes.kept):
            sizes.kept, sizes.added = entries, 0  # summed again when it is twice as long
        return sums

    def rewrite(self, sums: dict[K, tuple[int, V]]) -> None:
        """Replaces all entries by those of their sum."""
        self._log.replace([_encode((key, *one)) for key, one in sums.items()])
        self._sizes.kept, self._sizes.added = len(sums), 0
