"""The keyed stages of edges: down, up, counting ways, the first ones."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from boiler_beam.events import Change, DeadLetter
from boiler_beam.plan import Fixed
from boiler_beam.steps.keyed.logs import LogDocuments, LogWeights, OneDocument, Sizes
from boiler_beam.steps.keyed.posting import Posting, is_first_shard
from boiler_beam.steps.keyed.stage import Cell, HeadCodec, Output, Stage
from boiler_beam.steps.keyed.tiers import TIERS, Bounds, LogRanking
from boiler_beam.steps.stream.cells import DownCell, FirstCell, Said, UpCell, Ways
from boiler_beam.steps.stream.down import NOTHING_NEW, Down
from boiler_beam.steps.stream.first import First
from boiler_beam.steps.stream.messages import Candidate, Lies, Message, State, Wanted
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.up import Up
from boiler_beam.steps.stream.ways import CountWays

__all__ = ["DownStage", "FirstStage", "UpStage", "WaysStage"]


class _DownHead(msgspec.Struct, array_like=True):
    sequence: int = 0
    version: int = -1
    fields: bytes = b"null"
    invalid: tuple[int, bytes] | None = None
    said: dict[int, Said] = {}
    refused: tuple[bytes, ...] = ()


class _UpHead(msgspec.Struct, array_like=True):
    down: _DownHead = msgspec.field(default_factory=_DownHead)
    document: OneDocument = msgspec.field(default_factory=OneDocument)
    rows: Sizes = msgspec.field(default_factory=Sizes)
    documents: Sizes = msgspec.field(default_factory=Sizes)


class _FirstHead(msgspec.Struct, array_like=True):
    shown: dict[str, State] = {}
    bounds: Bounds = msgspec.field(default_factory=Bounds)


def _cell_of(head: _DownHead) -> DownCell:
    return DownCell(head.sequence, head.version, head.fields, head.invalid, head.said, head.refused)


def _head_of(cell: DownCell) -> _DownHead:
    return _DownHead(cell.sequence, cell.version, cell.fields, cell.invalid, cell.said, cell.refused)


class _EdgeStage(Stage):
    """Base of those that changes of one edge come to.

    Attributes:
        reports: Whether it is the one, of all stages that read its documents, that tells what is wrong with them.
    """

    def __init__(
        self,
        plan: StreamPlan,
        label: str,
        output: Output,
        edge: int,
        horizon: Callable[[], int],
        reports: frozenset[str] | None,
    ) -> None:
        super().__init__(plan, label, output)
        self.edge, self.family, self.horizon = edge, plan.edges[edge][1].family, horizon
        self.reports, self._is_first = reports is None or label in reports, True

    def _keyed(self, key: str) -> None:
        """A message came to this key: of the shards of one document the first one tells what is wrong with it."""
        self._is_first = not isinstance(self.plan.edges[self.edge][1], Fixed) or is_first_shard(key)

    def _refuse(self, letter: DeadLetter) -> None:
        if self._is_first and (self.reports or letter.stage == "down"):
            self.output.refuse(letter)


def _observe(stage: _EdgeStage, step: Down, cell: DownCell, change: Change) -> None:
    was_there = cell.fields != b"null"
    step.horizon = stage.horizon()
    document = step.observed(cell, stage.family, change)
    if document is NOTHING_NEW:
        return
    step.tell(cell, [stage.edge], document, change)
    if (number := (document is not None) - was_there) != 0:
        stage.output.known(change.path, number)


def _gone_since(head: _DownHead) -> int | None:
    is_gone = head.version >= 0 and head.fields == b"null" and head.invalid is None
    return head.version if is_gone else None


class DownStage(_EdgeStage):
    """See `Down`: one edge of it."""

    def __init__(
        self,
        plan: StreamPlan,
        label: str,
        output: Output,
        edge: int,
        horizon: Callable[[], int],
        reports: frozenset[str] | None = None,
    ) -> None:
        super().__init__(plan, label, output, edge, horizon, reports)
        self._codec, self._step = HeadCodec(_DownHead), Down(plan, self.out, self._refuse)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Change)
        down = _cell_of(self._codec.read(cell))
        _observe(self, self._step, down, message)
        self._codec.write(cell, _head_of(down))

    def gone_since(self, cell: Cell) -> int | None:
        return _gone_since(self._codec.read(cell))


class _Local(Posting):
    """What a document says goes to the step of the same key at once."""

    def __init__(self, plan: StreamPlan, post: Callable[[Message], None], lies: Callable[..., None]) -> None:
        super().__init__(plan, post)
        self.lies = lies  # type: ignore[method-assign]


class UpStage(_EdgeStage):
    """See `Up`; of a reference or fixed document both steps, because a document lies at its own path."""

    number_of_logs = 2

    def __init__(
        self,
        plan: StreamPlan,
        label: str,
        output: Output,
        edge: int,
        horizon: Callable[[], int],
        reports: frozenset[str] | None = None,
    ) -> None:
        super().__init__(plan, label, output, edge, horizon, reports)
        self._codec, self._up, self._open = HeadCodec(_UpHead), Up(plan, self.out), plan.is_open[edge]
        self._cell = UpCell(LogWeights([], Sizes()), OneDocument())  # type: ignore[arg-type]
        self._down = Down(plan, _Local(plan, output.post, self._lies), self._refuse)

    def _lies(self, edge: int, key: str, path: str, old: State | None, new: State, version: int) -> None:
        self._up.lies(self._cell, edge, key, path, old, new, version)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        head: _UpHead = self._codec.read(cell)
        self._keyed(key)
        documents = LogDocuments(cell.logs[1], head.documents) if self._open else head.document
        self._cell = UpCell(LogWeights(cell.logs[0], head.rows), documents)
        match message:
            case Change():
                down = _cell_of(head.down)
                _observe(self, self._down, down, message)
                head.down = _head_of(down)
            case Wanted():
                self._up.wanted(self._cell, self.edge, message.key, message.row, message.weight, message.version)
            case Lies():
                self._lies(self.edge, message.key, message.path, message.old, message.new, message.version)
            case _:
                raise AssertionError(f"{self.label} takes no {type(message).__name__}")
        self._codec.write(cell, head)

    def gone_since(self, cell: Cell) -> int | None:
        head: _UpHead = self._codec.read(cell)
        since = 0 if self._open else _gone_since(head.down)
        if since is None or any(True for _ in LogWeights(cell.logs[0], head.rows).items()):
            return None
        is_empty = not self._open or not any(True for _ in LogDocuments(cell.logs[1], head.documents).each())
        return since if is_empty else None


class WaysStage(Stage):
    """See `CountWays`."""

    def __init__(self, plan: StreamPlan, label: str, output: Output) -> None:
        super().__init__(plan, label, output)
        self._codec, self._step = HeadCodec(Ways), CountWays(plan, self.out)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Candidate)
        ways = self._codec.read(cell)
        edge, row, path, weight, state = message.edge, message.row, message.path, message.weight, message.state
        self._step.candidate(ways, edge, row, path, weight, state, message.version)
        if ways.states or ways.told is not None:
            self._codec.write(cell, ways)
        else:
            cell.write(None)


class FirstStage(Stage):
    """See `First`."""

    number_of_logs = TIERS

    def __init__(self, plan: StreamPlan, label: str, output: Output, edge: int) -> None:
        super().__init__(plan, label, output)
        self.limit = plan.edges[edge][1].limit or 0
        self._codec, self._step = HeadCodec(_FirstHead), First(plan, self.out)

    def take(self, cell: Cell, key: str, message: Change | Message) -> None:
        assert isinstance(message, Candidate)
        head: _FirstHead = self._codec.read(cell)
        first = FirstCell(LogRanking(cell.logs, head.bounds, tuple[str, State], max(64, 2 * self.limit)), head.shown)
        edge, row, path, weight, state = message.edge, message.row, message.path, message.weight, message.state
        self._step.candidate(first, edge, row, path, weight, state, message.version)
        self._codec.write(cell, head)
