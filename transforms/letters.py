"""Where a worker's dead letters go: to their place, and where that is another machine's, to the log, too."""

from __future__ import annotations

import logging

import msgspec

from boiler_beam.connectors import DeadLetterWriter, open_dead_letters
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import DeadLetter

__all__ = ["Logged", "letters_of_a_worker"]

_log = logging.getLogger("boiler_beam")
_LONGEST = 100_000
"""Characters of one entry; Cloud Logging takes 256 KiB. Source: https://cloud.google.com/logging/quotas"""


def letters_of_a_worker(uri: str, *, is_remote: bool) -> DeadLetterWriter | Logged:
    """Opens the place of dead letters on a worker.

    Args:
        uri: See `open_dead_letters`.
        is_remote: Whether the worker may be another machine than the one whose path this is.
    """
    return Logged(open_dead_letters(uri)) if is_remote else open_dead_letters(uri)


class Logged:
    """Logs each dead letter as a warning, then writes it; a place that this machine has not does not stop the worker.

    Args:
        writer: Writes them.
    """

    def __init__(self, writer: DeadLetterWriter) -> None:
        self.writer = writer

    def write(self, letter: DeadLetter) -> None:
        """Takes one dead letter."""
        text = msgspec.json.encode(letter).decode()
        cut = f" ... cut: {len(text):,} characters" if len(text) > _LONGEST else ""
        _log.warning("dead letter: %s%s", text[:_LONGEST], cut)
        try:
            self.writer.write(letter)
        except BoilerBeamError as error:
            _log.warning("the dead letter is in this log alone: %s", error)

    def close(self) -> None:
        """Ends it."""
        try:
            self.writer.close()
        except BoilerBeamError as error:
            _log.warning("the last dead letters are in this log alone: %s", error)
