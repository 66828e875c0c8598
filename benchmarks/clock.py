"""Records the times of a program of the streaming benchmark: of its load, and of the changes."""

from __future__ import annotations

import json
import time
from pathlib import Path


class Clock:
    """A clock that is created when the program begins, and writes `figures.json` after the last row.

    Args:
        output: The folder.
    """

    def __init__(self, output: Path) -> None:
        self._file = output / "figures.json"
        self._figures: dict[str, float] = {}
        self._begun, self._worked = time.perf_counter(), time.process_time()

    def loaded(self) -> None:
        """Says that the rows of the snapshot are written, and the first change is read next."""
        now = time.perf_counter()
        self._figures["load_seconds"] = now - self._begun
        self._begun, self._worked = now, time.process_time()

    def stop(self, changes: int) -> None:
        """Says that the rows of the last change are written.

        `cpu_seconds` is the processor time since the first change.
        """
        seconds, cpu_seconds = time.perf_counter() - self._begun, time.process_time() - self._worked
        self._figures |= {"changes": changes, "seconds": seconds, "cpu_seconds": cpu_seconds}
        self._file.write_text(json.dumps(self._figures))
