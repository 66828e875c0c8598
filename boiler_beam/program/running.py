"""A stream that runs in a thread: its reports, its end, its errors.

the stream's thread:  a transaction -> on_report -> the reports that wait -> the next transaction
the program:          for report in running -> ...; stop(); leaving the block
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType

from boiler_beam.engine import report as engine
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, Row, View
from boiler_beam.program.reports import DeadLettersFound, StreamReport, TransactionReport
from boiler_beam.program.signals import on_signals

__all__ = ["Running"]

_WAITING = 16
"""How many reports wait for their reader."""
_READER_SECONDS = 5.0
"""How long a stream waits for a loop to begin, once, when so many wait."""
_SIGNAL_SECONDS = 0.5
"""How often the program's thread wakes while it waits."""

Run = Callable[
    [Callable[[], bool], Callable[[engine.StreamReport], None], Callable[[Sequence[tuple[View, EncodedRow]]], None]],
    engine.StreamReport,
]


class Running:
    """A stream, as `boiler_beam.follow` returns it; a context manager that runs it in a thread.

    * Entering the block starts the stream, and returns when it has read something, or there is nothing to read yet.
      What is wrong at the start (no snapshot, a sink that another program writes) is raised there.
    * Iterating yields a report for each transaction that read or wrote something, and when the rows of all documents
      that there were at the start are in the sink; it ends with the stream. While somebody iterates, the stream waits
      for the reader: a slow loop slows the stream down, and misses nothing. If no loop begins within 5 seconds, the
      stream goes on without one: of the reports that nobody reads the last 16 are kept. `number` shows a gap.
    * `stop()`, from any thread, ends it: what was read is written, and iterating ends.
    * Leaving the block ends it, too, but first the documents that there were at the start are read to the end, and
      their rows written. Leaving it by an exception, or after `stop()`, does not wait for these.
    * An error in the thread ends the stream, and is raised where the program iterates, or else by leaving the block.
    * In the main thread of a program that does not handle these signals itself, ^C and SIGTERM are `stop()`. If the
      program is not iterating at that time, the block is left, and the program goes on behind it. A second signal
      raises KeyboardInterrupt. A later run over the same state goes on where any of these ended.

    Attributes:
        state: The URI of its state.
        is_bounded: Whether it ends by itself.
    """

    def __init__(
        self,
        run: Run,
        summed: Callable[[engine.StreamReport], StreamReport],
        on_report: Callable[[TransactionReport], None] | None,
        *,
        state: str,
        is_bounded: bool,
        is_strict: bool,
    ) -> None:
        self.state, self.is_bounded = state, is_bounded
        self._run, self._summed, self._on_report, self._is_strict = run, summed, on_report, is_strict
        self._changed = threading.Condition()
        self._reports: deque[TransactionReport] = deque()
        self._report = summed(engine.StreamReport())
        self._rows: list[Row] = []
        self._number = self._readers = 0
        self._has_begun = self._has_ended = False
        self._awaits_reader = on_report is None
        self._should_stop = self._is_within = self._is_leaving = False
        self._is_asked = self._is_asked_again = self._is_interrupted = False
        """Whether a signal came; and whether it has interrupted the block."""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="boiler_beam.follow", daemon=True)
        self._signals = ExitStack()

    @property
    def report(self) -> StreamReport:
        """What was done up to the last transaction; at the end, what was done at all."""
        return self._report

    @property
    def is_running(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Asks it to end: what was read is written first. It may be called from any thread, and more than once."""
        with self._changed:
            self._should_stop = True
            self._changed.notify_all()

    def wait(self) -> StreamReport:
        """Waits until it has ended; returns what it did.

        Raises:
            BoilerBeamError: State or sink could not be written; the next run goes on from the last transaction.
        """
        for _ in self:
            pass
        return self._report

    def __iter__(self) -> Iterator[TransactionReport]:
        """Yields a report for each transaction until it has ended.

        Raises:
            BoilerBeamError: State or sink could not be written; the next run goes on from the last transaction.
        """
        with self._changed:
            self._readers += 1
            self._changed.notify_all()
        try:
            while (report := self._next()) is not None:
                yield report
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def _next(self) -> TransactionReport | None:
        if self._thread.ident is None:
            raise UsageError(
                "follow: expected a stream that runs, got one that was not started; fix: with follow(...):"
            )
        with self._changed:
            self._wait_until(lambda: bool(self._reports) or self._has_ended)
            if self._reports:
                self._changed.notify_all()
                return self._reports.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        """Waits in the program's thread. It wakes now and then: only then does Python run the handler of a signal.

        The system may deliver a signal to another thread, or just before this one begins to wait.
        """
        while not self._changed.wait_for(is_so, _SIGNAL_SECONDS):
            pass

    # The block --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Running:
        """Starts it.

        Raises:
            UsageError: Something is missing at the start; nothing was written.
            BoilerBeamError: State or sink can't be written.
        """
        if threading.current_thread() is threading.main_thread():
            self._signals.enter_context(on_signals(self._interrupted, self._interrupted_again, only_default=True))
        try:
            self._thread.start()
            with self._changed:
                self._wait_until(lambda: self._has_begun or self._has_ended)
            if self._error is not None and not self._has_begun:
                raise self._error
        except BaseException:
            self._should_stop = True
            self._signals.close()
            raise
        self._is_within = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Ends it, and waits until it has ended; after a second signal it does not wait."""
        if self._is_asked_again or (
            isinstance(error, KeyboardInterrupt) and self._is_asked and not self._is_interrupted
        ):
            self._signals.close()
            if isinstance(error, KeyboardInterrupt):
                return False
            raise KeyboardInterrupt from error
        with self._signals:
            with self._changed:
                self._is_leaving = True
                self._should_stop = self._should_stop or error is not None
                self._reports.clear()
                self._changed.notify_all()
                self._wait_until(lambda: self._has_ended)
            self._thread.join()
        if self._error is not None and self._error is not error:
            raise self._error
        if self._is_strict and self._report.dead_letters and error is None:
            raise DeadLettersFound(self._report)
        return self._is_interrupted and isinstance(error, KeyboardInterrupt)

    def _interrupted(self) -> None:
        """At the first signal, in the main thread."""
        self._is_asked = True
        self.stop()
        if self._is_within and not self._readers and not self._is_leaving:
            self._is_interrupted = True
            raise KeyboardInterrupt

    def _interrupted_again(self) -> None:
        self._is_asked_again = True

    # The thread -------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            counts = self._run(self._is_to_end, self._reported, self._sent)
            if self._rows:
                self._reported(counts)
            self._report = self._summed(counts)
        except BaseException as error:  # raised again in the program's thread
            self._error = error
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _is_to_end(self) -> bool:
        with self._changed:
            if not self._has_begun:
                self._has_begun = True
                self._changed.notify_all()
            return self._should_stop or (self._is_leaving and self._report.is_ready)

    def _sent(self, rows: Sequence[tuple[View, EncodedRow]]) -> None:
        self._rows += [Row(view.name, row.path, *row.stamp, row.fields) for view, row in rows]

    def _reported(self, counts: engine.StreamReport) -> None:
        before, total = self._report, self._summed(counts)
        self._report = total
        is_new = (total.changes, total.dead_letters, total.is_ready) != (
            before.changes, before.dead_letters, before.is_ready,
        )  # fmt: skip
        if not (is_new or self._rows):  # only positions were written down
            return
        self._number += 1
        report = TransactionReport(
            number=self._number,
            changes=total.changes - before.changes,
            rows=tuple(self._rows),
            dead_letters=total.dead_letters - before.dead_letters,
            total=total,
        )
        self._rows.clear()
        if self._on_report is not None:
            self._on_report(report)
        with self._changed:
            if self._awaits_reader and not self._has_room():
                self._awaits_reader = False
                self._changed.wait_for(lambda: self._readers or self._is_free(), _READER_SECONDS)
            self._changed.wait_for(lambda: not self._readers or self._has_room() or self._is_free())
            if len(self._reports) >= _WAITING:
                self._reports.popleft()
            if not self._is_leaving:
                self._reports.append(report)
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return len(self._reports) < _WAITING

    def _is_free(self) -> bool:
        """Whether nobody will read its reports any more."""
        return self._is_leaving or (self._should_stop and not self._readers)
