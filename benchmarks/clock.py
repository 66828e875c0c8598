"""What a program of the streaming benchmark tells of itself: how long its load took, and how long the changes."""

from __future__ import annotations

import json
import time
from pathlib import Path


class Clock:
    """Made when the program begins; writes `figures.json` when it has written its last row.

    Args:
        output: The folder.
    """

    def __init__(self, output: Path) -> None:
        self._file = output / "figures.json"
        self._figures: dict[str, float] = {}
        self._begun, self._worked = time.perf_counter(), time.process_time()

    def loaded(self) -> None:
        """The snapshot's rows are written: the first change is read next."""
        now = time.perf_counter()
        self._figures["load_seconds"] = now - self._begun
        self._begun, self._worked = now, time.process_time()

    def stop(self, changes: int) -> None:
        """The rows of the last change are written; `cpu_seconds` are those of this process since the first one."""
        seconds, cpu_seconds = time.perf_counter() - self._begun, time.process_time() - self._worked
        self._figures |= {"changes": changes, "seconds": seconds, "cpu_seconds": cpu_seconds}
        self._file.write_text(json.dumps(self._figures))
