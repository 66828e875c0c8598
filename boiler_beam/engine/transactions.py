"""One transaction of a stream: events in, rows and dead letters out, all of it durable or nothing (S20).

events -> whole commits -> the engine -> rows -> [documents, rows, outbox, positions: one transaction] -> the sink
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from boiler_beam.connectors.base import Source
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.reorder import Reorder
from boiler_beam.engine.report import StreamReport
from boiler_beam.engine.sending import Sender
from boiler_beam.engine.state.base import OutboxEntry, State, StateUpdate
from boiler_beam.events import Change, Complete, DeadLetter, Event, Touch
from boiler_beam.steps.newest import dead_letter_of, types_lost

__all__ = ["Transactions"]

_log = logging.getLogger("boiler_beam")


class Transactions:
    """Takes events into the state, and sends the rows that they change.

    Args:
        engine: Makes rows of changes.
        state: What is kept.
        sender: Sends what was committed.
        sources: The sources by URI; each is told up to which position its events are committed.
        reorder: Holds changes until their commits are whole; None: they do not wait.
        located: Adds to a dead letter where its input was.
        now: Seconds since the epoch.
        committed: Called after each transaction.

    Attributes:
        dead_letters: The dead letters of this transaction.
    """

    def __init__(
        self,
        engine: IncrementalEngine,
        state: State,
        sender: Sender,
        sources: Mapping[str, Source],
        reorder: Reorder | None,
        located: Callable[[DeadLetter], DeadLetter],
        now: Callable[[], float],
        committed: Callable[[], None],
    ) -> None:
        self.engine, self.state, self.sender, self.sources = engine, state, sender, sources
        self.reorder, self.now, self._located, self._committed = reorder, now, located, committed
        self.report: StreamReport = sender.report
        self.dead_letters: list[DeadLetter] = []

    def take(self, batch: Sequence[Event], positions: Mapping[str, str], *, is_end: bool = False) -> None:
        """One transaction; `is_end` releases the changes that wait for others of their commit."""
        update = StateUpdate(positions=dict(positions))
        changes = self._changes(batch)
        if self.reorder is not None:
            changes = self._released(self.reorder, changes, update, is_end=is_end)
        self._apply(changes)
        self._touch(batch)
        self.report.dirty = sum(len(view.rows.dirty) for view in self.engine.views)
        self.commit(update)

    def _changes(self, batch: Sequence[Event]) -> list[Change]:
        changes: list[Change] = []
        newest, plan = self.state.facts.get("newest", 0), self.engine.plan
        for one in batch:
            if isinstance(one, (Complete, Touch)):
                continue
            if isinstance(one, DeadLetter):
                self.dead_letters.append(one)
                self.state.collections.update((plan.collections[index], True) for index in types_lost(plan, one))
                continue
            changes.append(one)
            if one.version > newest:
                newest = one.version
        self.state.facts["newest"] = self.report.newest = newest
        self.report.changes += len(changes)
        return changes

    def _released(self, reorder: Reorder, changes: list[Change], update: StateUpdate, *, is_end: bool) -> list[Change]:
        """Holds changes until their commits are whole (S19); returns those that are released."""
        waiting = [change for change in changes if not reorder.is_late(change)]
        ready = [one for change in changes for one in reorder.push(change)]
        if is_end:
            ready += reorder.rest()
        update.released = self.state.facts["released"] = reorder.released
        update.pushed = [change for change in waiting if not reorder.is_late(change)]
        self.report.late = reorder.late
        return ready

    def _apply(self, changes: Sequence[Change]) -> None:
        """Takes changes into the engine; where that raises, undoes them and takes them one by one (S21)."""
        number = len(self.dead_letters)
        try:
            self.engine.observe(changes)
            return
        except Exception as error:  # a bug of ours: users' functions are reported where they are called
            self.engine.undo_batch()
            del self.dead_letters[number:]
            if len(changes) == 1:
                message = f"a step raised {type(error).__name__}: {error}"
                self.dead_letters.append(self._located(dead_letter_of("row", "step_raised", message, changes[0])))
                return
        for change in changes:
            self._apply([change])
            self.commit(StateUpdate())

    def _touch(self, batch: Sequence[Event]) -> None:
        """Marks the rows that a backfill saw differ as dirty (S16)."""
        views = {view.view.name: view for view in self.engine.views}
        for one in batch:
            view = views.get(one.view) if isinstance(one, Touch) else None
            if view is None or not isinstance(one, Touch):
                continue
            if view.view.target.matches(one.path):
                view.rows.touch(one.path, one.read_time, is_held_back=view.is_held_back)
            else:
                _log.warning("a touch: expected the path of a row of %s, got %r; it is passed over", one.view, one.path)

    def _dirty_rows(self) -> Iterator[OutboxEntry]:
        for view in self.engine.views:
            for row in view.rows.take_dirty():
                yield OutboxEntry(view.view.name, row)

    def commit(self, update: StateUpdate) -> None:
        """Makes durable what the engine did since the last transaction, and sends it."""
        state, report = self.state, self.report
        update.entries += self._dirty_rows()
        update.entries += [OutboxEntry("", None, dead_letter) for dead_letter in self.dead_letters]
        report.count(self.dead_letters)
        self.dead_letters.clear()
        self._count()
        state.facts["alive"] = round(self.now() * 1e6)
        state.commit(update, self.engine)
        self.sender.is_uncertain = False
        self.sender.send()
        for uri, position in update.positions.items():
            self.sources[uri].acknowledge(position)
        report.documents = state.facts.get("documents", 0)
        self._committed()

    def _count(self) -> None:
        """Updates the numbers in the state."""
        state = self.state
        for view in self.engine.views:
            known, rows = state.views[view.view.name], view.rows
            known.rows += rows.rows_added
            known.failing_rows += rows.failures_added
            rows.rows_added = rows.failures_added = 0
            self.report.rows[view.view.name] = known.rows
        for versions in self.engine.versions.types:
            fact = f"invalid {versions.codec.pattern.text}"
            if versions.invalid or fact in state.facts:
                state.facts[fact] = len(versions.invalid)
        state.facts["documents"] = state.facts.get("documents", 0) + self.engine.new_documents()
