"""The lives of a stream's views: which generation their rows are of, rebuilding, giving all rows, pruning (S13, S18).

A view's stages: see `boiler_beam.engine.state.base`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from boiler_beam.connectors.base import Control, Sink
from boiler_beam.engine.state.base import Entry, Progress, State
from boiler_beam.engine.stream import Stream
from boiler_beam.engine.write import Prune, refusal_to_prune
from boiler_beam.errors import UsageError
from boiler_beam.events import Row, Stamp
from boiler_beam.plan import Plan

__all__ = ["Generations"]

_CHUNK = 1_000
"""Documents that a changed view takes, or rows that it gives, in one transaction."""


class Generations:
    """Brings each view of a stream to the stage `live`.

    Args:
        plan: The views.
        sink: Where their rows stand.
        state: What is known of them.
        stream: Gives their rows.
        prune: What to do with rows of an older generation that this one did not compute.

    Attributes:
        silent: The views none of whose rows is given yet.
        refusals: Why rows were not pruned, view by view.
    """

    def __init__(self, plan: Plan, sink: Sink, state: State, stream: Stream, prune: Prune) -> None:
        self.plan, self.sink, self.state, self.stream, self.prune_what = plan, sink, state, stream, prune
        self.silent: list[str] = []
        self.refusals: list[str] = []

    def begin(self) -> None:
        """Says which generation each view's rows are of, and forgets what the sink no longer holds (S13, S16, S18)."""
        controls, stream = self.sink.controls() if self.sink.keeps_controls else self._remembered(), self.stream
        for place, view in enumerate(self.plan.views):
            known, control = self.state.views[view.name], controls.get(view.name)
            in_sink = control.generation if control is not None else 0
            is_ours = control is not None and control.holder == self.state.identity
            if control is not None and not is_ours and known.generation and in_sink > known.generation:
                raise UsageError(
                    f"{self.sink.uri}: expected {view.name} of generation {known.generation}, which this state feeds, "
                    f"got {in_sink} of another program; fix: use the state of that one, or start with an empty state"
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

    def _remembered(self) -> dict[str, Control]:
        """What a sink would say that keeps nothing: the state alone knows; a rebuilt view is another one."""
        views, controls = self.state.views, self.controls()
        return {name: one for name, one in controls.items() if one.generation and views[name].stage != "rebuilding"}

    def controls(self) -> dict[str, Control]:
        """What the sink is to remember of each view."""
        holder, found = self.state.identity, {}
        for view in self.plan.views:
            generation, floor = self.state.views[view.name].generation, self.state.views[view.name].floor
            found[view.name] = Control(
                generation=generation, fingerprint=view.fingerprint, holder=holder, backfilled=floor
            )
        return found

    def at(self, *stages: str) -> list[int]:
        """The places of the views that are at some stages."""
        return [place for place, view in enumerate(self.plan.views) if self.state.views[view.name].stage in stages]

    def quiet(self) -> None:
        """Keeps the rows of views back whose documents are not all in."""
        silent = self.at("filling", "rebuilding")
        self.stream.network.silent = set(silent)
        self.silent[:] = [self.plan.views[place].name for place in silent]

    def filled(self) -> None:
        """The snapshot is in: rows may be given."""
        for place in self.at("filling"):
            self.state.views[self.plan.views[place].name].stage = "giving"
        self.quiet()

    def catch_up(self) -> Iterator[list[Entry]]:
        """Rebuilds views, and gives each row of those that are right: a step for each transaction, with its rows."""
        yield from self._rebuild(self.at("rebuilding"))
        while places := self.at("giving"):
            yield from self._give(places[0])

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
            self.quiet()
            yield []

    def _give(self, place: int) -> Iterator[list[Entry]]:
        """Gives each row of a view that was not given in this generation."""
        name = self.plan.views[place].name
        row_ids = self.stream.cells.row_ids(place)
        while some := list(islice(row_ids, _CHUNK)):
            yield [Entry(name, row) for _, row in self.stream.render(place, some)]
        self.state.views[name].stage = "pruning"
        yield []

    def prune(self) -> Progress:
        """Deletes the rows of older generations that this one did not compute (S13), where that is safe."""
        progress = Progress()
        for place in self.at("pruning"):
            view = self.plan.views[place]
            known = self.state.views[view.name]
            standing = [row.path for row in self.sink.standing(view.target) if row.stamp.generation < known.generation]
            (given, untold), mask_of = self.stream.left(place), view.paths.mask_of
            old = [path for path in standing if path not in given]
            going = [path for path in old if path not in untold and mask_of(path) not in untold]
            refusal = self._refusal(place, len(going), len(standing) + known.rows)
            if refusal is not None:
                self.refusals.append(f"{view.name}: {refusal}")
                continue
            if self.prune_what != "none":
                stamp = Stamp(known.generation, self.state.facts.get("newest", 0), 0)
                progress.entries += [Entry(view.name, Row(path, stamp, None)) for path in going]
            if len(going) == len(old):  # else a row that can't be told keeps what stands, and is looked at again
                known.stage = "live"
        return progress

    def _refusal(self, place: int, going: int, standing: int) -> str | None:
        """Why it is not safe to prune so many of a view's rows; None where it is."""
        pattern = self.plan.families[self.plan.views[place].root.family].pattern.text
        is_dead = pattern in self.state.dead_collections or self.state.facts.get(f"invalid {pattern}", 0) > 0
        return refusal_to_prune(self.prune_what, going, standing, is_root_dead=is_dead)
