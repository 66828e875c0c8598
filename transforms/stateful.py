"""The stages of a stream over Beam's state: a head is a value, logs are bags. Only state that every runner has.

What a stage does is `boiler_beam.steps.keyed.stage`'s; here are its state and its timers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.coders import BytesCoder, VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from boiler_beam.events import DeadLetter, Row
from boiler_beam.plan import load_plan
from boiler_beam.steps.keyed.posting import address
from boiler_beam.steps.keyed.rows import RowStage
from boiler_beam.steps.keyed.stage import Stage
from boiler_beam.steps.keyed.stages import stages
from boiler_beam.steps.keyed.wire import decode, encode, encode_letter, encode_row, key_bytes
from boiler_beam.steps.stream import StreamPlan
from boiler_beam.steps.stream.messages import Message
from transforms.write import NAMESPACE

__all__ = ["KEYED", "LEFT", "LETTERS", "ROWS", "Behavior", "Outputs", "numbered", "stateful"]

KEYED = tuple[bytes, bytes]
"""Elements between stages: a key, and a message."""
LETTERS, ROWS, LEFT = "dead_letters", "rows", "left"
"""The outputs that go to no other stage."""


@dataclass(frozen=True)
class Behavior:
    """How views follow their stream.

    Attributes:
        generation: Of the rows (S13).
        coalesce_seconds: How long changes of a row are gathered before it is rendered.
        is_commit: Whether no row holds a part of a commit (S19): every stage holds what came until the watermark
            passes it, and takes it in the order of its versions. Elements' timestamps are their versions then.
        has_clock_sequence: Whether sequences are at least the time: where a runner may run again what it wrote (S15).
        gate_micros: No row is rendered before the watermark passes this time: that of a snapshot that comes with the
            stream; None: at once.
    """

    generation: int = 1
    coalesce_seconds: float = 0.1
    is_commit: bool = False
    has_clock_sequence: bool = False
    gate_micros: int | None = None


@lru_cache(maxsize=16)
def numbered(view: str) -> StreamPlan:
    """The plan of a view that is known as `module:Class`."""
    return StreamPlan(load_plan((view,)))


class Outputs:
    """What a stage sends, as Beam's outputs; see `boiler_beam.steps.keyed.stage.Output`.

    Args:
        plan: The view's.
        is_counting: Whether it counts documents.
    """

    def __init__(self, plan: StreamPlan, *, is_counting: bool = False) -> None:
        self.plan, self.is_counting = plan, is_counting
        self.waiting: list[Any] = []

    def post(self, message: Message, /) -> None:
        """See `Output`."""
        label, key = address(self.plan, message)
        self.waiting.append(pvalue.TaggedOutput(label, (key_bytes(key), encode(message))))

    def give(self, row: Row, /) -> None:
        """See `Output`."""
        name = self.plan.plan.views[0].name
        self.waiting.append(pvalue.TaggedOutput(ROWS, (key_bytes(row.path), encode_row(name, row))))

    def refuse(self, letter: DeadLetter, /) -> None:
        """See `Output`."""
        Metrics.counter(NAMESPACE, "dead_letters").inc()
        self.waiting.append(pvalue.TaggedOutput(LETTERS, encode_letter(letter)))

    def leave(self, path: str, /) -> None:
        """See `Output`."""
        self.waiting.append(pvalue.TaggedOutput(LEFT, path))

    def known(self, path: str, number: int, /) -> None:
        """See `Output`."""
        if self.is_counting:
            Metrics.counter(NAMESPACE, "documents").inc(number)

    def take(self) -> list[Any]:
        """All that is waiting."""
        waiting, self.waiting = self.waiting, []
        return waiting


class _Log:
    """A bag in Beam's state; see `Log`."""

    __slots__ = ("_bag",)

    def __init__(self, bag: Any) -> None:
        self._bag = bag

    def append(self, entry: bytes, /) -> None:
        """See `Log`."""
        self._bag.add(entry)

    def read(self) -> Iterable[bytes]:
        """See `Log`."""
        return self._bag.read()  # type: ignore[no-any-return]

    def replace(self, entries: list[bytes], /) -> None:
        """See `Log`."""
        self._bag.clear()
        for entry in entries:
            self._bag.add(entry)


class _Cell:
    """A value and some bags in Beam's state; see `Cell`."""

    __slots__ = ("_head", "logs")

    def __init__(self, head: Any, bags: Sequence[Any]) -> None:
        self._head, self.logs = head, [_Log(bag) for bag in bags]

    def read(self) -> bytes | None:
        """See `Cell`."""
        return self._head.read()  # type: ignore[no-any-return]

    def write(self, head: bytes | None, /) -> None:
        """See `Cell`."""
        if head is None:
            self._head.clear()
        else:
            self._head.write(head)


HEAD = ReadModifyWriteStateSpec("head", BytesCoder())
LOG_0, LOG_1, LOG_2, LOG_3 = (BagStateSpec(f"log{place}", BytesCoder()) for place in range(4))
HELD = BagStateSpec("held", BytesCoder())
NEXT = ReadModifyWriteStateSpec("next", VarIntCoder())
RIPE, RIPE_ROW = TimerSpec("ripe", TimeDomain.WATERMARK), TimerSpec("ripe", TimeDomain.WATERMARK)
RENDER = TimerSpec("render", TimeDomain.REAL_TIME)
BACKSTOP = TimerSpec("backstop", TimeDomain.WATERMARK)


class _Stateful(beam.DoFn):  # type: ignore[misc]
    """Base: one stage over Beam's state."""

    def __init__(self, view: str, label: str, level: int, behavior: Behavior, *, is_counting: bool) -> None:
        self.view, self.label, self.level, self.behavior = view, label, level, behavior
        self.is_counting = is_counting

    def setup(self) -> None:
        """Makes the stage, once for each worker's copy."""
        self.outputs = Outputs(numbered(self.view), is_counting=self.is_counting)
        least: Callable[[], int] = (lambda: time.time_ns() // 1000) if self.behavior.has_clock_sequence else (lambda: 0)
        self.stage = stages(self.outputs.plan, self.outputs, self.behavior.generation, least)[self.label]

    def _take(self, element: KEYED, head: Any, *bags: Any) -> list[Any]:
        key, data = element
        self.stage.take(_Cell(head, bags), key.decode("utf-8", "surrogatepass"), decode(data))
        return self.outputs.take()

    # Whole commits ----------------------------------------------------------------------------------------------------

    def _hold(self, element: KEYED, held: Any, next_: Any, timer: Any) -> None:
        """Keeps what came until the watermark passes its version (S19)."""
        ripe = self._ripe_at(decode(element[1]).version)
        held.add(element[1])
        earliest = next_.read()
        if earliest is None or ripe < earliest:
            next_.write(ripe)
            timer.set(Timestamp(micros=ripe))

    def _ripe_at(self, version: int) -> int:
        """When a version may be taken, in microseconds: the watermark must be past it, and past the stages before.

        Timers have milliseconds, and hold the watermark of what comes behind at, not before, the time that they fire.
        """
        return (version // 1000 + 1 + self.level) * 1000

    def _ripe(
        self, key: bytes, held: Any, next_: Any, timer: Any, fired: Timestamp, head: Any, *bags: Any
    ) -> list[Any]:
        """Takes what the watermark has passed, in the order of its versions."""
        found = sorted(((decode(data).version, data) for data in held.read()), key=lambda pair: pair[0])
        ripe = [data for version, data in found if self._ripe_at(version) <= fired.micros]
        rest = found[len(ripe) :]
        held.clear()
        for _, data in rest:
            held.add(data)
        if rest:
            earliest = self._ripe_at(rest[0][0])
            next_.write(earliest)
            timer.set(Timestamp(micros=earliest))
        else:
            next_.clear()
        return [output for data in ripe for output in self._take((key, data), head, *bags)]


class _Step0(_Stateful):
    def process(self, element: KEYED, head: Any = beam.DoFn.StateParam(HEAD)) -> Any:
        return self._take(element, head)


class _Step2(_Stateful):
    def process(
        self,
        element: KEYED,
        head: Any = beam.DoFn.StateParam(HEAD),
        log0: Any = beam.DoFn.StateParam(LOG_0),
        log1: Any = beam.DoFn.StateParam(LOG_1),
    ) -> Any:
        return self._take(element, head, log0, log1)


class _Step4(_Stateful):
    def process(
        self,
        element: KEYED,
        head: Any = beam.DoFn.StateParam(HEAD),
        log0: Any = beam.DoFn.StateParam(LOG_0),
        log1: Any = beam.DoFn.StateParam(LOG_1),
        log2: Any = beam.DoFn.StateParam(LOG_2),
        log3: Any = beam.DoFn.StateParam(LOG_3),
    ) -> Any:
        return self._take(element, head, log0, log1, log2, log3)


class _Commit(_Stateful):
    """Any stage, in whole commits."""

    def process(
        self,
        element: KEYED,
        held: Any = beam.DoFn.StateParam(HELD),
        next_: Any = beam.DoFn.StateParam(NEXT),
        timer: Any = beam.DoFn.TimerParam(RIPE),
    ) -> None:
        self._hold(element, held, next_, timer)

    @on_timer(RIPE)
    def ripe(
        self,
        key: Any = beam.DoFn.KeyParam,
        fired: Any = beam.DoFn.TimestampParam,
        held: Any = beam.DoFn.StateParam(HELD),
        next_: Any = beam.DoFn.StateParam(NEXT),
        timer: Any = beam.DoFn.TimerParam(RIPE),
        head: Any = beam.DoFn.StateParam(HEAD),
        log0: Any = beam.DoFn.StateParam(LOG_0),
        log1: Any = beam.DoFn.StateParam(LOG_1),
        log2: Any = beam.DoFn.StateParam(LOG_2),
        log3: Any = beam.DoFn.StateParam(LOG_3),
    ) -> Any:
        return self._ripe(key, held, next_, timer, fired, head, log0, log1, log2, log3)


class _Rendering(_Stateful):
    """Base of the stage of rows."""

    stage: RowStage

    def _render(self, key: bytes, head: Any, log0: Any) -> list[Any]:
        self.stage.render(_Cell(head, [log0]), key.decode("utf-8", "surrogatepass"))
        return self.outputs.take()


class _Row(_Rendering):
    """Gathers changes of a row for the coalescing window, then renders it; at the latest when all input is in."""

    def process(
        self,
        element: KEYED,
        window: Any = beam.DoFn.WindowParam,
        head: Any = beam.DoFn.StateParam(HEAD),
        log0: Any = beam.DoFn.StateParam(LOG_0),
        render: Any = beam.DoFn.TimerParam(RENDER),
        backstop: Any = beam.DoFn.TimerParam(BACKSTOP),
    ) -> Any:
        key, data = element
        cell = _Cell(head, [log0])
        if self.stage.receive(cell, key.decode("utf-8", "surrogatepass"), decode(data)):
            gate = self.behavior.gate_micros
            backstop.set(window.max_timestamp() if gate is None else Timestamp(micros=gate))
            if gate is None:
                render.set(Timestamp.of(time.time() + self.behavior.coalesce_seconds))
        return self.outputs.take()

    @on_timer(RENDER)
    def render(
        self,
        key: Any = beam.DoFn.KeyParam,
        head: Any = beam.DoFn.StateParam(HEAD),
        log0: Any = beam.DoFn.StateParam(LOG_0),
    ) -> Any:
        return self._render(key, head, log0)

    @on_timer(BACKSTOP)
    def backstop(
        self,
        key: Any = beam.DoFn.KeyParam,
        head: Any = beam.DoFn.StateParam(HEAD),
        log0: Any = beam.DoFn.StateParam(LOG_0),
    ) -> Any:
        return self._render(key, head, log0)


class _CommitRow(_Rendering):
    """Takes whole commits, then renders the row at once."""

    def process(
        self,
        element: KEYED,
        held: Any = beam.DoFn.StateParam(HELD),
        next_: Any = beam.DoFn.StateParam(NEXT),
        timer: Any = beam.DoFn.TimerParam(RIPE_ROW),
    ) -> None:
        self._hold(element, held, next_, timer)

    @on_timer(RIPE_ROW)
    def ripe(
        self,
        key: Any = beam.DoFn.KeyParam,
        fired: Any = beam.DoFn.TimestampParam,
        held: Any = beam.DoFn.StateParam(HELD),
        next_: Any = beam.DoFn.StateParam(NEXT),
        timer: Any = beam.DoFn.TimerParam(RIPE_ROW),
        head: Any = beam.DoFn.StateParam(HEAD),
        log0: Any = beam.DoFn.StateParam(LOG_0),
    ) -> Any:
        outputs = self._ripe(key, held, next_, timer, fired, head, log0)
        return outputs + self._render(key, head, log0)


_STEPS: dict[int, type[_Stateful]] = {0: _Step0, 2: _Step2, 4: _Step4}
"""By the number of logs."""


def stateful(stage: Stage, view: str, level: int, behavior: Behavior, *, is_counting: bool) -> beam.DoFn:
    """What carries a stage."""
    kind: type[_Stateful]
    if isinstance(stage, RowStage):
        kind = _CommitRow if behavior.is_commit else _Row
    else:
        kind = _Commit if behavior.is_commit else _STEPS[stage.number_of_logs]
    return kind(view, stage.label, level, behavior, is_counting=is_counting)
