"""The embedded engine's stream: sources -> state -> sink, so that a kill at any instant loses and doubles nothing.

    a batch of changes -> steps -> [cells, outbox, positions: one transaction] -> sink -> next batch

What is in the outbox when the program starts is sent again: sinks take the same stamp twice (S20). A slow sink slows
the source: nothing is read while rows are written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from boiler_beam.connectors.base import Control, Sink, Source, StreamWriter
from boiler_beam.connectors.dead_letters import DeadLetterWriter
from boiler_beam.engine.garbage import rare_garbage_collection
from boiler_beam.engine.reorder import Reorder
from boiler_beam.engine.state.base import Entry, Progress, State
from boiler_beam.engine.stream import Stream
from boiler_beam.engine.write import Prune, refusal_to_prune
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, DeadLetter, Row, Stamp
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import dead_letter_of, families_lost

__all__ = ["Following", "Settings", "StreamReport", "follow"]

_MOST = 10_000
"""Changes of one transaction."""
_BEHIND_SECONDS = 0.5
"""That rebuilding and giving take between two transactions of the stream."""
_CHUNK = 1_000
"""Documents that a changed view takes, or rows that it gives, in one transaction."""


@dataclass(frozen=True)
class Settings:
    """How a stream is followed.

    Attributes:
        coalesce_seconds: How long changes are gathered before rows are rendered; 0: each batch of a source.
        lateness_seconds: The allowed lateness of consistency `commit`; None: `eventual`.
        prune: What to do with rows of an older generation that this one did not compute.
        from_empty: Whether an unbounded source may be followed without a snapshot.
    """

    coalesce_seconds: float = 0.1
    lateness_seconds: float | None = None
    prune: Prune = "safe"
    from_empty: bool = False


@dataclass
class StreamReport:
    """What was done so far, in this run.

    Attributes:
        changes: How many changes were read.
        documents: How many documents are known, in all runs over this state; deleted ones are not counted.
        written: Of each view, how many rows were written.
        deleted: Of each view, how many rows were deleted.
        rows: Of each view, how many rows stand.
        dead_letters: How many inputs and rows were refused.
        late: How many changes came later than allowed, and were not held for their commits.
        dirty: How many rows the last transaction rendered.
        silent: The views none of whose rows is given yet, because their documents are not all in.
        newest: The newest version seen, in microseconds since the epoch.
        refusals: Why rows were not pruned, view by view.
    """

    changes: int = 0
    documents: int = 0
    written: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    late: int = 0
    dirty: int = 0
    silent: list[str] = field(default_factory=list)
    newest: int = 0
    refusals: list[str] = field(default_factory=list)


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

    Raises:
        UsageError: Nothing was written.
        BoilerBeamError: State or sink could not be written; the next run goes on from the last transaction.
    """
    with rare_garbage_collection(), sink.stream([view.target for view in plan.views]) as writer:
        return Following(plan, sources, sink, writer, dead_letters, state, settings, clock, told).run(should_stop)


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
        told: Callable[[StreamReport], None],
    ) -> None:
        self.plan, self.sink, self.writer, self.dead_letters = plan, sink, writer, dead_letters
        self.state, self.settings, self.clock, self.told = state, settings, clock, told
        self.bounded = [source for source in sources if source.is_bounded]
        self.unbounded = [source for source in sources if not source.is_bounded]
        self.letters: list[DeadLetter] = []
        self.report = StreamReport()
        self.positions = state.positions()
        was_new = state.is_new
        self._check_sources(was_new)
        self.stream = Stream(plan, self.letters.append, state.open(plan))
        self.stream.network.down.horizon = state.facts.get("horizon", 0)
        self._begin_generations()
        if was_new and not (self.bounded and self.unbounded):  # bounded sources alone are a history: rows follow it
            for known in state.views.values():
                known.stage = "pruning"
        self._quiet()
        self.reorder = self._reorder()
        self._behind: Iterator[list[Entry]] | None = self._catch_up()
        state.commit(Progress())
        self.writer.control({view.name: self._control(view.name, view.fingerprint) for view in plan.views})
        self._send()

    # Start ------------------------------------------------------------------------------------------------------------

    def _check_sources(self, was_new: bool) -> None:
        """Refuses to begin without what it needs, before anything is touched (S22)."""
        unread = [source for source in self.bounded if source.uri not in self.positions]
        if was_new and self.unbounded and not (self.bounded or self.settings.from_empty):
            raise UsageError(
                f"{self.unbounded[0].uri}: expected a snapshot to begin with, got an empty state and no bounded "
                "source; mend: add --source with the documents, or --from_empty if there are none yet"
            )
        known = self.state.collections()
        missing = [family.pattern.text for family in self.plan.families if family.pattern.text not in known]
        if missing and not was_new and not unread:
            raise UsageError(
                f"--state: expected one that watched {', '.join(missing)}, got one whose views did not read them; "
                "mend: add --source with a snapshot that has them and was not read yet, or start with another --state"
            )

    def _begin_generations(self) -> None:
        """Says which generation each view's rows are of, and forgets what the sink no longer holds (S13, S16, S18)."""
        controls, stream = self.sink.controls(), self.stream
        for place, view in enumerate(self.plan.views):
            known, control = self.state.views[view.name], controls.get(view.name)
            in_sink = control.generation if control is not None else 0
            is_ours = control is not None and control.holder == self.state.identity
            if control is not None and not is_ours and known.generation and in_sink > known.generation:
                raise UsageError(
                    f"{self.sink.uri}: expected {view.name} of generation {known.generation}, which this state feeds, "
                    f"got {in_sink} of another program; mend: use the state of that one, or start with an empty state"
                )
            is_same = is_ours and in_sink == known.generation and control is not None
            if not (is_same and control is not None and control.fingerprint == view.fingerprint and known.generation):
                known.generation = max(known.generation, in_sink) + 1
                known.epoch, known.rows = known.epoch + 1, 0
                if known.stage in ("pruning", "live"):
                    known.stage = "giving"  # another sink than the one that took its rows so far
            elif control is not None and control.backfilled != known.floor:
                known.epoch += 1
            known.floor = control.backfilled if control is not None else 0
            stream.generations[place], stream.epochs[place] = known.generation, known.epoch
            stream.floor[place] = known.floor

    def _control(self, name: str, fingerprint: str) -> Control:
        known = self.state.views[name]
        return Control(
            generation=known.generation, fingerprint=fingerprint, holder=self.state.identity, backfilled=known.floor
        )

    def _reorder(self) -> Reorder | None:
        if self.settings.lateness_seconds is None:
            return None
        lateness = round(self.settings.lateness_seconds * 1e6)
        return Reorder(lateness, self.state.waiting(), self.state.facts.get("released", -1))

    def _at(self, *stages: str) -> list[int]:
        """The places of the views that are at some stages."""
        return [place for place, view in enumerate(self.plan.views) if self.state.views[view.name].stage in stages]

    def _quiet(self) -> None:
        silent = self._at("filling", "rebuilding")
        self.stream.network.silent = set(silent)
        self.report.silent = [self.plan.views[place].name for place in silent]

    # What is done beside following ------------------------------------------------------------------------------------

    def _catch_up(self) -> Iterator[list[Entry]]:
        """Rebuilds views, and gives each row of those that are right: a step for each transaction, with its rows."""
        yield from self._rebuild(self._at("rebuilding"))
        for place in self._at("giving"):
            yield from self._give(place)

    def _rebuild(self, places: Sequence[int]) -> Iterator[list[Entry]]:
        """Brings all known documents into the cells of views that are new or changed."""
        network, done = self.stream.network, 0
        for family, numbers in enumerate(network.plan.of_family):
            some = [number for number in numbers if network.plan.places[number][0] in places]
            for path in self.state.documents(self.plan.families[family].pattern.text) if some else ():
                network.rebuild(family, path, some)
                done += 1
                if done % _CHUNK == 0:
                    yield []
        for place in places:
            self.state.views[self.plan.views[place].name].stage = "giving"
        if places:
            self._quiet()
            yield []

    def _give(self, place: int) -> Iterator[list[Entry]]:
        """Gives each row of a view that was not given in this generation."""
        name = self.plan.views[place].name
        row_ids = self.stream.cells.row_ids(place)
        while some := list(islice(row_ids, _CHUNK)):
            yield [Entry(name, row) for _, row in self.stream.render(place, some)]
        self.state.views[name].stage = "pruning"
        yield []

    def _work_behind(self, seconds: float) -> None:
        """Takes steps of it for some time, each a transaction; then prunes."""
        deadline = self.clock() + seconds
        while self._behind is not None and self.clock() < deadline:
            entries = next(self._behind, None)
            if entries is None:
                self._behind = None
                self._prune()
            else:
                self._commit(Progress(entries=entries))

    # The loop ---------------------------------------------------------------------------------------------------------

    def run(self, should_stop: Callable[[], bool]) -> StreamReport:
        """Follows the sources; see `follow`."""
        number = self.report.changes
        for batch, positions in self._gathered(self.bounded, should_stop):
            self._transact(batch, positions)
        if should_stop():
            return self.report
        if self.reorder is not None and (self.report.changes > number or not self.unbounded):
            self._transact([], {}, is_end=True)  # a snapshot's last commit is whole, too
        for place in self._at("filling"):
            self.state.views[self.plan.views[place].name].stage = "giving"
        self._quiet()
        self._work_behind(_BEHIND_SECONDS if self.unbounded else float("inf"))
        for batch, positions in self._gathered(self.unbounded, should_stop):
            self._transact(batch, positions)
            self._work_behind(_BEHIND_SECONDS)
        return self.report

    def _gathered(
        self, sources: Sequence[Source], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[list[Change | DeadLetter], dict[str, str]]]:
        """The changes of some sources, as many together as come within the coalescing window."""
        for source in sources:
            batch: list[Change | DeadLetter] = []
            positions: dict[str, str] = {}
            deadline = 0.0
            for more, position in source.follow(self.positions.get(source.uri)):
                if not batch:
                    deadline = self.clock() + self.settings.coalesce_seconds
                batch += more
                positions[source.uri] = position
                is_ending = should_stop()
                if len(batch) >= _MOST or self.clock() >= deadline or is_ending:
                    yield batch, positions
                    batch, positions = [], {}
                if is_ending:
                    return
            if positions:
                yield batch, positions

    def _transact(
        self, batch: Sequence[Change | DeadLetter], positions: dict[str, str], *, is_end: bool = False
    ) -> None:
        """One transaction: changes in, rows into the outbox; then the outbox into the sink."""
        progress = Progress(positions=positions)
        changes = self._changes(batch)
        if self.reorder is not None:
            changes = self._held(self.reorder, changes, progress, is_end=is_end)
        self._apply(changes)
        self.report.dirty = sum(map(len, self.stream.network.dirty))
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

    def _changes(self, batch: Sequence[Change | DeadLetter]) -> list[Change]:
        changes: list[Change] = []
        newest = self.state.facts.get("newest", 0)
        for one in batch:
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
        network, number = self.stream.network, len(self.letters)
        try:
            for change in changes:
                network.observe(change)
            return
        except Exception as error:  # a bug of ours: users' functions are told where they are called
            if not self.state.roll_back():
                raise BoilerBeamError(
                    f"a step raised {type(error).__name__}: {error}; mend: with --state sqlite:PATH the change that "
                    "it raised for is a dead letter, and the others go on"
                ) from error
            network.forget()
            del self.letters[number:]
            if len(changes) == 1:
                message = f"a step raised {type(error).__name__}: {error}"
                self.letters.append(dead_letter_of("row", "step_raised", message, changes[0]))
                return
        for change in changes:
            self._apply([change])
            self._commit(Progress(entries=self._rendered()))

    def _rendered(self) -> list[Entry]:
        """The dirty rows, on their way out."""
        names = [view.name for view in self.plan.views]
        return [Entry(names[place], row) for place, row in self.stream.rows()]

    def _commit(self, progress: Progress) -> None:
        state, stream, report = self.state, self.stream, self.report
        progress.entries += [Entry("", None, letter) for letter in self.letters]
        report.dead_letters += len(self.letters)
        self.letters.clear()
        for name, number in stream.network.take_counts():
            state.facts[name] = state.facts.get(name, 0) + number
        for place, view in enumerate(self.plan.views):
            state.views[view.name].rows += stream.standing[place]
            stream.standing[place] = 0
            report.rows[view.name] = state.views[view.name].rows
        state.commit(progress)
        self._send()
        report.documents = state.facts.get("documents", 0)
        self.told(report)

    def _send(self) -> None:
        """Brings what was committed to where it goes; it leaves the outbox with the next transaction."""
        entries = self.state.outbox()
        if not entries:
            return
        targets = {view.name: view.target for view in self.plan.views}
        rows = [
            (targets[entry.view], entry.row) for entry in entries if entry.row is not None and entry.view in targets
        ]
        if rows:
            self.writer.write(rows)
        for view, row in rows:
            counts = self.report.deleted if row.fields is None else self.report.written
            counts[view.name] = counts.get(view.name, 0) + 1
        if self.dead_letters is not None:
            letters = [entry.letter for entry in entries if entry.letter is not None]
            for letter in letters:
                self.dead_letters.write(letter)
            if letters:
                self.dead_letters.flush()
        self.state.sent()

    # The end of the snapshot ------------------------------------------------------------------------------------------

    def _prune(self) -> None:
        """Deletes the rows of older generations that this one did not compute (S13), where that is safe."""
        progress = Progress()
        for place in self._at("pruning"):
            view = self.plan.views[place]
            known = self.state.views[view.name]
            standing = [row.path for row in self.sink.standing(view.target) if row.stamp.generation < known.generation]
            (given, untold), mask_of = self.stream.left(place), view.paths.mask_of
            old = [path for path in standing if path not in given]
            going = [path for path in old if path not in untold and mask_of(path) not in untold]
            refusal = self._refusal(place, len(going), len(standing) + known.rows)
            if refusal is not None:
                self.report.refusals.append(f"{view.name}: {refusal}")
                continue
            if self.settings.prune != "none":
                stamp = Stamp(known.generation, self.state.facts.get("newest", 0), 0)
                progress.entries += [Entry(view.name, Row(path, stamp, None)) for path in going]
            if len(going) == len(old):  # else a row that can't be told keeps what stands, and is looked at again
                known.stage = "live"
        self._commit(progress)

    def _refusal(self, place: int, going: int, standing: int) -> str | None:
        """Why it is not safe to prune so many of a view's rows; None where it is."""
        pattern = self.plan.families[self.plan.views[place].root.family].pattern.text
        is_dead = pattern in self.state.dead_collections or self.state.facts.get(f"invalid {pattern}", 0) > 0
        return refusal_to_prune(self.settings.prune, going, standing, is_root_dead=is_dead)
