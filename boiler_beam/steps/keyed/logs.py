"""Collections of cells as logs: where a cell is added to without being read, as Beam's bag state is.

A log is read where a change goes to all that is in it, and rewritten only where it holds at least twice what is left of
it (S12): so adding costs a constant, however large it is.

>>> log = ListLog()
>>> weights = LogWeights(log, Sizes())
>>> for row, weight in (("r1", 1), ("r2", 1), ("r1", -1)):
...     weights.add(row, weight)
>>> list(weights.items()), len(log.entries)
([('r2', 1)], 3)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from boiler_beam.steps.stream.messages import Held, State

__all__ = ["ListLog", "Log", "LogDocuments", "LogHeld", "LogWeights", "OneDocument", "Sizes"]

K = TypeVar("K")
V = TypeVar("V")
_LEAST = 64
"""Entries that a log may hold before it is rewritten."""
_encode = msgspec.msgpack.Encoder().encode


class Log(Protocol):
    """Entries in any order."""

    def append(self, entry: bytes, /) -> None:
        """One more."""

    def read(self) -> Iterable[bytes]:
        """All of them."""

    def replace(self, entries: list[bytes], /) -> None:
        """These stand in the place of all."""


class ListLog:
    """A log in this process's memory."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self.entries = list(entries)

    def append(self, entry: bytes, /) -> None:
        """See `Log`."""
        self.entries.append(entry)

    def read(self) -> list[bytes]:
        """See `Log`."""
        return self.entries

    def replace(self, entries: list[bytes], /) -> None:
        """See `Log`."""
        self.entries = entries


class Sizes(msgspec.Struct, array_like=True):
    """How many entries a log held when it was looked at, and how many were added since."""

    kept: int = 0
    added: int = 0


class Folded(Generic[K, V]):
    """A log whose entries add up by key.

    Args:
        log: Where they are.
        sizes: Kept with the cell.
        decode: Reads an entry.
        merge: Adds an entry to what the others came to; what is nothing any more leaves.
        entries: What a rewritten log holds.
    """

    def __init__(
        self,
        log: Log,
        sizes: Sizes,
        decode: Callable[[bytes], Any],
        merge: Callable[[dict[K, V], Any], None],
        entries: Callable[[dict[K, V]], Iterable[Any]],
    ) -> None:
        self._log, self._sizes, self._decode, self._merge, self._entries = log, sizes, decode, merge, entries

    def append(self, entry: Any) -> None:
        """Adds without reading, but where the log is due to be rewritten."""
        self._log.append(_encode(entry))
        self._sizes.added += 1
        if self._sizes.added > max(_LEAST, self._sizes.kept):
            self.fold()

    def fold(self) -> dict[K, V]:
        """What the entries come to."""
        found: dict[K, V] = {}
        for entry in self._log.read():
            self._merge(found, self._decode(entry))
        sizes, entries = self._sizes, self._sizes.kept + self._sizes.added
        if entries > _LEAST and entries >= 2 * len(found):
            self.rewrite(found)
        elif sizes.added > max(_LEAST, sizes.kept):
            sizes.kept, sizes.added = entries, 0  # looked at again when it is twice as long
        return found

    def rewrite(self, found: dict[K, V]) -> None:
        """Nothing else is left of it."""
        kept = [_encode(entry) for entry in self._entries(found)]
        self._log.replace(kept)
        self._sizes.kept, self._sizes.added = len(kept), 0


class LogWeights:
    """See `Weights`."""

    def __init__(self, log: Log, sizes: Sizes) -> None:
        self._folded: Folded[str, int] = Folded(log, sizes, _decode_weight, _add_weight, lambda found: found.items())

    def add(self, row: str, weight: int, /) -> None:
        """See `Weights`."""
        self._folded.append((row, weight))

    def items(self) -> Iterable[tuple[str, int]]:
        """See `Weights`."""
        return self._folded.fold().items()


_decode_weight = msgspec.msgpack.Decoder(tuple[str, int]).decode


def _add_weight(found: dict[str, int], entry: tuple[str, int]) -> None:
    row, weight = entry
    after = found.get(row, 0) + weight
    if after:
        found[row] = after
    else:
        found.pop(row, None)


class LogDocuments:
    """See `Documents`: states by document and sequence, and how often each."""

    def __init__(self, log: Log, sizes: Sizes) -> None:
        self._folded: Folded[tuple[str, int], tuple[State, int]] = Folded(
            log,
            sizes,
            _decode_document,
            _add_document,
            lambda found: ((path, state, weight) for (path, _), (state, weight) in found.items()),
        )

    def get(self, path: str, /) -> State | None:
        """See `Documents`."""
        raise NotImplementedError("many documents may lie here")

    def change(self, path: str, old: State | None, new: State | None, /) -> None:
        """See `Documents`."""
        for state, weight in ((old, -1), (new, 1)):
            if state is not None:
                self._folded.append((path, state, weight))

    def each(self) -> Iterable[tuple[str, State, int]]:
        """See `Documents`."""
        return [(path, state, weight) for (path, _), (state, weight) in self._folded.fold().items()]


_decode_document = msgspec.msgpack.Decoder(tuple[str, State, int]).decode


def _add_document(found: dict[tuple[str, int], tuple[State, int]], entry: tuple[str, State, int]) -> None:
    path, state, weight = entry
    key = path, state.sequence
    known = found.get(key)
    after = weight + (known[1] if known is not None else 0)
    if after:
        found[key] = (known[0] if known is not None and weight < 0 else state), after
    else:
        found.pop(key, None)


class OneDocument(msgspec.Struct, array_like=True):
    """See `Documents`: the one that the key names."""

    state: State | None = None

    def get(self, path: str, /) -> State | None:
        """See `Documents`."""
        return self.state

    def change(self, path: str, old: State | None, new: State | None, /) -> None:
        """See `Documents`."""
        self.state = new

    def each(self) -> Iterable[tuple[str, State, int]]:
        """See `Documents`."""
        raise NotImplementedError("one document lies here: get it")


class LogHeld:
    """The documents that a row holds: by edge, path and sequence, and how often each.

    In between there may be two states of one, or less than none of it: then something is still on its way.
    """

    def __init__(self, log: Log, sizes: Sizes) -> None:
        self._folded: Folded[tuple[int, str, int], tuple[int, Held | None]] = Folded(
            log,
            sizes,
            _decode_held,
            _add_held,
            lambda found: ((edge, path, one, *known) for (edge, path, one), known in found.items()),
        )

    def change(self, edge: int, path: str, weight: int, old: int | None, new: Held | None) -> None:
        """Takes one state away, and puts another one, so many times."""
        if old is not None:
            self._folded.append((edge, path, old, -weight, None))
        if new is not None:
            self._folded.append((edge, path, new.sequence, weight, new))

    def each(self) -> Iterable[tuple[int, str, int, Held | None]]:
        """Edge, path, how often, and what it is: None where that is still on its way."""
        return [(edge, path, weight, held) for (edge, path, _), (weight, held) in self._folded.fold().items()]


_decode_held = msgspec.msgpack.Decoder(tuple[int, str, int, int, Held | None]).decode


def _add_held(
    found: dict[tuple[int, str, int], tuple[int, Held | None]], entry: tuple[int, str, int, int, Held | None]
) -> None:
    edge, path, sequence, weight, held = entry
    key = edge, path, sequence
    known = found.get(key)
    if known is not None:
        weight += known[0]
        held = held or known[1]
    if weight:
        found[key] = weight, held
    else:
        found.pop(key, None)
