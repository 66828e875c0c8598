"""The steps of a stream as keyed stages: each takes what comes to one key, and keeps a head and some logs there.

A head is small, read and written for each message; a log is added to without being read. Both are bytes, the head's
first byte is the version of its form. Beam's state stands behind them, or a simulator's dict.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from boiler_beam.events import Change, DeadLetter, Row, Stamp
from boiler_beam.steps.stream.cells import ClaimCell, DownCell, Emitted, FirstCell, RowCell, Said, UpCell, Ways
from boiler_beam.steps.stream.claims import Claim
from boiler_beam.steps.stream.distinct import Distinct
from boiler_beam.steps.stream.down import NOTHING_NEW, Down
from boiler_beam.steps.stream.first import First
from boiler_beam.steps.stream.held import Holding
from boiler_beam.steps.stream.logs import Log, LogDocuments, LogHeld, LogWeights, OneDocument, Sizes
from boiler_beam.steps.stream.messages import (
    Added,
    Candidate,
    Claimed,
    Counted,
    Lies,
    Message,
    Owned,
    Ranked,
    Shown,
    State,
    Wanted,
)
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.posting import CLAIM, ROW, Posting, is_fused
from boiler_beam.steps.stream.rank import RankHead, rank
from boiler_beam.steps.stream.row import Row as RowStep
from boiler_beam.steps.stream.tiers import TIERS, Bounds, LogRanking
from boiler_beam.steps.stream.up import Up
from boiler_beam.steps.stream.ways import CountWays
from boiler_beam.values import from_wire, to_wire

__all__ = ["Cell", "Output", "RowStage", "Stage", "stages"]

FORM = 1
_encode = msgspec.msgpack.Encoder().encode


class Cell(Protocol):
    """What is kept at one key of one stage."""

    logs: Sequence[Log]

    def read(self) -> bytes | None:
        """The head; None where nothing was kept yet."""

    def write(self, head: bytes | None, /) -> None:
        """Another head; None: the cell is as if it had never been."""


class Output(Protocol):
    """What comes out of a stage."""

    def post(self, message: Message, /) -> None:
        """To another stage; see `boiler_beam.steps.stream.posting.address`."""

    def give(self, row: Row, /) -> None:
        """To the sink."""

    def refuse(self, letter: DeadLetter, /) -> None:
        """To the dead letters."""


class Stage(abc.ABC):
    """One stage.

    Attributes:
        label: Its name in the view, which never changes while the view does not.
        number_of_logs: How many logs it keeps at each key.
    """

    number_of_logs: ClassVar[int] = 0

    def __init__(self, plan: StreamPlan, label: str, output: Output) -> None:
        self.plan, self.label, self.output = plan, label, output
        self.out = Posting(plan, output.post)

    @abc.abstractmethod
    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        """Takes what came to a key."""


class _Codec:
    """A head and its bytes."""

    def __init__(self, type_: type[Any]) -> None:
        self._type, self._decode = type_, msgspec.msgpack.Decoder(type_).decode

    def read(self, cell: Cell) -> Any:
        data = cell.read()
        if data is None:
            return self._type()
        if data[0] != FORM:
            raise ValueError(f"expected state of form {FORM}, got {data[0]}: it was made by another version")
        return self._decode(memoryview(data)[1:])

    @staticmethod
    def write(cell: Cell, head: Any) -> None:
        cell.write(bytes([FORM]) + _encode(head))


class _DownHead(msgspec.Struct, array_like=True):
    sequence: int = 0
    version: int = -1
    fields: bytes = b"null"
    invalid: tuple[int, bytes] | None = None
    said: dict[int, Said] = {}


class _UpHead(msgspec.Struct, array_like=True):
    down: _DownHead = msgspec.field(default_factory=_DownHead)
    document: OneDocument = msgspec.field(default_factory=OneDocument)
    rows: Sizes = msgspec.field(default_factory=Sizes)
    documents: Sizes = msgspec.field(default_factory=Sizes)


class _FirstHead(msgspec.Struct, array_like=True):
    shown: dict[str, State] = {}
    bounds: Bounds = msgspec.field(default_factory=Bounds)


class _DistinctHead(msgspec.Struct, array_like=True):
    number: int = 0


class _RankHead(msgspec.Struct, array_like=True):
    given: RankHead = msgspec.field(default_factory=RankHead)
    bounds: Bounds = msgspec.field(default_factory=Bounds)


class _RowHead(msgspec.Struct, array_like=True):
    version: int = 0
    members: int = 0
    key: Any = None
    states: dict[int, Any] = {}
    ranked: dict[int, tuple[int, list[Any]]] = {}
    emitted: dict[str, Emitted] = {}
    read: int = -1
    held: Sizes = msgspec.field(default_factory=Sizes)
    is_dirty: bool = False


class _ClaimHead(msgspec.Struct, array_like=True):
    claims: dict[str, tuple[int, bytes | None]] = {}
    emitted: Emitted | None = None


def _cell_of(head: _DownHead) -> DownCell:
    return DownCell(head.sequence, head.version, head.fields, head.invalid, head.said)


def _head_of(cell: DownCell) -> _DownHead:
    return _DownHead(cell.sequence, cell.version, cell.fields, cell.invalid, cell.said)


class _DownStage(Stage):
    """See `Down`: one edge of it."""

    def __init__(self, plan: StreamPlan, label: str, output: Output, edge: int) -> None:
        super().__init__(plan, label, output)
        self.edge, self.family = edge, plan.edges[edge][1].family
        self._codec, self._step = _Codec(_DownHead), Down(plan, self.out, output.refuse)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Change)
        down = _cell_of(self._codec.read(cell))
        document = self._step.observed(down, self.family, message)
        if document is not NOTHING_NEW:
            self._step.tell(down, [self.edge], document, message)
        self._codec.write(cell, _head_of(down))


class _Local(Posting):
    """What a document says goes to the step of the same key at once."""

    def __init__(self, plan: StreamPlan, post: Callable[[Message], None], lies: Callable[..., None]) -> None:
        super().__init__(plan, post)
        self.lies = lies  # type: ignore[method-assign]


class _UpStage(Stage):
    """See `Up`; of a reference or fixed document both steps, because a document lies at its own path."""

    number_of_logs = 2

    def __init__(self, plan: StreamPlan, label: str, output: Output, edge: int) -> None:
        super().__init__(plan, label, output)
        self.edge, self.family = edge, plan.edges[edge][1].family
        self._codec, self._up, self._open = _Codec(_UpHead), Up(plan, self.out), plan.is_open[edge]
        self._cell = UpCell(LogWeights([], Sizes()), OneDocument())  # type: ignore[arg-type]
        self._down = Down(plan, _Local(plan, output.post, self._lies), output.refuse)

    def _lies(self, edge: int, key: str, path: str, old: State | None, new: State, version: int) -> None:
        self._up.lies(self._cell, edge, key, path, old, new, version)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        head: _UpHead = self._codec.read(cell)
        documents = LogDocuments(cell.logs[1], head.documents) if self._open else head.document
        self._cell = UpCell(LogWeights(cell.logs[0], head.rows), documents)
        match message:
            case Change():
                down = _cell_of(head.down)
                document = self._down.observed(down, self.family, message)
                if document is not NOTHING_NEW:
                    self._down.tell(down, [self.edge], document, message)
                head.down = _head_of(down)
            case Wanted():
                self._up.wanted(self._cell, self.edge, message.key, message.row, message.weight, message.version)
            case Lies():
                self._lies(self.edge, message.key, message.path, message.old, message.new, message.version)
            case _:
                raise AssertionError(f"{self.label} takes no {type(message).__name__}")
        self._codec.write(cell, head)


class _WaysStage(Stage):
    """See `CountWays`."""

    def __init__(self, plan: StreamPlan, label: str, output: Output) -> None:
        super().__init__(plan, label, output)
        self._codec, self._step = _Codec(Ways), CountWays(plan, self.out)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Candidate)
        ways = self._codec.read(cell)
        edge, row, path, weight, state = message.edge, message.row, message.path, message.weight, message.state
        self._step.candidate(ways, edge, row, path, weight, state, message.version)
        if ways.states or ways.told is not None:
            self._codec.write(cell, ways)
        else:
            cell.write(None)


class _FirstStage(Stage):
    """See `First`."""

    number_of_logs = TIERS

    def __init__(self, plan: StreamPlan, label: str, output: Output, edge: int) -> None:
        super().__init__(plan, label, output)
        self.limit = plan.edges[edge][1].limit or 0
        self._codec, self._step = _Codec(_FirstHead), First(plan, self.out)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Candidate)
        head: _FirstHead = self._codec.read(cell)
        first = FirstCell(LogRanking(cell.logs, head.bounds, tuple[str, State], 2 * self.limit), head.shown)
        edge, row, path, weight, state = message.edge, message.row, message.path, message.weight, message.state
        self._step.candidate(first, edge, row, path, weight, state, message.version)
        self._codec.write(cell, head)


class _DistinctStage(Stage):
    """See `Distinct`."""

    def __init__(self, plan: StreamPlan, label: str, output: Output) -> None:
        super().__init__(plan, label, output)
        self._codec, self._step = _Codec(_DistinctHead), Distinct(self.out)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Counted)
        head: _DistinctHead = self._codec.read(cell)
        edge, place, row, value = message.edge, message.aggregate, message.row, message.value
        head.number = self._step.counted(head.number, edge, place, row, value, message.weight, message.version)
        if head.number:
            self._codec.write(cell, head)
        else:
            cell.write(None)


class _RankStage(Stage):
    """See `rank`."""

    number_of_logs = TIERS

    def __init__(self, plan: StreamPlan, label: str, output: Output, place: int) -> None:
        super().__init__(plan, label, output)
        self.fold = plan.plan.views[0].aggregates[place].fold
        self._codec = _Codec(_RankHead)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Added)
        head: _RankHead = self._codec.read(cell)
        ranking = LogRanking(cell.logs, head.bounds, Any, 2 * (self.fold.limit or 0))
        place = self.fold.rank(message.path, from_wire(message.value))
        ranking.add(place, message.weight, message.value)
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
        sequence_at_least: What the sequence of a row is at least: 0, or the time in microseconds where a runner may
            run again what was written already (S15).
    """

    number_of_logs = 1

    def __init__(
        self,
        plan: StreamPlan,
        label: str,
        output: Output,
        generation: int = 1,
        sequence_at_least: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(plan, label, output)
        self.generation, self.sequence_at_least = generation, sequence_at_least
        self._codec, self._step = _Codec(_RowHead), RowStep(plan, output.refuse)
        self._is_unique = plan.plan.views[0].paths.is_unique

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        """See `Stage`."""
        head: _RowHead = self._codec.read(cell)
        row = self._row(head)
        is_seen = True
        match message:
            case Shown():
                held = LogHeld(cell.logs[0], head.held)
                held.change(message.edge, message.path, message.weight, message.old, message.new)
                is_seen = bool(head.read >> message.edge & 1)
            case Added():
                self._step.added(row, message.edge, message.aggregate, message.path, message.value, message.weight)
            case Ranked():
                known = head.ranked.get(message.aggregate)
                if known is None or known[0] < message.sequence:
                    head.ranked[message.aggregate] = message.sequence, message.values
            case Owned():
                self._step.owned(row, message.key, message.weight)
            case _:
                raise AssertionError(f"{self.label} takes no {type(message).__name__}")
        assert not isinstance(message, Change)
        head.version = max(head.version, message.version)
        head.is_dirty = head.is_dirty or is_seen
        self._write(cell, head, row)

    def is_dirty(self, cell: Cell) -> bool:
        """Whether there is something to be rendered."""
        return bool(self._codec.read(cell).is_dirty)

    def touch(self, cell: Cell, key: str, read_time: int) -> None:
        """A backfill found another row in the sink (S16): it is given again, not older than that."""
        head: _RowHead = self._codec.read(cell)
        row = self._row(head)
        row.version = head.version
        self._step.touch(row, 0, key, read_time)
        head.version, head.is_dirty = row.version, True
        self._write(cell, head, row)

    def render(self, cell: Cell, key: str) -> bool:
        """Gives what is to be given of a dirty row; False where something is still on its way (S8)."""
        head: _RowHead = self._codec.read(cell)
        if not head.is_dirty:
            return True
        holding = Holding(self.plan, 0, LogHeld(cell.logs[0], head.held).each())
        if holding.is_waiting:
            self._codec.write(cell, head)
            return False
        row = self._row(head)
        copies = self._step.render(row, 0, key, holding)
        head.read = -1 if any(copy.fields is None for copy in copies) else holding.read
        head.is_dirty = False
        least = self.sequence_at_least()
        for path, _, new, fields in self._step.emissions(row, 0, copies, head.version, 0, least):
            if self._is_unique:
                self.output.give(Row(path, Stamp(self.generation, new.version, new.seq), fields))
            else:
                self.output.post(Claimed(0, path, key, new.seq, fields, new.version))
        self._write(cell, head, row)
        return True

    def _row(self, head: _RowHead) -> RowCell:
        rankings = {place: _Values(values) for place, (_, values) in head.ranked.items()}
        for place, one in enumerate(self.plan.plan.views[0].aggregates):
            if one.fold.keeps == "ranking" and place not in rankings:
                rankings[place] = _Values([])
        states = {place: self._state(place, packed) for place, packed in head.states.items()}
        key = tuple(head.key) if isinstance(head.key, list) else head.key
        return RowCell(rankings, head.version, head.members, key, states, head.emitted)

    def _state(self, place: int, packed: Any) -> Any:
        fold = self.plan.plan.views[0].aggregates[place].fold
        return fold.unpack(from_wire(packed)) if fold.keeps == "state" else packed

    def _write(self, cell: Cell, head: _RowHead, row: RowCell) -> None:
        head.members, head.key, head.states = row.members, row.key, {}
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


class _ClaimStage(Stage):
    """See `Claim`."""

    def __init__(self, plan: StreamPlan, label: str, output: Output, generation: int) -> None:
        super().__init__(plan, label, output)
        self.generation = generation
        self._codec, self._step = _Codec(_ClaimHead), Claim(plan, output.refuse)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Claimed)
        head: _ClaimHead = self._codec.read(cell)
        claim = ClaimCell(_ClaimsOfHead(head.claims), head.emitted)
        self._step.claimed(claim, 0, key, message.row, message.sequence, message.fields)
        settled = self._step.settle(claim, message.version, 0)
        if settled is not None:
            new, fields = settled
            self.output.give(Row(key, Stamp(self.generation, new.version, new.seq), fields))
        head.emitted = claim.emitted
        self._codec.write(cell, head)


def stages(
    plan: StreamPlan, output: Output, generation: int = 1, sequence_at_least: Callable[[], int] = lambda: 0
) -> dict[str, Stage]:
    """The stages of a plan of one view by label, each behind those that send to it.

    Args:
        plan: A plan of one view.
        output: Where they send.
        generation: See `RowStage`.
        sequence_at_least: See there.
    """
    (view,) = plan.plan.views
    found: list[Stage] = []
    for number, (_, edge) in enumerate(plan.edges):
        if not is_fused(plan, number):
            found.append(_DownStage(plan, f"{edge.name}/Down", output, number))
        if is_fused(plan, number) or plan.is_open[number]:
            found.append(_UpStage(plan, f"{edge.name}/Up", output, number))
        if plan.counts_ways[number]:
            found.append(_WaysStage(plan, f"{edge.name}/Ways", output))
        if edge.limit is not None:
            found.append(_FirstStage(plan, f"{edge.name}/First", output, number))
    for place, one in enumerate(view.aggregates):
        if one.fold.keeps == "distinct":
            found.append(_DistinctStage(plan, f"{one.name}/Distinct", output))
        if one.fold.keeps == "ranking":
            found.append(_RankStage(plan, f"{one.name}/Rank", output, place))
    found.append(RowStage(plan, ROW, output, generation, sequence_at_least))
    if not view.paths.is_unique:
        found.append(_ClaimStage(plan, CLAIM, output, generation))
    return {stage.label: stage for stage in found}
