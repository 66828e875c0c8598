"""The step at a row: what its aggregates hold, until it is rendered; and what of it is given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from boiler_beam.events import DeadLetter
from boiler_beam.models import DomainModel
from boiler_beam.plan import Edge, Group, ViewPlan
from boiler_beam.steps.newest import digest_of
from boiler_beam.steps.row import Copy, is_missing, render
from boiler_beam.steps.stream.cells import Emitted, RowCell
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.values import from_wire

__all__ = ["GONE", "UNKNOWN", "UNTOLD", "Row", "doubted", "emit", "stands"]

GONE, UNTOLD = b"", b"?"
"""Instead of a digest: of a deleted row, of one that could never be told."""
UNKNOWN = -1
"""The epoch of what the sink was seen to hold differently."""


class Row:
    """Key: a view and a row. Adds up what its aggregates hold; `render` says which copies there are of it.

    Shown(org1, users/u1, member +1, num_users +1)     org1 exists, has one user
    Shown(org1, tickets/t1, num_attending +1)          and one who attends
    Shown(org1, users/u1, member -1, num_users -1)     it has no member, and is no row
    """

    def __init__(self, plan: StreamPlan, refuse: Callable[[DeadLetter], None]) -> None:
        self.plan, self.refuse = plan, refuse
        views = plan.plan.views
        self._views = [views[place] for place, _ in plan.edges]
        self._required = [[edge for edge in view.edges if is_missing(edge, {})] for view in views]

    def added(self, cell: RowCell, edge: int, place: int, path: str, value: Any, weight: int) -> None:
        """An aggregate has a value so many times more or less."""
        fold = self._views[edge].aggregates[place].fold
        if fold.keeps == "distinct":
            cell.states[place] = cell.states.get(place, 0) + weight
            return
        known = from_wire(value)
        if fold.keeps == "ranking":
            cell.rankings[place].add(fold.rank(path, known), weight, value)
            return
        state = cell.states.get(place)
        if state is None:
            state = cell.states[place] = fold.empty()
        for _ in range(abs(weight)):
            (fold.add if weight > 0 else fold.retract)(state, path, known)

    def owned(self, cell: RowCell, weight: int, key: Any) -> None:
        """A group has so many members more or less."""
        cell.members += weight
        if weight > 0:
            cell.key = tuple(key) if isinstance(key, list) else key

    def render(
        self,
        cell: RowCell,
        place: int,
        row_id: str,
        reached: Callable[[str], Mapping[str, DomainModel]],
        value: Callable[[Edge], Any] | None = None,
    ) -> Sequence[Copy]:
        """The copies of the row as it stands; none where there is no row.

        Args:
            cell: The row's.
            place: The view's place in the plan.
            row_id: The row.
            reached: The documents that it has over an edge, by the edge's name.
            value: What a getter reads of an edge, where that is known already.
        """
        view = self.plan.plan.views[place]
        is_group = isinstance(view.root, Group)

        def is_there(edge: Edge) -> bool:
            return value(edge) is not None if value is not None else bool(reached(edge.name))

        if not (cell.members > 0 if is_group else is_there(view.root)):
            cell.refused = ()
            if self.plan.is_local:
                cell.key = None
                cell.states.clear()  # nothing is added to a row that nothing makes
            return ()
        for edge in self._required[place]:
            if not is_there(edge):
                cell.refused = ()
                return ()
        key = cell.key if is_group else row_id[row_id.rfind("/") + 1 :]
        letters: list[DeadLetter] = []
        copies = render(view, row_id, key, reached, lambda one: self._aggregate(cell, view, one), letters.append, value)
        if letters or cell.refused:
            self._refuse(cell, letters)
        return copies

    def _refuse(self, cell: RowCell, letters: Sequence[DeadLetter]) -> None:
        """Gives what was not given when it was rendered last."""
        digests = tuple(map(digest_of, letters))
        for letter, which in zip(letters, digests, strict=True):
            if which not in cell.refused:
                self.refuse(letter)
        cell.refused = digests

    def _aggregate(self, cell: RowCell, view: ViewPlan, place: int) -> Any:
        fold = view.aggregates[place].fold
        if fold.keeps == "distinct":
            return cell.states.get(place, 0)
        if fold.keeps == "state":
            return fold.result(cell.states[place] if place in cell.states else fold.empty())
        state = fold.empty()
        for value in cell.rankings[place].first(fold.limit):
            fold.add(state, "", from_wire(value))
        return fold.result(state)

    def touch(self, cell: RowCell, path: str, read_time: int) -> None:
        """A backfill found another row at a path: it is given again, not older than that, be it a deletion (S16)."""
        cell.version = max(cell.version, read_time)
        cell.emitted[path] = doubted(cell.emitted.get(path))

    def emissions(
        self, cell: RowCell, place: int, copies: Sequence[Copy], version: int, epoch: int, now: int | None = None
    ) -> Iterator[tuple[str, Emitted | None, Emitted, bytes | None]]:
        """What is to be given of a row's copies: path, last and new stamp, and fields or None where there is none."""
        paths, emitted = self.plan.plan.views[place].paths, cell.emitted
        untold: set[str] = set()
        for path, fields, _ in copies:
            if fields is None:
                untold.add(path)
                if path not in emitted:
                    emitted[path] = Emitted(0, 0, UNTOLD, epoch)
                continue
            last = emitted.get(path)
            new = emit(last, version, fields, epoch, now)
            if new is not None:
                emitted[path] = new
                yield path, last, new, fields
        if len(emitted) == len(copies):  # each of them is in it now
            return
        wanted = {copy.path for copy in copies}
        for path in [path for path in emitted if path not in wanted]:
            if untold and paths.mask_of(path) in untold:
                continue
            last = emitted[path]
            if last.digest == UNTOLD and Copy(path, None).is_mask:
                del emitted[path]
                continue
            new = emit(last, version, None, epoch, now)
            if new is not None:
                emitted[path] = new
                yield path, last, new, None


def doubted(last: Emitted | None, *, is_refused: bool = False) -> Emitted:
    """What was given last, where it is not known whether the sink holds it (S14, S16).

    Args:
        last: What was given last.
        is_refused: Whether the sink refused it, so that nothing stands there where nothing stood before.
    """
    if last is None:
        return Emitted(0, 0, GONE, UNKNOWN)
    return Emitted(last.version, last.seq, GONE if is_refused and last.is_new else last.digest, UNKNOWN)


def stands(last: Emitted | None, epoch: int) -> bool:
    """Whether there is a row of this epoch where that was given last."""
    return last is not None and last.digest not in (GONE, UNTOLD) and last.epoch in (epoch, UNKNOWN)


def emit(
    last: Emitted | None, version: int, fields: bytes | None, epoch: int, now: int | None = None
) -> Emitted | None:
    """The stamp under which a path is given; None where the sink holds what it shall hold (S9, S13, S14).

    Args:
        last: What was given last.
        version: The row's version.
        fields: What it shall hold; None: nothing.
        epoch: The present one.
        now: The time in microseconds, where what was given last may have been forgotten by a rollback after it was
            written (S15): then the sink must decide whether something changed, and the newer one is told by the clock.

    >>> first = emit(None, 7, b"{}", 1)
    >>> first.version, first.seq, emit(first, 9, b"{}", 1), emit(first, 9, b"{}", 2).seq
    (7, 7, None, 9)
    """
    digest = GONE if fields is None else hashlib.blake2b(fields, digest_size=16).digest()
    if last is None:
        return None if fields is None else Emitted(version, max(version, now or 0), digest, epoch, True)
    if now is None and last.epoch == epoch and last.digest == digest:
        return None
    seq, is_new = max(version, last.seq + 1, now or 0), not stands(last, epoch)
    return Emitted(max(version, last.version), seq, digest, epoch, is_new)
