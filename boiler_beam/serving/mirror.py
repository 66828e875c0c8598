"""Keeps a local file equal to the rows of one view in Firestore: one listener, however many clients.

    listener:  snapshot as of 1000: a, b     consistent at 1007: b changed, c is new     consistent at 1015: nothing new
    file:      commit 1000: a, b             commit 1007: b, c                           -

A commit has all changes up to one consistent time of the listener, and that time (microseconds) is its number. So a
number means the same to each server, and numbers grow over restarts. A listener that can't resume reads all rows again;
the file is then changed by what differs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from boiler_beam.connectors.firestore.guard import row_in
from boiler_beam.connectors.firestore.listen import ListenSource
from boiler_beam.connectors.firestore.read import Reader
from boiler_beam.connectors.firestore.watch import consistent_time
from boiler_beam.connectors.row_copy import RowCopy
from boiler_beam.connectors.sqlite import SqliteSink
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import Change, Complete, Event, View
from boiler_beam.serving.reader import RowReader

__all__ = ["Mirror", "pattern_of"]

_AGAIN_SECONDS = 2.0
"""How long to wait before listening again after it failed."""
_log = logging.getLogger("boiler_beam.serving")


class _Ended(Exception):
    """The mirror was closed while its listener slept."""


class Mirror:
    """The file of one view, and its listener, which runs while somebody reads.

    Args:
        rest: The database, `PROJECT` or `PROJECT/DATABASE`.
        view: The view.
        path: The file.
        incarnation: The name of the sequence of commit numbers in the file.
        fields: Makes the fields of a row (parsed JSON) of those of its document.
        release_seconds: After so long without a reader the listener ends.
        written: Called after each commit.

    Attributes:
        reader: Reads the file, in the event loop.
        consistent: The file has all changes up to this time, in microseconds; 0: it has no rows yet.
        is_fresh: Whether that time was reached since the listener began.
        is_given_up: Whether a reader waited in vain for that: until it is reached, others read what is there.
        heard: When the connection was alive last, by the clock of `time.monotonic`.
        failure: The kind of the error by which the listener failed last; empty if it works.
    """

    def __init__(
        self,
        rest: str,
        view: View,
        path: str,
        incarnation: str,
        fields: Callable[[dict[str, Any]], dict[str, Any]],
        release_seconds: float,
        written: Callable[[], None],
    ) -> None:
        self.rest, self.view, self.incarnation = rest, view, incarnation
        self.reader, self._sink = RowReader(path), SqliteSink(path)
        self._fields, self._release_seconds, self._written = fields, release_seconds, written
        self.consistent, self.is_fresh, self.is_given_up = 0, False, False
        self.heard, self.failure = 0.0, ""
        self._position: str | None = None
        self._clients, self._used, self._anew = 0, 0.0, float("-inf")
        self._begun = float("-inf")
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether its listener runs."""
        return self._thread is not None

    def use(self) -> None:
        """Somebody reads: the listener begins, if it does not run, and stays for some time."""
        with self._lock:
            self._used = time.monotonic()
            if self._thread is None and not self._ending.is_set():
                self.is_fresh, self.heard = False, self._used
                name = f"boiler_beam listener {self.view.name}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def hold(self, clients: int) -> None:
        """So many clients more (or fewer, below 0) follow the view: with any the listener does not end."""
        with self._lock:
            self._clients += clients
        self.use()

    def is_at(self, number: int) -> bool:
        """Returns whether the file is up to date, with all changes up to a commit number."""
        return self.is_fresh and self.consistent >= number

    def listen_anew(self, since: float) -> None:
        """Asks the server what the present time is, by another call, if that was not done since a time."""
        self._anew = max(self._anew, since)

    def end(self) -> None:
        """Says that the listener shall end."""
        with self._lock:
            self._ending.set()

    def close(self, seconds: float) -> None:
        """Ends the listener, and closes the file.

        Args:
            seconds: How long to wait for the listener; one that waits for a server without an answer is left alone.
        """
        self.end()
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, seconds))
        self.reader.close()

    # In the listener's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._listen()
            except _Ended:
                continue
            except Exception as error:  # whatever it is, rows are served as they are, and it begins again
                self.failure = type(error).__name__
                if isinstance(error, BoilerBeamError):
                    _log.error("the rows of %s are not followed: %s", self.view.name, error)
                else:
                    _log.exception("the rows of %s are not followed", self.view.name)
                self._ending.wait(_AGAIN_SECONDS)

    def _is_over(self) -> bool:
        with self._lock:
            is_over = self._ending.is_set() or self._is_unused()
            if is_over:
                self._thread = None
        return is_over

    def _is_unused(self) -> bool:
        return not self._clients and self.is_fresh and time.monotonic() - self._used > self._release_seconds

    def _listen(self) -> None:
        """Follows the rows until nobody reads, or another call is asked for."""
        self._begun = time.monotonic()
        source = ListenSource(self.rest)
        source.reader, source.has_whole_batches = Reader(source.client, self._sleep), True
        source.prepare([pattern_of(self.view.template)])
        batches: Any = source.follow(self._position)
        try:
            with self._sink.copying(self.view, self.incarnation) as copy:
                for _ in self._copied(copy, batches):
                    if source.is_current:
                        self.heard = time.monotonic()
                    if self._ending.is_set() or self._is_unused() or self._anew > self._begun:
                        return
        finally:
            batches.close()
            source.client.close()

    def _copied(self, copy: RowCopy, batches: Iterator[tuple[list[Event], str]]) -> Iterator[None]:
        """Writes batches; yields after each."""
        position = self._position
        for events, after in batches:
            for event in events:
                self._take(copy, event)
            if after != position and (time_of := consistent_time(after)):
                changed = copy.commit(time_of)
                position = self._position = after
                self.consistent = max(self.consistent, time_of)
                self.is_fresh, self.is_given_up, self.failure = True, False, ""
                if changed:
                    self._written()
            yield

    def _take(self, copy: RowCopy, event: Event) -> None:
        if isinstance(event, Complete):
            copy.keep(event.paths)
        elif isinstance(event, Change) and self.view.matches(event.path):
            if event.is_deleted:
                copy.delete(event.path)
            else:
                copy.put(row_in(event.path, self._fields(msgspec.json.decode(event.fields))))

    def _sleep(self, seconds: float) -> None:
        if self._ending.wait(seconds):
            raise _Ended


def pattern_of(template: str) -> str:
    """Returns the pattern of the collections that may hold the rows of a view.

    >>> pattern_of("people/{person}/inbox/{id}"), pattern_of("teams/main/members/{id}")
    ('people/{at_1}/inbox', 'teams/{at_1}/members')
    """
    segments = template.split("/")[:-1]
    return "/".join(f"{{at_{place}}}" if place % 2 else one for place, one in enumerate(segments))
