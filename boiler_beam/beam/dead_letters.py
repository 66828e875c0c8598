"""Writes the dead letters of a worker; those in a file also to the log if the worker may be another machine."""

from __future__ import annotations

import logging

import msgspec

from boiler_beam.connectors import DeadLetterWriter, open_dead_letters
from boiler_beam.connectors.dead_letters import is_shared
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import DeadLetter

__all__ = ["Logged", "worker_dead_letters"]

_log = logging.getLogger("boiler_beam")
_LONGEST = 100_000
"""The most characters in a log entry; Cloud Logging accepts 256 KiB. Source: https://cloud.google.com/logging/quotas"""


def worker_dead_letters(uri: str, *, is_remote: bool) -> DeadLetterWriter | Logged:
    """Opens a writer of dead letters on a worker.

    Args:
        uri: The URI of dead letters.
        is_remote: Whether the worker may be another machine than the submitting one.
    """
    return Logged(open_dead_letters(uri)) if is_remote and not is_shared(uri) else open_dead_letters(uri)


class Logged:
    """Logs each dead letter as a warning, and writes it; a file that can't be written does not stop the worker.

    Args:
        writer: The writer of the file.
    """

    def __init__(self, writer: DeadLetterWriter) -> None:
        self.writer = writer

    def write(self, dead_letter: DeadLetter) -> None:
        """Logs and writes one dead letter."""
        text = msgspec.json.encode(dead_letter).decode()
        cut = f" ... cut: {len(text):,} characters" if len(text) > _LONGEST else ""
        _log.warning("dead letter: %s%s", text[:_LONGEST], cut)
        try:
            self.writer.write(dead_letter)
        except BoilerBeamError as error:
            _log.warning("the dead letter is only in this log: %s", error)

    def close(self) -> None:
        """Closes the file."""
        try:
            self.writer.close()
        except BoilerBeamError as error:
            _log.warning("the last dead letters are only in this log: %s", error)
