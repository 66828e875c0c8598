"""Collections that are kept as logs: a cell is appended to without being read, as Beam's bag state is.

A log is read when a change concerns all its entries. It is rewritten only when at least half of its entries are no
longer needed (S12), so that adding costs a constant, however large it is.

>>> log = ListLog()
>>> weights = WeightLog(log, Sizes())
>>> for row, weight in (("r1", 1), ("r2", 1), ("r1", -1)):
...     weights.add(row, weight)
>>> list(weights.items()), len(log.entries)
([('r2', 1)], 3)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from boiler_beam.steps.keyed.cells import ListLog, Log
from boiler_beam.steps.keyed.messages import DocumentState, RowDocument

__all__ = ["DocumentLog", "FoldedLog", "ListLog", "RowDocumentLog", "RowEntry", "Sizes", "WeightLog"]

K = TypeVar("K")
V = TypeVar("V")
_LEAST = 64
"""A log with at most this number of entries is not rewritten."""
_encode = msgspec.msgpack.Encoder().encode


class Sizes(msgspec.Struct, array_like=True):
    """The number of entries of a log when it was last checked or rewritten, and of those added since."""

    kept: int = 0
    added: int = 0


class FoldedLog(Generic[K, V]):
    """A log whose entries add up by key.

    Args:
        log: Where they are.
        sizes: Kept with the cell.
        decode: Reads an entry.
        merge: Adds an entry to the sum of the others; keys whose entries add up to 0 are dropped.
        entries: Returns the entries of a rewritten log from the sum.
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
        """Adds an entry without reading the log, unless it is due to be rewritten."""
        self._log.append(_encode(entry))
        self._sizes.added += 1
        if self._sizes.added > max(_LEAST, self._sizes.kept):
            self.fold()

    def fold(self) -> dict[K, V]:
        """The sum of the entries."""
        found: dict[K, V] = {}
        for entry in self._log.read():
            self._merge(found, self._decode(entry))
        sizes, entries = self._sizes, self._sizes.kept + self._sizes.added
        if entries > _LEAST and entries >= 2 * len(found):
            self.rewrite(found)
        elif sizes.added > max(_LEAST, sizes.kept):
            sizes.kept, sizes.added = entries, 0  # folded again when it is twice as long
        return found

    def rewrite(self, found: dict[K, V]) -> None:
        """Replaces all entries by those of their sum."""
        kept = [_encode(entry) for entry in self._entries(found)]
        self._log.replace(kept)
        self._sizes.kept, self._sizes.added = len(kept), 0


class WeightLog:
    """How often each row subscribes to a key."""

    def __init__(self, log: Log, sizes: Sizes) -> None:
        self._folded: FoldedLog[str, int] = FoldedLog(
            log, sizes, _decode_weight, _add_weight, lambda sums: sums.items()
        )

    def add(self, row: str, weight: int) -> None:
        """Changes by `weight` how often a row subscribes."""
        self._folded.append((row, weight))

    def items(self) -> Iterable[tuple[str, int]]:
        """The rows whose weights do not add up to 0."""
        return self._folded.fold().items()


_decode_weight = msgspec.msgpack.Decoder(tuple[str, int]).decode


def _add_weight(found: dict[str, int], entry: tuple[str, int]) -> None:
    row, weight = entry
    after = found.get(row, 0) + weight
    if after:
        found[row] = after
    else:
        found.pop(row, None)


class DocumentLog:
    """The documents that refer to a key: the weight of each of their states."""

    def __init__(self, log: Log, sizes: Sizes) -> None:
        self._folded: FoldedLog[tuple[str, int], tuple[DocumentState, int]] = FoldedLog(
            log,
            sizes,
            _decode_document,
            _add_document,
            lambda found: ((path, state, weight) for (path, _), (state, weight) in found.items()),
        )

    def change(self, path: str, old: DocumentState | None, new: DocumentState | None) -> None:
        """Retracts one state of a document, and adds another one."""
        for state, weight in ((old, -1), (new, 1)):
            if state is not None:
                self._folded.append((path, state, weight))

    def items(self) -> Iterable[tuple[str, DocumentState, int]]:
        """Path, state and weight, where the weight is not 0."""
        return [(path, state, weight) for (path, _), (state, weight) in self._folded.fold().items()]


_decode_document = msgspec.msgpack.Decoder(tuple[str, DocumentState, int]).decode


def _add_document(
    found: dict[tuple[str, int], tuple[DocumentState, int]], entry: tuple[str, DocumentState, int]
) -> None:
    path, state, weight = entry
    key = path, state.sequence
    known = found.get(key)
    after = weight + (known[1] if known is not None else 0)
    if after:  # the state that was added is kept: the retracted one comes without fields
        found[key] = (known[0] if known is not None and weight < 0 else state), after
    else:
        found.pop(key, None)


class RowEntry(NamedTuple):
    """A document of a row in one of its states.

    Attributes:
        edge_index: The edge over which the row has it.
        path: Its path.
        weight: How often the row has it; less than 0 where it was retracted before it came.
        document: The document; None where it is still on its way.
    """

    edge_index: int
    path: str
    weight: int
    document: RowDocument | None


class RowDocumentLog:
    """The documents of a row, by edge, path and sequence.

    Two states of one document, or a negative weight, mean that a message is still on its way.
    """

    def __init__(self, log: Log, sizes: Sizes) -> None:
        self._folded: FoldedLog[tuple[int, str, int], tuple[int, RowDocument | None]] = FoldedLog(
            log,
            sizes,
            _decode_row_document,
            _add_row_document,
            lambda found: ((*key, *known) for key, known in found.items()),
        )

    def change(self, edge_index: int, path: str, weight: int, old: int | None, new: RowDocument | None) -> None:
        """Retracts one state of a document, by its sequence, and adds another one, `weight` times."""
        if old is not None:
            self._folded.append((edge_index, path, old, -weight, None))
        if new is not None:
            self._folded.append((edge_index, path, new.sequence, weight, new))

    def items(self) -> Iterable[RowEntry]:
        """The entries whose weight is not 0."""
        return [RowEntry(edge, path, *known) for (edge, path, _), known in self._folded.fold().items()]


_decode_row_document = msgspec.msgpack.Decoder(tuple[int, str, int, int, RowDocument | None]).decode


def _add_row_document(
    found: dict[tuple[int, str, int], tuple[int, RowDocument | None]],
    entry: tuple[int, str, int, int, RowDocument | None],
) -> None:
    edge_index, path, sequence, weight, document = entry
    key = edge_index, path, sequence
    known = found.get(key)
    if known is not None:
        weight += known[0]
        if document is None or (document.fields is None and known[1] is not None):
            document = known[1]  # a retraction comes without the document, or without its fields
    if weight:
        found[key] = weight, document
    else:
        found.pop(key, None)
