"""Where the rows of the served views are: one file for all (`sqlite:`), or a copy for each view (`firestore:`).

    rows = Rows("rows.db")              another program, or the engine in this process, writes the file
    rows = ListenedRows("my-project")   (`listened`) a listener for each view fills a local file

Whoever reads a view calls `ready` first, and `hold` while a client follows it; then `of(view)` reads its file.
"""

from __future__ import annotations

from collections.abc import Callable

from boiler_beam.serving.offsets import Position
from boiler_beam.serving.reader import RowReader

__all__ = ["Rows"]


class Rows:
    """The rows in one file, which another writer fills.

    Args:
        path: The file; it may be missing, and come later.

    Attributes:
        written: Called, from any thread, after rows were written by this object.
    """

    def __init__(self, path: str) -> None:
        self._reader = RowReader(path)
        self.written: Callable[[], None] = _nobody

    @property
    def listeners(self) -> int:
        """The number of listeners to another store that run now."""
        return 0

    def of(self, view: str) -> RowReader:
        """Returns the reader of a view, by the view's name."""
        return self._reader

    def start(self) -> None:
        """Begins to fill the files of all views, so that the first client need not wait."""

    def hold(self, view: str) -> None:
        """A client follows a view: it is kept up to date until `release`."""

    def release(self, view: str) -> None:
        """A client no longer follows a view."""

    async def ready(self, view: str, number: int = 0) -> None:
        """Waits until the rows of a view are at hand, and not older than a commit number that a client has seen.

        Raises:
            Problem: They are not after some time.
        """

    def continues(self, incarnation: str, other: str, view: str, position: Position) -> Position | None:
        """Returns where a position of another incarnation is in a view's present one; None: that is not known."""
        return None

    def staleness(self, now: int, seconds: float) -> str | None:
        """Returns why rows may be stale; None if they are not.

        Args:
            now: Microseconds since the epoch.
            seconds: After so long without a sign of life of who fills the files, they are stale.
        """
        mark = self._reader.mark()
        if not mark.incarnation:
            return "no rows were written yet"
        if mark.alive is not None and now - mark.alive > seconds * 1e6:
            return f"the writer of the rows gave no sign of life for {(now - mark.alive) / 1e6:.0f} seconds"
        return None

    def number(self) -> int:
        """Returns the number of the last commit."""
        return self._reader.mark().number

    def close(self) -> None:
        """Closes the files, and ends listeners."""
        self._reader.close()


def _nobody() -> None:
    """What is called before a hub exists."""
