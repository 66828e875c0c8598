"""The phases of a stream's views: choosing a generation, writing all rows once, pruning (S13, S18).

`boiler_beam.engine.state.base.Phase` describes the phases.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from boiler_beam.connectors.base import Control, Sink
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.state.base import OutboxEntry, Phase, State, StateUpdate
from boiler_beam.engine.write import Prune, refusal_to_prune
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, Stamp
from boiler_beam.plan import Plan

__all__ = ["Generations"]

_CHUNK = 1_000
"""Rows that are written in one transaction."""
_NO_ROWS = Control(generation=0, fingerprint="")
"""The control data of a view that no run has written to the sink."""


class Generations:
    """Brings each view of a stream to the phase `live`.

    Attributes:
        held_back: The views none of whose rows is written yet.
        refusals: Why rows were not pruned, view by view.
    """

    def __init__(self, plan: Plan, sink: Sink, state: State, engine: IncrementalEngine, prune: Prune) -> None:
        self.plan, self.sink, self.state, self.engine, self.prune_what = plan, sink, state, engine, prune
        self.held_back: list[str] = []
        self.refusals: list[str] = []

    def begin(self) -> None:
        """Chooses the generation of each view's rows, and begins a new epoch where the sink changed (S13, S16, S18)."""
        controls = self.sink.controls() if self.sink.keeps_controls else self._remembered()
        for view, of_view in zip(self.plan.views, self.engine.views, strict=True):
            known, control = self.state.views[view.name], controls.get(view.name, _NO_ROWS)
            is_ours = control.holder == self.state.identity
            if not is_ours and known.generation and control.generation > known.generation:
                raise UsageError(
                    f"{self.sink.uri}: expected {view.name} of generation {known.generation}, which this state feeds, "
                    f"got {control.generation} of another program; fix: use the state of that one, or start with an "
                    "empty state"
                )
            is_same = is_ours and control.generation == known.generation and control.fingerprint == view.fingerprint
            if not is_same or not known.generation:
                known.generation = max(known.generation, control.generation) + 1
                known.epoch, known.rows = known.epoch + 1, 0
                if known.phase in ("pruning", "live"):
                    known.phase = "emitting"  # another sink than the one that took its rows so far
            elif control.backfilled != known.floor:
                known.epoch += 1
            known.floor = control.backfilled
            rows = of_view.rows
            rows.generation, rows.epoch, rows.floor = known.generation, known.epoch, known.floor

    def _remembered(self) -> dict[str, Control]:
        """The control data of a sink that keeps none, from the state; a changed view has none."""
        changed, controls = self.state.changed_views, self.controls()
        return {name: one for name, one in controls.items() if one.generation and name not in changed}

    def controls(self) -> dict[str, Control]:
        """The control data of each view, for the sink."""
        holder, known = self.state.identity, self.state.views
        return {
            name: Control(generation=one.generation, fingerprint=one.fingerprint, holder=holder, backfilled=one.floor)
            for name, one in known.items()
        }

    def at(self, *phases: Phase) -> list[int]:
        """The indexes of the views in some phases."""
        return [index for index, view in enumerate(self.plan.views) if self.state.views[view.name].phase in phases]

    def hold_back(self) -> None:
        """Holds back the rows of views whose documents are not all read."""
        loading = self.at("loading")
        for index, view in enumerate(self.engine.views):
            view.is_held_back = index in loading
        self.held_back[:] = [self.plan.views[index].name for index in loading]

    def loaded(self) -> None:
        """Notes that the snapshot was read: rows may be written."""
        for index in self.at("loading"):
            self.state.views[self.plan.views[index].name].phase = "emitting"
        self.hold_back()

    def catch_up(self) -> Iterator[list[OutboxEntry]]:
        """Yields all rows of each view that is `emitting`, those of one transaction at a time; then it is `pruning`."""
        while indexes := self.at("emitting"):
            name, rows = self.plan.views[indexes[0]].name, self.engine.views[indexes[0]].rows
            row_ids = iter(list(rows.records))
            while some := list(islice(row_ids, _CHUNK)):
                yield [OutboxEntry(name, row) for row in rows.emit_rows(some)]
            self.state.views[name].phase = "pruning"
            yield []

    def prune(self) -> StateUpdate:
        """Deletes the rows of older generations that this one did not compute (S13), where that is safe."""
        update = StateUpdate()
        for index in self.at("pruning"):
            view = self.plan.views[index]
            known = self.state.views[view.name]
            standing = [
                row.path for row in self.sink.current_rows(view.target) if row.stamp.generation < known.generation
            ]
            (written, unknown), wildcard_of = self.engine.views[index].rows.known_paths(), view.paths.wildcard_of
            old = [path for path in standing if path not in written]
            going = [path for path in old if path not in unknown and wildcard_of(path) not in unknown]
            pattern = self.plan.collections[view.root.type_index]
            is_dead = self.state.collections[pattern] or self.state.facts.get(f"invalid {pattern}", 0) > 0
            rows_in_sink = len(standing) + known.rows
            refusal = refusal_to_prune(self.prune_what, len(going), rows_in_sink, is_root_dead=is_dead)
            if refusal is not None:
                self.refusals.append(f"{view.name}: {refusal}")
                continue
            if self.prune_what != "none":
                stamp = Stamp(known.generation, self.state.facts.get("newest", 0), 0)
                update.entries += [OutboxEntry(view.name, EncodedRow(path, stamp, None)) for path in going]
            if len(going) == len(old):  # else an unknown row stays, and pruning is tried again
                known.phase = "live"
        return update
