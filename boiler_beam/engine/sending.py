"""Sends the outbox of a state to the sink and the dead letters, at least once: a stamp may be sent twice (S20)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from boiler_beam.connectors.base import StreamWriter
from boiler_beam.connectors.dead_letters import DeadLetterWriter
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.report import StreamReport
from boiler_beam.engine.state.base import State
from boiler_beam.events import DeadLetter, EncodedRow, View

__all__ = ["Sender"]


class Sender:
    """Sends what was committed.

    Attributes:
        is_uncertain: Whether a refused row must be recorded by the next transaction.
    """

    def __init__(
        self,
        engine: IncrementalEngine,
        state: State,
        writer: StreamWriter,
        dead_letters: DeadLetterWriter | None,
        report: StreamReport,
        sent: Callable[[Sequence[tuple[View, EncodedRow]]], None],
    ) -> None:
        self.engine, self.state, self.writer = engine, state, writer
        self.dead_letter_writer, self.report, self._sent = dead_letters, report, sent
        self.is_uncertain = False
        writer.must_be_durable = state.is_durable
        self._targets = {view.name: view.target for view in engine.plan.views}
        self._rows = {view.view.name: view.rows for view in engine.views}

    def send(self, *, is_last: bool = False) -> None:
        """Sends the rows and dead letters of the outbox; the next transaction removes them from it.

        Args:
            is_last: Whether the sink may no longer hold back rows whose paths it wrote a moment ago (S17).
        """
        entries, targets = self.state.outbox(), self._targets
        if not entries:
            return
        rows = [
            (targets[entry.view], entry.row) for entry in entries if entry.row is not None and entry.view in targets
        ]
        self.writer.may_hold = not is_last
        refused = (self.writer.write(rows) if rows else None) or ()
        held = self.writer.held if rows else frozenset()
        unwritten = held.union(dead_letter.path for dead_letter in refused if dead_letter.path is not None)
        written = [one for one in rows if one[1].path not in unwritten] if unwritten else rows
        for view, row in written:
            counts = self.report.deleted if row.fields is None else self.report.written
            counts[view.name] = counts.get(view.name, 0) + 1
        self._refuse([*(entry.dead_letter for entry in entries if entry.dead_letter is not None), *refused])
        if refused:
            self._take_back(refused, rows)
        newest = {entry.row.path: entry for entry in entries if entry.row is not None and entry.row.path in held}
        self.state.sent(list(newest.values()))
        self._sent(written)

    def _refuse(self, dead_letters: Sequence[DeadLetter]) -> None:
        if dead_letters and self.dead_letter_writer is not None:
            for dead_letter in dead_letters:
                self.dead_letter_writer.write(dead_letter)
            self.dead_letter_writer.flush()

    def _take_back(self, refused: Sequence[DeadLetter], rows: Sequence[tuple[View, EncodedRow]]) -> None:
        """Notes that it is unknown what the sink holds of the rows that it refused (S14)."""
        self.report.count(refused)
        names = {row.path: view.name for view, row in rows}
        for dead_letter in refused:
            name = names.get(dead_letter.path or "")
            if name is not None and dead_letter.path is not None:
                known = self.state.views[name]
                known.rows -= self._rows[name].refused_by_sink(dead_letter.path)
                self.report.rows[name] = known.rows
                self.report.refused[name] = self.report.refused.get(name, 0) + 1
                self.is_uncertain = True
