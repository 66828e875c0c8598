"""Rows that follow a stream of changes, in one process.

>>> import msgspec
>>> from boiler_beam.plan import compile_plan
>>> from boiler_beam.samples.meeting import OrganizationSummary
>>> stream = Stream(compile_plan([OrganizationSummary]), print)
>>> user = b'{"firstName": "Ann", "lastName": "Gray", "organization": "org1"}'
>>> for row in stream.take([Change("users/u1", 7, msgspec.Raw(user))]):
...     print(row.path, row.stamp, row.fields.decode())
organization_summaries/org1 Stamp(generation=1, version=7, seq=7) {"numAttending":0,"numHearingAid":0,"numUsers":1}
>>> list(stream.take([Change("users/u1", 7, msgspec.Raw(user))]))
[]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from boiler_beam.engine.network import Network
from boiler_beam.events import Change, DeadLetter, Row, Stamp
from boiler_beam.plan import Group, Plan
from boiler_beam.steps.missing import Absences, unmade
from boiler_beam.steps.stream import Claim, Emitted, MemoryCells, StreamPlan
from boiler_beam.steps.stream.cells import Cells
from boiler_beam.steps.stream.row import GONE, UNTOLD, doubted, stands

__all__ = ["Stream"]


class Stream:
    """Takes changes in batches, and gives the rows that each batch changes.

    Args:
        plan: The views.
        refuse: Takes the dead letters.
        cells: Where the cells are; by default in memory.

    Attributes:
        network: The steps.
        generations: The generation of each view's rows (S13).
        epochs: Of each view: what was given in an earlier epoch is not known to be what the sink holds (S14).
        floor: Of each view, the version that every stamp has at the least: that of a backfill in between (S16).
        standing: Of each view, how many rows more stand than when it was opened.
        failing: Of each view, how many rows more could not be told when they were rendered last.
    """

    def __init__(self, plan: Plan, refuse: Callable[[DeadLetter], None], cells: Cells | None = None) -> None:
        self.plan = plan
        numbered = StreamPlan(plan, is_local=True)
        self.cells: Cells = MemoryCells(numbered) if cells is None else cells
        self.network = Network(numbered, refuse, self.cells)
        self.generations = [1 for _ in plan.views]
        self.epochs, self.floor, self.standing, self.failing = ([0 for _ in plan.views] for _ in range(4))
        self._claim = Claim(numbered, refuse)
        self._contested: list[dict[str, int]] = [{} for _ in plan.views]
        """Of each view the paths whose claims changed, with the version that touched them."""
        self._is_unique = [view.paths.is_unique for view in plan.views]

    def take(self, batch: Iterable[Change]) -> Iterator[Row]:
        """Takes changes; gives each row that they changed once, with fields None where it is gone."""
        for change in batch:
            self.network.observe(change)
        return (row for _, row in self.rows())

    def touch(self, place: int, path: str, read_time: int) -> None:
        """A backfill found another row at a path, or one that should not be (S16): it is given, not older than that."""
        if self._is_unique[place]:
            row_ids = [self.plan.views[place].paths.row_id_of(path)]
        else:
            claim = self.cells.claim(place, path)
            claim.emitted = doubted(claim.emitted)
            row_ids = [row_id for row_id, _ in claim.claims.items()]
        is_silent = place in self.network.silent  # then all rows are given later
        if not is_silent and not self._is_unique[place]:
            self._contested[place][path] = read_time
        for row_id in row_ids:
            self.network.row.touch(self.cells.row(place, row_id), path, read_time)
            if not is_silent:
                self.network.dirty[place][row_id] = None

    def doubt(self, place: int, path: str) -> int:
        """The sink refused a row: what stands at its path is not known, and its next change is given (S14).

        Returns:
            How many rows stand less than were counted: 1 where none stood there before.
        """
        if self._is_unique[place]:
            emitted = self.cells.row(place, self.plan.views[place].paths.row_id_of(path)).emitted
            last = emitted.get(path)
            emitted[path] = new = doubted(last, is_refused=True)
        else:
            claim = self.cells.claim(place, path)
            last = claim.emitted
            claim.emitted = new = doubted(last, is_refused=True)
        return int(last is not None and last.digest != GONE and new.digest == GONE)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The dirty rows that differ from what was given of them last, each with its view's place."""
        for place, dirty in enumerate(self.network.dirty):
            row_ids = list(dirty)
            dirty.clear()
            yield from self.render(place, row_ids)

    def render(self, place: int, row_ids: Iterable[str]) -> Iterator[tuple[int, Row]]:
        """Of some rows of a view those that differ from what was given of them last."""
        network, cells, epoch = self.network, self.cells, self.epochs[place]
        render, emissions, floor = network.row.render, network.row.emissions, self.floor[place]
        contested = self._contested[place]
        for row_id in row_ids:
            cell = cells.row(place, row_id)
            version = max(cell.version, floor)
            over = network.over(place, row_id, cell.values)
            was_failing = bool(cell.refused)
            copies = render(cell, place, row_id, over, over.value)
            self.failing[place] += bool(cell.refused) - was_failing
            cell.read = -1 if None in [copy.fields for copy in copies] else over.read
            for path, last, new, fields in emissions(cell, place, copies, version, epoch):
                if self._is_unique[place]:
                    yield self._row(place, path, last, new, fields)
                    continue
                self._claim.claimed(cells.claim(place, path), place, path, row_id, new.seq, fields)
                contested[path] = max(version, contested.get(path, 0))
        while contested:
            path, version = contested.popitem()
            claim = cells.claim(place, path)
            before = claim.emitted
            settled = self._claim.settle(claim, version, epoch)
            if settled is not None:
                yield self._row(place, path, before, *settled)

    def _row(self, place: int, path: str, last: Emitted | None, new: Emitted, fields: bytes | None) -> tuple[int, Row]:
        self.standing[place] += (fields is not None) - stands(last, new.epoch)
        return place, Row(path, Stamp(self.generations[place], new.version, new.seq), fields)

    def absences(self, place: int, most: int) -> Absences:
        """Why rows of a view are not there that something makes, of so many of them at the most."""
        found, view, looked_at = Absences(), self.plan.views[place], 0
        for row_id in self.cells.row_ids(place):
            cell = self.cells.row(place, row_id)
            over = self.network.over(place, row_id, cell.values)
            is_there = cell.members > 0 if isinstance(view.root, Group) else bool(over(view.root.name))
            if not is_there or cell.refused:
                continue
            looked_at += 1
            if looked_at > most:
                break
            found.add(unmade(view, over))
        return found

    def left(self, place: int) -> tuple[set[str], set[str]]:
        """The paths of rows that were given in this epoch, and the paths, or masks of paths, of those not told."""
        epoch = self.epochs[place]
        given: set[str] = set()
        untold: set[str] = set()
        for emitted in self.cells.emitted(place):
            for path, one in emitted.items():
                is_told = one.digest != UNTOLD and one.epoch == epoch  # what can be told is given in every epoch
                (given if is_told else untold).add(path)
        return given, untold
