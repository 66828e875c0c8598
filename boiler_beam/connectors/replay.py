"""Dead letters as a source: `dead-letters:jsonl:PATH` yields the inputs of those that have one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import msgspec

from boiler_beam.connectors.base import Source
from boiler_beam.connectors.dead_letters import read_dead_letters
from boiler_beam.connectors.files import change_of_line
from boiler_beam.connectors.pubsub.envelope import CODES, decode_again
from boiler_beam.events import Change, DeadLetter, Touch

__all__ = ["DeadLetterSource"]


class DeadLetterSource(Source):
    """Replays refused inputs: lines, messages, documents that fit no model, and losers of a version conflict."""

    scheme: ClassVar[str] = "dead-letters"
    is_replay: ClassVar[bool] = True

    def splits(self) -> Sequence[str]:
        """Returns one split, for all dead letters."""
        return [self.rest]

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        """Yields the inputs in the order in which they were refused; dead letters of rows have no input."""
        for dead_letter in read_dead_letters(split):
            if dead_letter.input is None:
                continue
            if dead_letter.stage == "read":
                if (change := change_of_line(dead_letter.input, dead_letter.source)) is not None:
                    yield change
            elif dead_letter.code in CODES:
                found = decode_again(dead_letter)
                if not isinstance(found, Touch):
                    yield found
            elif dead_letter.path is not None and dead_letter.version is not None:
                yield Change(dead_letter.path, dead_letter.version, msgspec.Raw(dead_letter.input.encode()))

    def follow(self, position: str | None) -> Iterator[tuple[list[Change | DeadLetter], str]]:
        """Yields all inputs at every run, whatever the position, because the models may have been fixed since."""
        yield list(self.read(self.rest)), ""
