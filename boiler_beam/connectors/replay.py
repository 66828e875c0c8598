"""Dead letters as a source: `dead-letters:jsonl:PATH` gives the inputs of those that were made of one."""

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
    """Replays inputs that were refused: lines, messages, documents that fitted no model, losers of a conflict."""

    scheme: ClassVar[str] = "dead-letters"
    is_replay: ClassVar[bool] = True

    def splits(self) -> Sequence[str]:
        """One."""
        return [self.rest]

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        """The inputs, in the order in which they were refused; rows that failed have none."""
        for letter in read_dead_letters(split):
            if letter.input is None:
                continue
            if letter.stage == "read":
                if (change := change_of_line(letter.input, letter.source)) is not None:
                    yield change
            elif letter.code in CODES:
                found = decode_again(letter)
                if not isinstance(found, Touch):
                    yield found
            elif letter.path is not None and letter.version is not None:
                yield Change(letter.path, letter.version, msgspec.Raw(letter.input.encode()))

    def follow(self, position: str | None) -> Iterator[tuple[list[Change | DeadLetter], str]]:
        """All of them, whenever it is asked: the models may have been fixed since."""
        yield list(self.read(self.rest)), ""
