"""Where the line of a refused document stands: looked for when it was refused, at no cost for the others."""

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
    """Adds its source, `file:x.jsonl:17`, to a dead letter of a document that is among those that were read last."""

    def __init__(self) -> None:
        self.begin((), lambda number: None)

    def begin(self, batch: Sequence[Event], place: Callable[[int], str | None]) -> None:
        """Other documents were read.

        Args:
            batch: They, and what else was read.
            place: Where the one with a number, from 0, stands.
        """
        self._batch, self._place = batch, place
        self._numbers: dict[tuple[str, int], int] | None = None

    def __call__(self, letter: DeadLetter) -> DeadLetter:
        """The dead letter with its source, where that can be told."""
        if letter.source is not None or letter.path is None or letter.version is None:
            return letter
        if self._numbers is None:
            self._numbers = {}
            for number, one in enumerate(self._batch):
                if isinstance(one, Change):
                    self._numbers.setdefault((one.path, one.version), number)
        found = self._numbers.get((letter.path, letter.version))
        place = None if found is None else self._place(found)
        return letter if place is None else msgspec.structs.replace(letter, source=place)


def read_batches(
    splits: Iterable[tuple[Source, str]], located: Located, size: int = _BATCH
) -> Iterator[list[Change | DeadLetter]]:
    """What parts of sources hold, in batches; `located` knows of the one that was given last."""
    for source, split in splits:
        changes, number = iter(source.read(split)), 0
        while batch := list(islice(changes, size)):
            located.begin(batch, partial(_place, source, split, number))
            yield batch
            number += len(batch)
    located.begin((), lambda number: None)


def _place(source: Source, split: str, begin: int, number: int) -> str | None:
    return source.place(split, begin + number)


def read_located(sources: Iterable[Source], located: Located) -> Iterator[Change | DeadLetter]:
    """All that sources hold, one after the other; `located` knows of the one that was given last."""
    for source in sources:
        if type(source).read_all is not Source.read_all:  # side by side, in any order
            yield from source.read_all()
            continue
        for batch in read_batches(((source, split) for split in source.splits()), located):
            yield from batch
