"""The embedded engine's stream: sources -> state -> sink, so that a kill at any instant loses and doubles nothing.

    a batch of changes -> steps -> [cells, outbox, positions: one transaction] -> sink -> next batch

What is in the outbox when the program starts is sent again: sinks take the same stamp twice (S20).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from boiler_beam.connectors.base import Control, Sink, Source, StreamWriter
from boiler_beam.connectors.dead_letters import DeadLetterWriter
from boiler_beam.engine.reorder import Reorder
from boiler_beam.engine.state.base import Entry, Progress, State
from boiler_beam.engine.stream import Stream
from boiler_beam.engine.write import Prune, allowed
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, DeadLetter, Row, Stamp
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import dead_letter_of, families_lost

__all__ = ["Following", "Settings", "StreamReport", "follow"]

_MOST = 10_000
"""Changes of one transaction."""
_REBUILT = 1_000
"""Documents that a changed view takes in one transaction."""


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
        dirty: How many rows wait to be rendered, because their documents are not all in.
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
        sources: They are read in this order; the unbounded one last.
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
    with sink.stream([view.target for view in plan.views]) as writer:
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
        self._check_collections()
        was_new = state.is_new
        cells = state.open(plan)
        self.positions = state.positions()
        for source in self.unbounded:
            if not (self.bounded or settings.from_empty or source.uri in self.positions):
                raise UsageError(
                    f"{source.uri}: expected a snapshot to begin with, got an empty state and no bounded source; "
                    "mend: add --source with the documents, or --from_empty if there are none yet"
                )
        self.is_gated = was_new and bool(self.unbounded) and bool(self.bounded)
        generations = self._generations(was_new)
        self.stream = Stream(plan, self.letters.append, generations, cells)
        self.stream.network.document.horizon = 0 if was_new else state.facts.get("horizon", 0)
        self.reorder = self._reorder()
        self._resume(was_new)

    # Start ------------------------------------------------------------------------------------------------------------

    def _check_collections(self) -> None:
        known = self.state.collections()
        missing = [family.pattern.text for family in self.plan.families if family.pattern.text not in known]
        if missing and not self.state.is_new and self.state.is_durable:
            raise UsageError(
                f"--state: expected one that watched {', '.join(missing)}, got one whose views did not read them; "
                "mend: start with another --state, from a snapshot that has these collections"
            )

    def _generations(self, was_new: bool) -> dict[str, int]:
        """The generation of each view's rows; those of views that begin anew go into the sink first (S13, S18)."""
        controls, found = self.sink.controls(), {}
        self.again: list[str] = []
        for view in self.plan.views:
            known, control = self.state.views[view.name], controls.get(view.name)
            in_sink = control.generation if control is not None else 0
            is_ours = control is not None and control.holder == self.state.identity
            if not is_ours and not was_new and in_sink > known.generation and known.is_built:
                raise UsageError(
                    f"{self.sink.uri}: expected {view.name} of generation {known.generation}, which this state feeds, "
                    f"got {in_sink} of another program; mend: use the state of that one, or start with an empty state"
                )
            if is_ours and known.is_built and known.generation:
                found[view.name] = known.generation
                continue
            if known.is_built and not was_new:
                self.again.append(view.name)  # another sink than the one that took its rows so far
            found[view.name] = known.generation = max(known.generation, in_sink) + 1
            known.is_complete, known.rows = False, 0
        self.controls = controls
        return found

    def _reorder(self) -> Reorder | None:
        if self.settings.lateness_seconds is None:
            return None
        lateness = round(self.settings.lateness_seconds * 1e6)
        return Reorder(lateness, self.state.waiting(), self.state.facts.get("released", -1))

    def _resume(self, was_new: bool) -> None:
        """Takes up what an earlier run left."""
        network, places = self.stream.network, {view.name: place for place, view in enumerate(self.plan.views)}
        for name in self.again:
            self.state.forget_rows(name)
            network.dirty.update(dict.fromkeys((places[name], row_id) for row_id in self.state.rows(name)))
        for view in self.plan.views:
            control = self.controls.get(view.name)
            if control is not None and control.backfilled and view.name not in self.again and not was_new:
                self.state.forget_rows(view.name)
            if control is not None:
                self.stream.floor[places[view.name]] = control.backfilled
        unbuilt = [name for name, one in self.state.views.items() if not one.is_built]
        self.stream.silent = {places[name] for name in unbuilt}
        if self.is_gated:
            self.stream.silent = set(places.values())
        self._rebuilding = self._rebuild(unbuilt, places)
        self.state.commit(Progress())
        self.writer.control(
            {
                view.name: Control(
                    generation=self.state.views[view.name].generation,
                    fingerprint=view.fingerprint,
                    holder=self.state.identity,
                    backfilled=0 if was_new else self.stream.floor[places[view.name]],
                )
                for view in self.plan.views
            }
        )
        self._send()

    def _rebuild(self, unbuilt: list[str], places: dict[str, int]) -> Iterator[None]:
        """Brings all known documents into the cells of views that changed, some in each transaction."""
        wanted = {places[name] for name in unbuilt}
        numbers = {
            family: [number for number in some if self.stream.network.plan.places[number][0] in wanted]
            for family, some in enumerate(self.stream.network.plan.of_family)
        }
        done = 0
        for family, some in numbers.items():
            for path in self.state.documents(self.plan.families[family].pattern.text) if some else ():
                self.stream.network.rebuild(family, path, some)
                done += 1
                if done % _REBUILT == 0:
                    yield
        for name in unbuilt:
            self.state.views[name].is_built = True
            if not self.is_gated:
                self.stream.silent.discard(places[name])
        if unbuilt:
            yield

    # The loop ---------------------------------------------------------------------------------------------------------

    def run(self, should_stop: Callable[[], bool]) -> StreamReport:
        """Follows the sources; see `follow`."""
        self._transact([], {})  # what is dirty already: of a sink that is new to this state
        for batch, positions in self._gathered(self.bounded, should_stop):
            self._transact(batch, positions)
        if should_stop():
            return self.report
        for _ in self._rebuilding:
            self._transact([], {})
        if self.is_gated:
            self.is_gated = False
            self.stream.silent.clear()
        if not self.unbounded:
            self._transact([], {}, is_end=True)
        if self.bounded:
            self._prune()
        for batch, positions in self._gathered(self.unbounded, should_stop):
            self._transact(batch, positions)
            next(self._rebuilding, None)
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
                if len(batch) >= _MOST or self.clock() >= deadline or should_stop():
                    yield batch, positions
                    batch, positions = [], {}
                if should_stop():
                    return
            if positions:
                yield batch, positions

    def _transact(
        self, batch: Sequence[Change | DeadLetter], positions: dict[str, str], *, is_end: bool = False
    ) -> None:
        """One transaction: changes in, rows into the outbox; then the outbox into the sink."""
        next(self._rebuilding, None)
        progress = Progress(positions=positions)
        changes = self._changes(batch)
        if self.reorder is not None:
            progress.pushed = [change for change in changes if not self.reorder.is_late(change)]
            changes = [ready for change in changes for ready in self.reorder.push(change)]
            if is_end:
                changes += self.reorder.rest()
            progress.released = self.state.facts["released"] = self.reorder.released
            progress.pushed = [change for change in progress.pushed if not self.reorder.is_late(change)]
            self.report.late = self.reorder.late
        self._apply(changes)
        names = [view.name for view in self.plan.views]
        progress.entries = [Entry(names[place], row) for place, row in self.stream.placed_rows()]
        self._commit(progress)

    def _changes(self, batch: Sequence[Change | DeadLetter]) -> list[Change]:
        changes: list[Change] = []
        newest = self.state.facts.get("newest", 0)
        for one in batch:
            if isinstance(one, DeadLetter):
                self.letters.append(one)
                for family in families_lost(self.plan, one):
                    self.state.dead_collections.add(self.plan.families[family].pattern.text)
                continue
            changes.append(one)
            newest = max(newest, one.version)
        self.state.facts["newest"] = self.report.newest = newest
        self.report.changes += len(changes)
        return changes

    def _apply(self, changes: Sequence[Change]) -> None:
        """Runs the steps; a change that makes one raise is undone alone (S21)."""
        dirty = dict(self.stream.network.dirty)
        documents = self.stream.network.number_of_documents
        number = len(self.letters)
        try:
            self.stream.put(changes)
            return
        except Exception as error:
            if not self.state.roll_back():
                raise BoilerBeamError(
                    f"a step raised {type(error).__name__}: {error}; mend: with --state sqlite:PATH the change that "
                    "it raised for is a dead letter, and the others go on"
                ) from error
            if len(changes) == 1:
                self._undo(dirty, documents, number)
                message = f"a step raised {type(error).__name__}: {error}"
                self.letters.append(dead_letter_of("row", "step_raised", message, changes[0]))
                return
        self._undo(dirty, documents, number)
        for change in changes:
            self._apply([change])
            self._commit(Progress())

    def _undo(self, dirty: dict[tuple[int, str], None], documents: int, number: int) -> None:
        network = self.stream.network
        network.forget()
        network.dirty.update(dirty)
        network.number_of_documents = documents
        del self.letters[number:]

    def _commit(self, progress: Progress) -> None:
        state, stream = self.state, self.stream
        progress.entries += [Entry("", None, letter) for letter in self.letters]
        for letter in self.letters:
            if letter.code in ("invalid_document", "unknown_subclass") and letter.path is not None:
                families = self.plan.families_of(letter.path)
                state.dead_collections.update(self.plan.families[family].pattern.text for family in families)
        self.report.dead_letters += len(self.letters)
        self.letters.clear()
        state.facts["documents"] = state.facts.get("documents", 0) + stream.network.number_of_documents
        stream.network.number_of_documents = 0
        for place, view in enumerate(self.plan.views):
            state.views[view.name].rows += stream.standing[place]
            stream.standing[place] = 0
            self.report.rows[view.name] = state.views[view.name].rows
        state.commit(progress)
        self._send()
        self.report.documents, self.report.dirty = state.facts["documents"], len(stream.network.dirty)
        self.told(self.report)

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
            for entry in entries:
                if entry.letter is not None:
                    self.dead_letters.write(entry.letter)
            self.dead_letters.flush()
        self.state.sent()

    # The end of the snapshot ------------------------------------------------------------------------------------------

    def _prune(self) -> None:
        """Deletes the rows of older generations that this one did not compute (S13), where that is safe."""
        progress = Progress()
        for place, view in enumerate(self.plan.views):
            known = self.state.views[view.name]
            if known.is_complete:
                continue
            stamp = Stamp(known.generation, self.state.facts.get("newest", 0), 0)
            standing = list(self.sink.standing(view.target))
            going = [
                row.path
                for row in standing
                if row.stamp.generation < known.generation and not self.stream.is_left(place, row.path)
            ]
            is_dead = self.plan.families[view.root.family].pattern.text in self.state.dead_collections
            refusal = None
            if going and self.settings.prune == "safe" and is_dead:
                refusal = f"{len(going):,} rows were not computed, and a document that makes rows is dead or unreadable"
            elif going and self.settings.prune == "safe" and len(going) > allowed(len(standing)):
                refusal = f"{len(going):,} of {len(standing):,} rows would go, more than {allowed(len(standing)):,}"
            if refusal is not None:
                self.report.refusals.append(f"{view.name}: {refusal}")
                continue
            if self.settings.prune != "none":
                progress.entries += [Entry(view.name, Row(path, stamp, None)) for path in going]
            known.is_complete = True
        self._commit(progress)
