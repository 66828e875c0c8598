"""The embedded engine's stream: sources -> state -> sink, so that a kill at any instant loses and doubles nothing.

    start: `starting` checks what is needed, the state is opened
    loop:  a batch of events -> `transactions` -> the outbox -> `sending` -> the next batch
    beside: `generations` writes the rows of new and changed views, and prunes; touches of backfills are taken

What is in the outbox when the program starts is sent again; the same stamp twice does no harm (S20). A slow sink slows
the source: nothing is read while rows are written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from boiler_beam.connectors.base import Sink, Source, StreamWriter
from boiler_beam.connectors.dead_letters import DeadLetterWriter
from boiler_beam.connectors.located import Located
from boiler_beam.engine.failures import find_failures
from boiler_beam.engine.garbage import rare_garbage_collection
from boiler_beam.engine.generations import Generations
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.intake import SourceBatch, gather
from boiler_beam.engine.reorder import Reorder
from boiler_beam.engine.report import StreamReport
from boiler_beam.engine.sending import Sender
from boiler_beam.engine.starting import Settings, has_snapshot, positions_to_follow_from
from boiler_beam.engine.state.base import OutboxEntry, State, StateUpdate
from boiler_beam.engine.transactions import Transactions
from boiler_beam.events import Change, Complete, EncodedRow, Event, View
from boiler_beam.plan import Plan

__all__ = ["Settings", "StreamEngine", "StreamReport", "follow"]

_MOST = 10_000
"""Changes of one transaction."""
_BEHIND_SECONDS = 0.5
"""How long rows of new views are written between two transactions of the stream."""
_TOUCH_SECONDS = 5.0
"""How often the sink is asked for touches."""
_COMPLETE = "complete "
"""The prefix of facts: the read time of the last whole snapshot of a collection."""
_POSITION_SECONDS, _ALIVE_SECONDS = 1.0, 60.0
"""How often positions, and the time, are stored while no change comes."""


def follow(
    plan: Plan,
    sources: Sequence[Source],
    sink: Sink,
    dead_letters: DeadLetterWriter | None,
    state: State,
    settings: Settings,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_report: Callable[[StreamReport], None] = lambda report: None,
    sent: Callable[[Sequence[tuple[View, EncodedRow]]], None] = lambda rows: None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> StreamReport:
    """Follows sources until the bounded ones end, or for ever where there is an unbounded one.

    Args:
        plan: The views.
        sources: They are read in this order; the unbounded ones last.
        sink: Where rows go.
        dead_letters: Where unusable inputs go; None: nowhere.
        state: What is kept between runs.
        settings: How they are followed.
        should_stop: Asked between transactions; all that was read is written when it ends.
        on_report: Called after each transaction.
        sent: Called with rows that the sink has taken, before `on_report` of their transaction.
        clock: Seconds.
        now: Seconds since the epoch.

    Raises:
        UsageError: Nothing was written.
        BoilerBeamError: State or sink could not be written; the next run continues from the last transaction.
    """
    for source in sorted(sources, key=lambda one: one.is_bounded):  # what comes while a snapshot is read is not missed
        source.prepare(plan.collections)
    with rare_garbage_collection(), sink.stream([view.target for view in plan.views]) as writer:
        positions = positions_to_follow_from(plan, sources, sink, state, settings, now())
        engine = StreamEngine(
            plan,
            sources,
            sink,
            writer,
            dead_letters,
            state,
            settings,
            on_report=on_report,
            sent=sent,
            clock=clock,
            now=now,
        )
        engine.start(positions)
        report = engine.run(should_stop)
    for one in [*(source.billed for source in sources), sink.billed]:
        report.billed.add(one)
    return report


class StreamEngine:
    """One run of a stream over a state; its arguments are those of `follow`, and the sink's open stream."""

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[Source],
        sink: Sink,
        writer: StreamWriter,
        dead_letters: DeadLetterWriter | None,
        state: State,
        settings: Settings,
        *,
        on_report: Callable[[StreamReport], None],
        sent: Callable[[Sequence[tuple[View, EncodedRow]]], None],
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self.plan, self.sink, self.writer, self.state, self.settings = plan, sink, writer, state, settings
        self.clock, self.on_report = clock, on_report
        self.sources = {source.uri: source for source in sources}
        self.bounded = [source for source in sources if source.is_bounded]
        self.unbounded = [source for source in sources if not source.is_bounded]
        self.report, self._located = StreamReport(), Located()
        self.engine = IncrementalEngine(
            plan, lambda dead_letter: self.transactions.dead_letters.append(self._located(dead_letter))
        )
        self.sender = Sender(self.engine, state, writer, dead_letters, self.report, sent)
        self.transactions = Transactions(
            self.engine, state, self.sender, self.sources, self._reorder(), self._located, now, self._committed
        )
        self.generations = Generations(plan, sink, state, self.engine, settings.prune)
        self._catching_up: Iterator[list[OutboxEntry]] | None = None
        self._awaited: set[str] = set()
        """The collections of which a whole snapshot must come before rows of loading views are written (S22)."""
        self._complete: dict[int, int] = {}
        """The read time of each collection's last whole snapshot, by the index of its type; -1 if it had none."""
        self._newest_complete = -1
        self._last_event = self._last_commit = self._last_touches = clock()
        self._touched: frozenset[str] = frozenset()
        """The row paths of the last touches, until their rows are written."""

    # Start ------------------------------------------------------------------------------------------------------------

    def start(self, positions: dict[str, str]) -> None:
        """Opens the state, to follow each source from a position, and sends what was in its outbox."""
        state, was_new = self.state, self.state.is_new
        state.positions = positions
        state.open(self.engine)
        for versions in self.engine.versions.types:
            versions.horizon = state.facts.get("horizon", 0)
            versions.reports_again = any(source.is_replay for source in self.bounded)
        if not was_new:
            state.facts["documents"] = self.engine.number_of_documents
        self.generations.begin()
        if was_new and not (self.unbounded and has_snapshot([*self.bounded, *self.unbounded])):
            for known in state.views.values():  # a history: rows follow it from the first change
                known.phase = "pruning"
        self.generations.hold_back()
        self.report.held_back, self.report.refusals = self.generations.held_back, self.generations.refusals
        self._catching_up = self.generations.catch_up()
        self._know_complete()
        if has_snapshot(self.unbounded):
            self._awaited = {
                pattern for index, pattern in enumerate(self.plan.collections) if self._complete[index] < 0
            }
        state.commit(StateUpdate(), self.engine)
        self.writer.control(self.generations.controls())
        self.sender.send()

    def _reorder(self) -> Reorder | None:
        if self.settings.lateness_seconds is None:
            return None
        lateness = round(self.settings.lateness_seconds * 1e6)
        return Reorder(lateness, self.state.waiting(), self.state.facts.get("released", -1))

    def _committed(self) -> None:
        """After each transaction."""
        self._last_commit = self.clock()
        self.report.figures = self.sink.figures()
        if self.report.is_ready:
            find_failures(self.engine, self.state, self.report, is_thorough=False)
        self.on_report(self.report)

    # The loop ---------------------------------------------------------------------------------------------------------

    def run(self, should_stop: Callable[[], bool]) -> StreamReport:
        """Follows the sources; all that was read is written when it ends."""
        self._follow(should_stop)
        self.sender.send(is_last=True)
        if self.sender.is_uncertain:
            self.state.commit(StateUpdate(), self.engine)
        if self.report.is_ready:
            find_failures(self.engine, self.state, self.report, is_thorough=True)
        return self.report

    def _follow(self, should_stop: Callable[[], bool]) -> None:
        number, transactions = self.report.changes, self.transactions
        for found in self._batches(self.bounded, should_stop):
            self._take(found)
        if should_stop():
            return
        if transactions.reorder is not None and (self.report.changes > number or not self.unbounded):
            transactions.take([], {}, is_end=True)  # a snapshot's last commit is whole, too
        if not self._awaited:
            self._loaded()
        self._catch_up(_BEHIND_SECONDS if self.unbounded else float("inf"))
        for found in self._batches(self.unbounded, should_stop):
            self._take(found, is_live=True)
            self._catch_up(_BEHIND_SECONDS)
            self._take_touches()

    def _batches(self, sources: Sequence[Source], should_stop: Callable[[], bool]) -> Iterator[SourceBatch]:
        seconds = self.settings.coalesce_seconds
        return gather(sources, self.state.positions, seconds, _MOST, self.clock, should_stop)

    def _take(self, found: SourceBatch, *, is_live: bool = False) -> None:
        """Takes a batch of the sources in one transaction, after which they need not keep it."""
        self._located.begin(found.events, partial(self._location, found))
        events = [event for event in found.events if not (is_live and self._is_past(event))]
        if not events:
            return self._idle(found.positions)
        self._last_event = self.clock()
        complete = [one for one in events if isinstance(one, Complete)]
        self.transactions.take(events, {} if complete else found.positions)
        for one in complete:
            self._completed(one)
        if complete:
            self.transactions.take([], found.positions, is_end=not self._awaited)
        return None

    def _location(self, found: SourceBatch, number: int) -> str | None:
        """Where an event is in its source, for messages."""
        for events, uri, before, after in found.origins:
            if number < events:
                return self.sources[uri].place_followed(before, after, number)
            number -= events
        return None

    def _idle(self, positions: Mapping[str, str]) -> None:
        """Nothing came: releases commits that waited for more; stores the positions of sources now and then."""
        quiet, since = self.clock() - self._last_event, self.clock() - self._last_commit
        lateness, transactions = self.settings.lateness_seconds, self.transactions
        is_holding = transactions.reorder is not None and transactions.reorder.is_holding
        is_elsewhere = bool(dict(positions).items() - self.state.positions.items())
        if is_holding and lateness is not None and quiet > lateness:
            transactions.take([], positions, is_end=True)
        elif self.state.outbox():
            self.sender.send()
        elif since > _ALIVE_SECONDS or (since > _POSITION_SECONDS and is_elsewhere):
            transactions.take([], positions)

    # Beside following -------------------------------------------------------------------------------------------------

    def _loaded(self) -> None:
        """Notes that all documents are read: rows may be written."""
        self.generations.loaded()
        if self._catching_up is None:
            self._catching_up = self.generations.catch_up()

    def _catch_up(self, seconds: float) -> None:
        """Writes rows of new views for some time, one transaction after the other; then prunes."""
        deadline = self.clock() + seconds
        while self._catching_up is not None and not self._awaited and self.clock() < deadline:
            entries = next(self._catching_up, None)
            if entries is None:
                self._catching_up = None
                self.transactions.commit(self.generations.prune())
            else:
                self.transactions.commit(StateUpdate(entries=entries))
        is_written = self._catching_up is None and not self._awaited and not self.generations.at("loading", "emitting")
        if is_written and not self.report.is_ready:
            self.report.is_ready = True
            find_failures(self.engine, self.state, self.report, is_thorough=True)
            self.on_report(self.report)

    def _take_touches(self) -> None:
        """Takes the touches of a backfill from the sink, and confirms them when their rows are written."""
        if not self._touched and not self.generations.held_back and self.clock() - self._last_touches >= _TOUCH_SECONDS:
            self._last_touches = self.clock()
            touches = self.writer.touches()
            for begin in range(0, len(touches), _MOST):
                self.transactions.take(touches[begin : begin + _MOST], {})
            self._touched = frozenset(touch.path for touch in touches)
        if self._touched and not (self.state.outbox() and self._touched & self.writer.held):
            self.writer.touched()
            self._touched = frozenset()

    # Snapshots of unbounded sources -----------------------------------------------------------------------------------

    def _is_past(self, event: Event) -> bool:
        """Whether a change is older than the whole snapshots of its collections (S3); deletions are always taken."""
        if not isinstance(event, Change) or event.version > self._newest_complete or event.is_deleted:
            return False
        indexes = self.plan.types_of(event.path)
        return bool(indexes) and all(event.version <= self._complete[index] for index in indexes)

    def _completed(self, complete: Complete) -> None:
        """Deletes the documents of a collection that a whole snapshot of it lacks (S22)."""
        if complete.pattern in self.plan.collections:
            known = self.engine.versions.types[self.plan.collections.index(complete.pattern)]
            lost = [path for path in known.documents if path not in complete.paths]
            for begin in range(0, len(lost), _MOST):
                some = lost[begin : begin + _MOST]
                self.transactions.take([Change(path, complete.read_time, msgspec.Raw(b"null")) for path in some], {})
        self.state.facts[f"{_COMPLETE}{complete.pattern}"] = complete.read_time
        self._know_complete()
        if self._awaited:
            self._awaited.discard(complete.pattern)
            if not self._awaited:
                self._loaded()

    def _know_complete(self) -> None:
        """Reads from the state when each collection last had a whole snapshot."""
        facts, collections = self.state.facts, self.plan.collections
        for name in facts:
            if name.startswith(_COMPLETE) and name.removeprefix(_COMPLETE) not in collections:
                facts[name] = -1
        self._complete = {index: facts.get(f"{_COMPLETE}{one}", -1) for index, one in enumerate(collections)}
        self._newest_complete = max(self._complete.values(), default=-1)
