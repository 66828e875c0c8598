"""The keyed stages of rows: distinct values and rankings of aggregates, the rows themselves, and contested paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from boiler_beam.events import Change, Row, Stamp
from boiler_beam.steps.keyed.held import Holding
from boiler_beam.steps.keyed.logs import LogHeld, Sizes
from boiler_beam.steps.keyed.rank import RankHead, rank
from boiler_beam.steps.keyed.stage import Cell, HeadCodec, Output, Stage
from boiler_beam.steps.keyed.tiers import TIERS, Bounds, LogRanking
from boiler_beam.steps.stream.cells import ClaimCell, Emitted, RowCell
from boiler_beam.steps.stream.claims import Claim
from boiler_beam.steps.stream.distinct import Distinct
from boiler_beam.steps.stream.messages import Added, Claimed, Counted, Doubted, Message, Ranked, Shown
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.row import GONE, doubted
from boiler_beam.steps.stream.row import Row as RowStep
from boiler_beam.values import from_wire, to_wire

__all__ = ["ClaimStage", "DistinctStage", "RankStage", "RowStage"]


class _DistinctHead(msgspec.Struct, array_like=True):
    number: int = 0


class _RankHead(msgspec.Struct, array_like=True):
    given: RankHead = msgspec.field(default_factory=RankHead)
    bounds: Bounds = msgspec.field(default_factory=Bounds)


class _RowHead(msgspec.Struct, array_like=True, eq=False):
    version: int = 0
    members: int = 0
    key: Any = None
    states: dict[int, Any] = {}
    ranked: dict[int, tuple[int, list[Any]]] = {}
    emitted: dict[str, Emitted] = {}
    read: int = -1
    held: Sizes = msgspec.field(default_factory=Sizes)
    is_dirty: bool = False
    refused: tuple[bytes, ...] = ()


class _ClaimHead(msgspec.Struct, array_like=True):
    claims: dict[str, tuple[int, bytes | None]] = {}
    emitted: Emitted | None = None


class DistinctStage(Stage):
    """See `Distinct`."""

    def __init__(self, plan: StreamPlan, label: str, output: Output) -> None:
        super().__init__(plan, label, output)
        self._codec, self._step = HeadCodec(_DistinctHead), Distinct(self.out)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Counted)
        head: _DistinctHead = self._codec.read(cell)
        edge, place, row, value = message.edge, message.aggregate, message.row, message.value
        head.number = self._step.counted(head.number, edge, place, row, value, message.weight, message.version)
        if head.number:
            self._codec.write(cell, head)
        else:
            cell.write(None)


class RankStage(Stage):
    """See `rank`."""

    number_of_logs = TIERS

    def __init__(self, plan: StreamPlan, label: str, output: Output, place: int) -> None:
        super().__init__(plan, label, output)
        self.fold = plan.plan.views[0].aggregates[place].fold
        self._codec = HeadCodec(_RankHead)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Added)
        head: _RankHead = self._codec.read(cell)
        ranking = LogRanking(cell.logs, head.bounds, Any, max(64, 2 * (self.fold.limit or 0)))
        for value, weight in message.values:
            ranking.add(self.fold.rank(message.path, from_wire(value)), weight, value)
        if rank(head.given, ranking, self.fold.limit, message.version):
            given = head.given
            self.output.post(Ranked(message.aggregate, key, given.values, given.sequence, message.version))
        self._codec.write(cell, head)


class _Values:
    """The first values of an aggregate, as they came."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def add(self, key: bytes, weight: int, item: Any, /) -> None:
        """See `Ranking`."""
        raise NotImplementedError("values are added where they are kept")

    def first(self, limit: int | None, /) -> list[Any]:
        """See `Ranking`."""
        return self.values


class RowStage(Stage):
    """See `Row`: keeps what came; `render` gives what is to be given of it.

    Args:
        plan: The views.
        label: `Row`.
        output: Where it goes.
        generation: Of the rows (S13).
        clock: The time in microseconds, where the runner may roll back what was written already (S15); None where only
            what is committed reaches the sink.
    """

    number_of_logs = 1

    def __init__(
        self,
        plan: StreamPlan,
        label: str,
        output: Output,
        generation: int = 1,
        clock: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(plan, label, output)
        self.generation, self.clock = generation, clock
        self._codec, self._step = HeadCodec(_RowHead), RowStep(plan, output.refuse)
        self._is_unique = plan.plan.views[0].paths.is_unique

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        """See `Stage`."""
        self.receive(cell, key, message)

    def receive(self, cell: Cell, key: str, message: Change | Message) -> bool:
        """Like `take`; gives whether the row got dirty by it: somebody must `render` it then."""
        head: _RowHead = self._codec.read(cell)
        row = self._row(head)
        is_seen = True
        match message:
            case Shown():
                held = LogHeld(cell.logs[0], head.held)
                held.change(message.edge, message.path, message.weight, message.old, message.new)
                for place, value, times in message.parts:
                    self._step.added(row, message.edge, place, message.path, value, times)
                if message.member is not None:
                    self._step.owned(row, *message.member)
                is_seen = bool(message.parts or message.member is not None or head.read >> message.edge & 1)
            case Ranked():
                known = head.ranked.get(message.aggregate)
                if known is None or known[0] < message.sequence:
                    head.ranked[message.aggregate] = message.sequence, message.values
            case Doubted():
                self._step.touch(row, message.path, message.version)
            case _:
                raise AssertionError(f"{self.label} takes no {type(message).__name__}")
        assert not isinstance(message, Change)
        head.version = max(head.version, message.version)
        gets_dirty = is_seen and not head.is_dirty
        head.is_dirty = head.is_dirty or is_seen
        self._write(cell, head, row)
        return gets_dirty

    def paths(self, cell: Cell) -> set[str]:
        """The paths that something was given for."""
        return set(self._codec.read(cell).emitted)

    def render(self, cell: Cell, key: str) -> bool:
        """Gives what is to be given of a dirty row.

        Returns:
            False where something is still on its way (S8): when it comes, the row gets dirty again.
        """
        head: _RowHead = self._codec.read(cell)
        if not head.is_dirty:
            return True
        holding = Holding(self.plan, 0, LogHeld(cell.logs[0], head.held).each())
        if holding.is_waiting:
            head.is_dirty, head.read = False, -1
            self._codec.write(cell, head)
            return False
        row = self._row(head)
        copies = self._step.render(row, 0, key, holding)
        head.read = -1 if any(copy.fields is None for copy in copies) else holding.read
        head.is_dirty = False
        for path in {copy.path for copy in copies if copy.fields is None} - head.emitted.keys():
            self.output.leave(path)
        now = self.clock() if self.clock is not None else None
        for path, _, new, fields in self._step.emissions(row, 0, copies, head.version, 0, now):
            if self._is_unique:
                self.output.give(Row(path, Stamp(self.generation, new.version, new.seq), fields))
            else:
                self.output.post(Claimed(0, path, key, new.seq, fields, new.version))
        self._write(cell, head, row)
        return True

    def gone_since(self, cell: Cell) -> int | None:
        """See `Stage`."""
        head: _RowHead = self._codec.read(cell)
        is_given = any(one.digest != GONE for one in head.emitted.values())
        if is_given or head.members or head.is_dirty or any(LogHeld(cell.logs[0], head.held).each()):
            return None
        return head.version

    def _row(self, head: _RowHead) -> RowCell:
        rankings = {place: _Values(values) for place, (_, values) in head.ranked.items()}
        for place, one in enumerate(self.plan.plan.views[0].aggregates):
            if one.fold.keeps == "ranking" and place not in rankings:
                rankings[place] = _Values([])
        states = {place: self._state(place, packed) for place, packed in head.states.items()}
        key = tuple(head.key) if isinstance(head.key, list) else head.key
        return RowCell(rankings, head.version, head.members, key, states, head.emitted, refused=head.refused)

    def _state(self, place: int, packed: Any) -> Any:
        fold = self.plan.plan.views[0].aggregates[place].fold
        return fold.unpack(from_wire(packed)) if fold.keeps == "state" else packed

    def _write(self, cell: Cell, head: _RowHead, row: RowCell) -> None:
        head.members, head.key, head.states, head.refused = row.members, row.key, {}, row.refused
        for place, state in row.states.items():
            fold = self.plan.plan.views[0].aggregates[place].fold
            head.states[place] = to_wire(fold.pack(state)) if fold.keeps == "state" else state
        self._codec.write(cell, head)


class _ClaimsOfHead:
    """See `Claims`."""

    def __init__(self, known: dict[str, tuple[int, bytes | None]]) -> None:
        self.known = known

    def put(self, row: str, sequence: int, fields: bytes | None, /) -> None:
        """See `Claims`."""
        if row not in self.known or self.known[row][0] < sequence:
            self.known[row] = sequence, fields

    def items(self) -> list[tuple[str, bytes]]:
        """See `Claims`."""
        return [(row, fields) for row, (_, fields) in self.known.items() if fields is not None]


class ClaimStage(Stage):
    """See `Claim`."""

    def __init__(
        self, plan: StreamPlan, label: str, output: Output, generation: int, clock: Callable[[], int] | None
    ) -> None:
        super().__init__(plan, label, output)
        self.generation, self.clock = generation, clock
        self._codec, self._step = HeadCodec(_ClaimHead), Claim(plan, output.refuse)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, (Claimed, Doubted))
        head: _ClaimHead = self._codec.read(cell)
        claim = ClaimCell(_ClaimsOfHead(head.claims), head.emitted)
        if isinstance(message, Doubted):
            claim.emitted = doubted(claim.emitted)
        else:
            self._step.claimed(claim, 0, key, message.row, message.sequence, message.fields)
        now = self.clock() if self.clock is not None else None
        settled = self._step.settle(claim, message.version, 0, now)
        if settled is not None:
            new, fields = settled
            self.output.give(Row(key, Stamp(self.generation, new.version, new.seq), fields))
        head.emitted = claim.emitted
        self._codec.write(cell, head)

    def gone_since(self, cell: Cell) -> int | None:
        head: _ClaimHead = self._codec.read(cell)
        is_gone = head.emitted is not None and head.emitted.digest == GONE
        return head.emitted.version if is_gone and head.emitted is not None else None
