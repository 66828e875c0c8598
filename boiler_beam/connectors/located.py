"""Finds the file and line of a refused document when it is refused, at no cost for other documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import msgspec

from boiler_beam.connectors.base import Source
from boiler_beam.events import Change, DeadLetter, Event

__all__ = ["Located", "read_batches", "read_located"]

_BATCH = 4096


class Located:
    """Adds the source, `file:x.jsonl:17`, to the dead letter of a document in the batch that was read last."""

    def __init__(self) -> None:
        self.begin((), lambda number: None)

    def begin(self, batch: Sequence[Event], position_of: Callable[[int], str | None]) -> None:
        """Sets the batch that was read last.

        Args:
            batch: The events of the batch.
            position_of: Returns the position of the event at an index, such as `file:x.jsonl:17`.
        """
        self._batch, self._position_of = batch, position_of
        self._numbers: dict[tuple[str, int], int] | None = None

    def __call__(self, dead_letter: DeadLetter) -> DeadLetter:
        """Returns the dead letter with its source, if that can be found."""
        if dead_letter.source is not None or dead_letter.path is None or dead_letter.version is None:
            return dead_letter
        if self._numbers is None:
            self._numbers = {}
            for number, one in enumerate(self._batch):
                if isinstance(one, Change):
                    self._numbers.setdefault((one.path, one.version), number)
        found = self._numbers.get((dead_letter.path, dead_letter.version))
        position = None if found is None else self._position_of(found)
        return dead_letter if position is None else msgspec.structs.replace(dead_letter, source=position)


def read_batches(
    splits: Iterable[tuple[Source, str]], located: Located, size: int = _BATCH
) -> Iterator[list[Change | DeadLetter]]:
    """Yields the events of parts of sources, in batches, and sets the last batch in `located`."""
    for source, split in splits:
        changes, number = iter(source.read(split)), 0
        while batch := list(islice(changes, size)):
            located.begin(batch, partial(_position_of, source, split, number))
            yield batch
            number += len(batch)
    located.begin((), lambda number: None)


def _position_of(source: Source, split: str, begin: int, number: int) -> str | None:
    return source.place(split, begin + number)


def read_located(sources: Iterable[Source], located: Located) -> Iterator[Change | DeadLetter]:
    """Yields the events of sources one by one, and sets the last batch in `located`."""
    for source in sources:
        if type(source).read_all is not Source.read_all:  # read in parallel, so the order is unknown
            yield from source.read_all()
            continue
        for batch in read_batches(((source, split) for split in source.splits()), located):
            yield from batch
