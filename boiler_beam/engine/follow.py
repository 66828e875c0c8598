"""The embedded engine's stream: sources -> state -> sink, so that a kill at any instant loses and doubles nothing.

    start: `starting` checks what is needed, the state is opened
    loop:  a batch of events -> `transactions` -> the outbox -> `sending` -> the next batch
    beside: `generations` writes the rows of new and changed views, and prunes; touches of backfills are taken

What is in the outbox when the program starts is sent again: sinks take the same stamp twice (S20). A slow sink slows
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
from boiler_beam.engine.intake import Gathered, gathered
from boiler_beam.engine.reorder import Reorder
from boiler_beam.engine.report import Settings, StreamReport
from boiler_beam.engine.sending import Sender
from boiler_beam.engine.starting import has_snapshot, positions_to_follow_from
from boiler_beam.engine.state.base import Entry, Progress, State
from boiler_beam.engine.transactions import Transactions
from boiler_beam.events import Change, Complete, EncodedRow, Event, View
from boiler_beam.plan import Plan

__all__ = ["Settings", "StreamEngine", "StreamReport", "follow"]

_MOST = 10_000
"""Changes of one transaction."""
_BEHIND_SECONDS = 0.5
"""That writing the rows of new views takes between two transactions of the stream."""
_TOUCH_SECONDS = 5.0
"""How often the sink is asked for touches."""
_COMPLETE = "complete "
"""Begins the names of facts: as of when a collection was last known whole."""
_POSITION_SECONDS, _ALIVE_SECONDS = 1.0, 60.0
"""How often a position, and that the program lives, are written down while nothing comes."""


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
        BoilerBeamError: State or sink could not be written; the next run goes on from the last transaction.
    """
    for source in sorted(sources, key=lambda one: one.is_bounded):  # what comes while a snapshot is read is not missed
        source.prepare(plan.collections)
    with rare_garbage_collection(), sink.stream([view.target for view in plan.views]) as writer:
        positions = positions_to_follow_from(plan, sources, sink, state, settings, now())
        engine = StreamEngine(plan, sources, sink, state, settings, clock=clock, on_report=on_report, sent=sent)
        engine.start(writer, dead_letters, positions, now)
        report = engine.run(should_stop)
    for one in [*(source.billed for source in sources), sink.billed]:
        report.billed.add(one)
    return report


class StreamEngine:
    """One run over a state; see `follow` for the arguments."""

    transactions: Transactions
    sender: Sender
    writer: StreamWriter

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[Source],
        sink: Sink,
        state: State,
        settings: Settings,
        *,
        clock: Callable[[], float],
        on_report: Callable[[StreamReport], None],
        sent: Callable[[Sequence[tuple[View, EncodedRow]]], None] = lambda rows: None,
    ) -> None:
        self.plan, self.sink, self.state, self.settings = plan, sink, state, settings
        self.clock, self.on_report, self.sent = clock, on_report, sent
        self.sources = {source.uri: source for source in sources}
        self.bounded = [source for source in sources if source.is_bounded]
        self.unbounded = [source for source in sources if not source.is_bounded]
        self.report, self._located = StreamReport(), Located()
        self.engine = IncrementalEngine(
            plan, lambda dead_letter: self.transactions.dead_letters.append(self._located(dead_letter))
        )
        self.generations = Generations(plan, sink, state, self.engine, settings.prune)
        self._behind: Iterator[list[Entry]] | None = None
        self._awaited: set[str] = set()
        """The collections that an unbounded source must give whole before rows of loading views are written (S22)."""
        self._complete: dict[int, int] = {}
        self._newest_complete = -1
        self._last_event = self._last_commit = self._last_touches = clock()
        self._asked: frozenset[str] = frozenset()
        """The paths of rows that the sink asked for, and that may wait to be written."""

    # Start ------------------------------------------------------------------------------------------------------------

    def start(
        self,
        writer: StreamWriter,
        dead_letters: DeadLetterWriter | None,
        positions: dict[str, str],
        now: Callable[[], float],
    ) -> None:
        """Opens the state, and sends what was in its outbox.

        Args:
            writer: The sink's open stream.
            dead_letters: Where unusable inputs go; None: nowhere.
            positions: How far each source was read, by URI.
            now: Seconds since the epoch.
        """
        state, was_new = self.state, self.state.is_new
        self.writer = writer
        self.sender = Sender(self.engine, state, writer, dead_letters, self.report, self.sent)
        self.transactions = Transactions(
            self.engine, state, self.sender, self.sources, self._reorder(), self._located, now, self._committed
        )
        self.transactions.positions = positions
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
        self.report.silent, self.report.refusals = self.generations.held_back, self.generations.refusals
        self._behind = self.generations.catch_up()
        self._know_complete()
        if has_snapshot(self.unbounded):
            self._awaited = {
                pattern for index, pattern in enumerate(self.plan.collections) if self._complete[index] < 0
            }
        state.commit(Progress(), self.engine)
        writer.control(self.generations.controls())
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
            self.state.commit(Progress(), self.engine)
        if self.report.is_ready:
            find_failures(self.engine, self.state, self.report, is_thorough=True)
        return self.report

    def _follow(self, should_stop: Callable[[], bool]) -> None:
        number, transactions = self.report.changes, self.transactions
        for found in self._gathered(self.bounded, should_stop):
            self._take(found)
        if should_stop():
            return
        if transactions.reorder is not None and (self.report.changes > number or not self.unbounded):
            transactions.take([], {}, is_end=True)  # a snapshot's last commit is whole, too
        if not self._awaited:
            self._loaded()
        self._work_behind(_BEHIND_SECONDS if self.unbounded else float("inf"))
        for found in self._gathered(self.unbounded, should_stop):
            self._take(found, is_live=True)
            self._work_behind(_BEHIND_SECONDS)
            self._take_touches()

    def _gathered(self, sources: Sequence[Source], should_stop: Callable[[], bool]) -> Iterator[Gathered]:
        seconds, positions = self.settings.coalesce_seconds, self.transactions.positions
        return gathered(sources, positions, seconds, _MOST, self.clock, should_stop)

    def _take(self, found: Gathered, *, is_live: bool = False) -> None:
        """What sources gave: into the state and the sink; then they need not keep it."""
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

    def _location(self, found: Gathered, number: int) -> str | None:
        """Where an event is in its source, for messages."""
        for events, uri, before, after in found.origins:
            if number < events:
                return self.sources[uri].place_followed(before, after, number)
            number -= events
        return None

    def _idle(self, positions: Mapping[str, str]) -> None:
        """Nothing came: commits that waited for more are whole; where sources are is written down now and then."""
        quiet, since = self.clock() - self._last_event, self.clock() - self._last_commit
        lateness, transactions = self.settings.lateness_seconds, self.transactions
        is_holding = transactions.reorder is not None and transactions.reorder.is_holding
        is_elsewhere = bool(dict(positions).items() - transactions.positions.items())
        if is_holding and lateness is not None and quiet > lateness:
            transactions.take([], positions, is_end=True)
        elif self.state.outbox():
            self.sender.send()
        elif since > _ALIVE_SECONDS or (since > _POSITION_SECONDS and is_elsewhere):
            transactions.take([], positions)

    # Beside following -------------------------------------------------------------------------------------------------

    def _loaded(self) -> None:
        """All documents are known: rows may be written."""
        self.generations.loaded()
        if self._behind is None:
            self._behind = self.generations.catch_up()

    def _work_behind(self, seconds: float) -> None:
        """Writes rows of new views for some time, a transaction each step; then prunes."""
        deadline = self.clock() + seconds
        while self._behind is not None and not self._awaited and self.clock() < deadline:
            entries = next(self._behind, None)
            if entries is None:
                self._behind = None
                self.transactions.commit(self.generations.prune())
            else:
                self.transactions.commit(Progress(entries=entries))
        is_written = self._behind is None and not self._awaited and not self.generations.at("loading", "emitting")
        if is_written and not self.report.is_ready:
            self.report.is_ready = True
            find_failures(self.engine, self.state, self.report, is_thorough=True)
            self.on_report(self.report)

    def _take_touches(self) -> None:
        """Rows that a backfill asks for by way of the sink, which is informed when they are written."""
        if not self._asked and not self.generations.held_back and self.clock() - self._last_touches >= _TOUCH_SECONDS:
            self._last_touches = self.clock()
            touches = self.writer.touches()
            for begin in range(0, len(touches), _MOST):
                self.transactions.take(touches[begin : begin + _MOST], {})
            self._asked = frozenset(touch.path for touch in touches)
        if self._asked and not (self.state.outbox() and self._asked & self.writer.held):
            self.writer.touched()
            self._asked = frozenset()

    # Snapshots of unbounded sources -----------------------------------------------------------------------------------

    def _is_past(self, event: Event) -> bool:
        """Whether a snapshot says more: what it held was newer, and what it lacked was deleted (S3)."""
        if not isinstance(event, Change) or event.version > self._newest_complete or event.is_deleted:
            return False
        indexes = self.plan.types_of(event.path)
        return bool(indexes) and all(event.version <= self._complete[index] for index in indexes)

    def _completed(self, complete: Complete) -> None:
        """What is known of a collection and was not in it has been deleted meanwhile (S22)."""
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
        """As of when each collection was known whole, by the index of its type; others are not followed."""
        facts, collections = self.state.facts, self.plan.collections
        for name in facts:
            if name.startswith(_COMPLETE) and name.removeprefix(_COMPLETE) not in collections:
                facts[name] = -1
        self._complete = {index: facts.get(f"{_COMPLETE}{one}", -1) for index, one in enumerate(collections)}
        self._newest_complete = max(self._complete.values(), default=-1)
