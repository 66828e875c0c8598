"""The embedded engine's stream: sources -> state -> sink, so that a kill at any instant loses and doubles nothing.

    a batch of changes -> steps -> [cells, outbox, positions: one transaction] -> sink -> next batch

What is in the outbox when the program starts is sent again: sinks take the same stamp twice (S20). A slow sink slows
the source: nothing is read while rows are written.
"""

from __future__ import annotations

import logging
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
from boiler_beam.engine.state.base import Entry, Progress, State
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, Complete, DeadLetter, Event, Row, Touch, View
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import dead_letter_of, families_lost

__all__ = ["Following", "Settings", "StreamReport", "follow"]

_log = logging.getLogger("boiler_beam")
_MOST = 10_000
"""Changes of one transaction."""
_BEHIND_SECONDS = 0.5
"""That rebuilding and giving take between two transactions of the stream."""
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
    told: Callable[[StreamReport], None] = lambda report: None,
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
        settings: See there.
        should_stop: Asked between transactions; all that was read is written when it ends.
        told: Told after each transaction.
        clock: Seconds.
        now: Seconds since the epoch.

    Raises:
        UsageError: Nothing was written.
        BoilerBeamError: State or sink could not be written; the next run goes on from the last transaction.
    """
    with rare_garbage_collection(), sink.stream([view.target for view in plan.views]) as writer:
        following = Following(plan, sources, sink, writer, dead_letters, state, settings, clock, now, told)
        report = following.run(should_stop)
    for one in [*(source.billed for source in sources), sink.billed]:
        report.billed.add(one)
    return report


class Following:
    """One run over a state; see `follow`."""

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[Source],
        sink: Sink,
        writer: StreamWriter,
        dead_letters: DeadLetterWriter | None,
        state: State,
        settings: Settings,
        clock: Callable[[], float],
        now: Callable[[], float],
        told: Callable[[StreamReport], None],
    ) -> None:
        self.plan, self.sink, self.writer, self.dead_letters = plan, sink, writer, dead_letters
        self.state, self.settings, self.clock, self.now, self.told = state, settings, clock, now, told
        self.sources = {source.uri: source for source in sources}
        self.bounded = [source for source in sources if source.is_bounded]
        self.unbounded = [source for source in sources if not source.is_bounded]
        self.letters: list[DeadLetter] = []
        self.report = StreamReport()
        self.positions = dict(state.positions())
        was_new = state.is_new
        for source in [*self.unbounded, *self.bounded]:  # what comes while a snapshot is read is not to be missed
            source.prepare(plan.collections)
        self._check_sources(was_new)
        self._located = Located()
        self.engine = IncrementalEngine(plan, lambda letter: self.letters.append(self._located(letter)))
        state.open(self.engine)
        for versions in self.engine.versions.types:
            versions.horizon = state.facts.get("horizon", 0)
            versions.tells_again = any(source.is_replay for source in sources)
        if not state.is_new:
            state.facts["documents"] = self.engine.number_of_documents
        self.generations = Generations(plan, sink, state, self.engine, settings.prune)
        self.generations.begin()
        if was_new and not (self.unbounded and self._has_snapshot()):  # a history: rows follow it from the first change
            for known in state.views.values():
                known.phase = "pruning"
        self.generations.hold_back()
        self.report.silent, self.report.refusals = self.generations.held_back, self.generations.refusals
        self.reorder = self._reorder()
        self._behind: Iterator[list[Entry]] | None = self.generations.catch_up()
        self._waited: set[str] = set()
        """The collections that an unbounded source must give whole before rows are given that were not yet (S22)."""
        self._know_complete()
        if any(source.has_snapshot for source in self.unbounded):
            self._waited = {pattern for place, pattern in enumerate(plan.collections) if self._complete[place] < 0}
        self._last_event = self._last_commit = self._last_touches = clock()
        self._is_doubting = False
        """Whether a row was refused since the last transaction."""
        self._asked: frozenset[str] = frozenset()
        """The paths of rows that were asked for by the sink, and may wait to be written."""
        state.commit(Progress(), self.engine)
        self.writer.control(self.generations.controls())
        self._send()

    # Start ------------------------------------------------------------------------------------------------------------

    def _check_sources(self, was_new: bool) -> None:
        """Refuses to begin without what it needs, before anything is touched (S22)."""
        self._check_retention()
        if any(source.is_replay for source in self.bounded):
            self._check_replay()
        known = self.state.collections()
        missing = [pattern for pattern in self.plan.collections if pattern not in known]
        if missing and not was_new:
            self._read_again([source for source in self.bounded if source.is_snapshot])
        unread = [one for one in self.bounded if one.uri not in self.positions and not one.is_replay]
        if was_new and self.unbounded and not (self._has_snapshot() or self.settings.from_empty):
            raise UsageError(
                f"{self.unbounded[0].uri}: expected a snapshot to begin with, got an empty state and no bounded "
                "source; fix: add --source with the documents, or --from_empty if there are none yet"
            )
        if missing and not was_new and not (unread or any(source.has_snapshot for source in self.unbounded)):
            raise UsageError(
                f"--state: expected one that watched {', '.join(missing)}, got one whose views did not read them; "
                "fix: add --source with a snapshot that has them and was not read yet, or start with another --state"
            )

    def _check_replay(self) -> None:
        """What was refused once goes to the stream that refused it: it brings no documents that others were made of."""
        known, asked = sorted(self.state.views), sorted(view.name for view in self.plan.views)
        if known != asked:
            raise UsageError(
                f"--views: expected those of the stream whose state this is, {', '.join(known) or 'none yet'}, got "
                f"{', '.join(asked)}; fix: --state, --views and --sink as the stream has them"
            )
        controls = self.sink.controls() if self.sink.keeps_controls else {}
        for name, one in controls.items():
            if name in asked and one.holder != self.state.identity:
                raise UsageError(
                    f"{self.sink.uri}: expected the rows of {name} that this state feeds, got those of another; "
                    "fix: --state, --views and --sink as the stream has them"
                )

    def _has_snapshot(self) -> bool:
        return bool(self.bounded) or any(source.has_snapshot for source in self.unbounded)

    def _check_retention(self) -> None:
        """Where a source no longer has all that came while the program was down, a snapshot is read again (S22)."""
        down_seconds = self.now() - self.state.facts.get("alive", 0) / 1e6
        for source in self.unbounded:
            kept = source.retention_seconds
            if source.uri not in self.positions or kept is None or down_seconds <= kept:
                continue
            if not self.bounded:
                raise UsageError(
                    f"{source.uri}: expected a program that was down for at most {kept / 3600:,.0f} h, which is how "
                    f"long changes are kept there, got {down_seconds / 3600:,.0f} h; fix: add --source with a snapshot"
                )
            self._read_again(self.bounded)

    def _read_again(self, sources: Sequence[Source]) -> None:
        for source in sources:
            self.positions.pop(source.uri, None)

    def _reorder(self) -> Reorder | None:
        if self.settings.lateness_seconds is None:
            return None
        lateness = round(self.settings.lateness_seconds * 1e6)
        return Reorder(lateness, self.state.waiting(), self.state.facts.get("released", -1))

    # What is done beside following ------------------------------------------------------------------------------------

    def _work_behind(self, seconds: float) -> None:
        """Takes steps of it for some time, each a transaction; then prunes."""
        deadline = self.clock() + seconds
        while self._behind is not None and not self._waited and self.clock() < deadline:
            entries = next(self._behind, None)
            if entries is None:
                self._behind = None
                self._commit(self.generations.prune())
            else:
                self._commit(Progress(entries=entries))
        is_given = self._behind is None and not self._waited and not self.generations.at("loading", "emitting")
        if is_given and not self.report.is_ready:
            self.report.is_ready = True
            find_failures(self.engine, self.state, self.report, is_thorough=True)
            self.told(self.report)

    # The loop ---------------------------------------------------------------------------------------------------------

    def run(self, should_stop: Callable[[], bool]) -> StreamReport:
        """Follows the sources; see `follow`."""
        self._follow(should_stop)
        self._send(is_last=True)
        if self._is_doubting:
            self.state.commit(Progress(), self.engine)
        if self.report.is_ready:
            find_failures(self.engine, self.state, self.report, is_thorough=True)
        return self.report

    def _follow(self, should_stop: Callable[[], bool]) -> None:
        number = self.report.changes
        for found in self._gathered(self.bounded, should_stop):
            self._take(found)
        if should_stop():
            return
        if self.reorder is not None and (self.report.changes > number or not self.unbounded):
            self._transact([], {}, is_end=True)  # a snapshot's last commit is whole, too
        if not self._waited:
            self._filled()
        self._work_behind(_BEHIND_SECONDS if self.unbounded else float("inf"))
        for found in self._gathered(self.unbounded, should_stop):
            self._take(found, is_live=True)
            self._work_behind(_BEHIND_SECONDS)
            self._take_touches()

    def _is_past(self, event: Event) -> bool:
        """Whether a snapshot says more: what it held was newer, and what it lacked was deleted (S3)."""
        if not isinstance(event, Change) or event.version > self._newest_complete or event.is_deleted:
            return False
        families = self.plan.families_of(event.path)
        return bool(families) and all(event.version <= self._complete[family] for family in families)

    def _filled(self) -> None:
        """All documents are in: rows may be given."""
        self.generations.loaded()
        if self._behind is None:
            self._behind = self.generations.catch_up()

    def _gathered(self, sources: Sequence[Source], should_stop: Callable[[], bool]) -> Iterator[Gathered]:
        seconds, positions = self.settings.coalesce_seconds, self.positions
        return gathered(sources, positions, seconds, _MOST, self.clock, should_stop)

    def _take(self, found: Gathered, *, is_live: bool = False) -> None:
        """What sources gave: into the state and the sink; then they need not keep it."""
        self._located.begin(found.events, partial(self._place, found))
        events = [event for event in found.events if not (is_live and self._is_past(event))]
        if not events:
            return self._idle(found.positions)
        self._last_event = self.clock()
        complete = [one for one in events if isinstance(one, Complete)]
        self._transact(events, {} if complete else found.positions)
        for one in complete:
            self._completed(one)
        if complete:
            self._transact([], found.positions, is_end=not self._waited)
        return None

    def _place(self, found: Gathered, number: int) -> str | None:
        """Where an event stands, for messages."""
        for events, uri, before, after in found.origins:
            if number < events:
                return self.sources[uri].place_followed(before, after, number)
            number -= events
        return None

    def _completed(self, complete: Complete) -> None:
        """What is known of a collection and was not in it has been deleted meanwhile (S22)."""
        if complete.pattern in self.plan.collections:
            known = self.engine.versions.types[self.plan.collections.index(complete.pattern)]
            lost = [path for path in known.documents if path not in complete.paths]
            for begin in range(0, len(lost), _MOST):
                some = lost[begin : begin + _MOST]
                self._transact([Change(path, complete.read_time, msgspec.Raw(b"null")) for path in some], {})
        self.state.facts[f"{_COMPLETE}{complete.pattern}"] = complete.read_time
        self._know_complete()
        if self._waited:
            self._waited.discard(complete.pattern)
            if not self._waited:
                self._filled()

    def _know_complete(self) -> None:
        """As of when each collection was known whole, by the place of its family; others are not followed."""
        for name in self.state.facts:
            if name.startswith(_COMPLETE) and name.removeprefix(_COMPLETE) not in self.plan.collections:
                self.state.facts[name] = -1
        found = {
            place: self.state.facts.get(f"{_COMPLETE}{pattern}", -1)
            for place, pattern in enumerate(self.plan.collections)
        }
        self._complete, self._newest_complete = found, max(found.values(), default=-1)

    def _take_touches(self) -> None:
        """Rows that a backfill asks for by way of the sink, which is told when they are written."""
        if not self._asked and not self.generations.held_back and self.clock() - self._last_touches >= _TOUCH_SECONDS:
            self._last_touches = self.clock()
            touches = self.writer.touches()
            for begin in range(0, len(touches), _MOST):
                self._transact(touches[begin : begin + _MOST], {})
            self._asked = frozenset(touch.path for touch in touches)
        if self._asked and not (self.state.outbox() and self._asked & self.writer.held):
            self.writer.touched()
            self._asked = frozenset()

    def _idle(self, positions: Mapping[str, str]) -> None:
        """Nothing came: commits that waited for more are whole; where sources are is written down now and then."""
        quiet, since = self.clock() - self._last_event, self.clock() - self._last_commit
        lateness = self.settings.lateness_seconds
        if self.reorder is not None and self.reorder.is_holding and lateness is not None and quiet > lateness:
            self._transact([], positions, is_end=True)
        elif self.state.outbox():
            self._send()
        elif since > _ALIVE_SECONDS or (since > _POSITION_SECONDS and dict(positions).items() - self.positions.items()):
            self._transact([], positions)

    def _transact(self, batch: Sequence[Event], positions: Mapping[str, str], *, is_end: bool = False) -> None:
        """One transaction: events in, rows into the outbox; then the outbox into the sink."""
        progress = Progress(positions=dict(positions))
        changes = self._changes(batch)
        if self.reorder is not None:
            changes = self._held(self.reorder, changes, progress, is_end=is_end)
        self._apply(changes)
        self._touch(batch)
        self.report.dirty = sum(len(view.rows.dirty) for view in self.engine.views)
        progress.entries = self._rendered()
        self._commit(progress)

    def _held(self, reorder: Reorder, changes: list[Change], progress: Progress, *, is_end: bool) -> list[Change]:
        """The changes of whole commits that wait no longer."""
        waiting = [change for change in changes if not reorder.is_late(change)]
        ready = [one for change in changes for one in reorder.push(change)]
        if is_end:
            ready += reorder.rest()
        progress.released = self.state.facts["released"] = reorder.released
        progress.pushed = [change for change in waiting if not reorder.is_late(change)]
        self.report.late = reorder.late
        return ready

    def _touch(self, batch: Sequence[Event]) -> None:
        """Rows in which a backfill saw something else than is known here are given again (S16)."""
        places = {view.name: place for place, view in enumerate(self.plan.views)}
        for one in batch:
            if not isinstance(one, Touch) or one.view not in places:
                continue
            if self.plan.views[places[one.view]].target.matches(one.path):
                view = self.engine.views[places[one.view]]
                view.rows.touch(one.path, one.read_time, is_held_back=view.is_held_back)
            else:
                _log.warning("a touch: expected the path of a row of %s, got %r; it is passed over", one.view, one.path)

    def _changes(self, batch: Sequence[Event]) -> list[Change]:
        changes: list[Change] = []
        newest = self.state.facts.get("newest", 0)
        for one in batch:
            if isinstance(one, (Complete, Touch)):
                continue
            if isinstance(one, DeadLetter):
                self.letters.append(one)
                lost = families_lost(self.plan, one)
                self.state.dead_collections.update(self.plan.families[family].pattern.text for family in lost)
                continue
            changes.append(one)
            if one.version > newest:
                newest = one.version
        self.state.facts["newest"] = self.report.newest = newest
        self.report.changes += len(changes)
        return changes

    def _apply(self, changes: Sequence[Change]) -> None:
        """Runs the steps; a change that makes one raise is undone alone (S21)."""
        number = len(self.letters)
        try:
            self.engine.observe(changes)
            return
        except Exception as error:  # a bug of ours: users' functions are told where they are called
            self.engine.undo_batch()
            del self.letters[number:]
            if len(changes) == 1:
                message = f"a step raised {type(error).__name__}: {error}"
                self.letters.append(self._located(dead_letter_of("row", "step_raised", message, changes[0])))
                return
        for change in changes:
            self._apply([change])
            self._commit(Progress(entries=self._rendered()))

    def _rendered(self) -> list[Entry]:
        """The dirty rows, on their way out."""
        return [Entry(view.view.name, row) for view in self.engine.views for row in view.rows.take_dirty()]

    def _commit(self, progress: Progress) -> None:
        state, report = self.state, self.report
        progress.entries += [Entry("", None, letter) for letter in self.letters]
        self._count(self.letters)
        self.letters.clear()
        for view in self.engine.views:
            known, rows = state.views[view.view.name], view.rows
            known.rows, known.failing = known.rows + rows.in_sink, known.failing + rows.failing
            rows.in_sink = rows.failing = 0
            report.rows[view.view.name] = known.rows
        for versions in self.engine.versions.types:
            fact = f"invalid {versions.codec.pattern.text}"
            if versions.invalid or fact in state.facts:
                state.facts[fact] = len(versions.invalid)
        state.facts["documents"] = state.facts.get("documents", 0) + self.engine.new_documents()
        state.facts["alive"] = round(self.now() * 1e6)
        state.commit(progress, self.engine)
        self._is_doubting = False
        self._send()
        self._last_commit = self.clock()
        self.positions.update(progress.positions)
        for uri, position in progress.positions.items():
            self.sources[uri].acknowledge(position)
        report.documents = state.facts.get("documents", 0)
        report.figures = self.sink.figures()
        if report.is_ready:
            find_failures(self.engine, self.state, self.report, is_thorough=False)
        self.told(report)

    def _send(self, *, is_last: bool = False) -> None:
        """Brings what was committed to where it goes; it leaves the outbox with the next transaction.

        Rows that must wait, because they were written a moment ago, stay there (S17), but for the last time.
        """
        entries, targets = self.state.outbox(), {view.name: view.target for view in self.plan.views}
        if not entries:
            return
        rows = [
            (targets[entry.view], entry.row) for entry in entries if entry.row is not None and entry.view in targets
        ]
        self.writer.may_hold = not is_last
        refused = (self.writer.write(rows) if rows else None) or ()
        held = self.writer.held if rows else frozenset()
        unwritten = held.union(letter.path for letter in refused if letter.path is not None)
        for view, row in rows:
            if row.path not in unwritten:
                counts = self.report.deleted if row.fields is None else self.report.written
                counts[view.name] = counts.get(view.name, 0) + 1
        self._refuse([*(entry.letter for entry in entries if entry.letter is not None), *refused])
        if refused:
            self._doubt(refused, rows)
        newest = {entry.row.path: entry for entry in entries if entry.row is not None and entry.row.path in held}
        self.state.sent(list(newest.values()))

    def _refuse(self, letters: Sequence[DeadLetter]) -> None:
        if letters and self.dead_letters is not None:
            for letter in letters:
                self.dead_letters.write(letter)
            self.dead_letters.flush()

    def _count(self, letters: Sequence[DeadLetter]) -> None:
        self.report.dead_letters += len(letters)
        for letter in letters:
            self.report.examples.setdefault(letter.code, letter)

    def _doubt(self, refused: Sequence[DeadLetter], rows: Sequence[tuple[View, Row]]) -> None:
        """Of rows that the sink refused it is not known what stands there (S14)."""
        self._count(refused)
        places = {view.name: place for place, view in enumerate(self.plan.views)}
        names = {row.path: view.name for view, row in rows}
        for letter in refused:
            if letter.path is not None and letter.path in names:
                name = names[letter.path]
                known = self.state.views[name]
                known.rows -= self.engine.views[places[name]].rows.refused_by_sink(letter.path)
                self.report.rows[name] = known.rows
                self.report.refused[name] = self.report.refused.get(name, 0) + 1
                self._is_doubting = True
