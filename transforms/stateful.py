"""The stages of a stream over Beam's state: a head is a value, logs are bags. Only state that every runner has.

What a stage does is `boiler_beam.steps.keyed.stage`'s; here are its state and its timers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.coders import BytesCoder, VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from boiler_beam.events import DeadLetter, Row
from boiler_beam.plan import PlanName, load_plan
from boiler_beam.steps.keyed.posting import address, is_going
from boiler_beam.steps.keyed.rows import RowStage
from boiler_beam.steps.keyed.stage import Stage
from boiler_beam.steps.keyed.stages import stages
from boiler_beam.steps.keyed.wire import decode, encode, encode_letter, encode_row, key_bytes
from boiler_beam.steps.stream import StreamPlan
from boiler_beam.steps.stream.messages import Message
from transforms.write import NAMESPACE

__all__ = ["KEYED", "LEFT", "LETTERS", "ROWS", "Behavior", "Outputs", "Roles", "numbered", "stateful"]

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
        is_durable: Whether only what is committed reaches the sink, as behind a durable shuffle; else a row's sequence
            is at least the time, and the sink decides whether a row changed (S15).
        gate_micros: No row is rendered before the watermark passes this time: that of a snapshot that comes with the
            stream; None: at once.
        retention_micros: How long deletions are remembered (S3); None: for ever, as it should be where input ends.
        since_micros: When it began: it has forgotten nothing before it runs for longer than that.
    """

    generation: int = 1
    coalesce_seconds: float = 0.1
    is_commit: bool = False
    is_durable: bool = True
    gate_micros: int | None = None
    retention_micros: int | None = None
    since_micros: int = 0


class Roles(NamedTuple):
    """What one stage does for all that read the same documents.

    Attributes:
        is_counting: Whether it counts them.
        reports: The labels of the view's stages that tell what is wrong with one.
    """

    is_counting: bool
    reports: frozenset[str]


@lru_cache(maxsize=16)
def numbered(view: PlanName) -> StreamPlan:
    """The plan of one view."""
    return StreamPlan(load_plan(view))


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
        if letter.stage == "render":
            Metrics.counter(NAMESPACE, f"{self.plan.plan.views[0].name}/failed").inc()
        if letter.stage == "decode" and letter.path is not None:
            for family in self.plan.plan.families_of(letter.path):
                Metrics.counter(NAMESPACE, f"dead {self.plan.plan.families[family].pattern.text}").inc()
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
NEXT, PASSED = ReadModifyWriteStateSpec("next", VarIntCoder()), ReadModifyWriteStateSpec("passed", VarIntCoder())
OPEN = ReadModifyWriteStateSpec("open", VarIntCoder())


_CLOCKS_MICROS = 60_000_000
"""How far a worker's clock may be behind the watermark."""


def _timer(what: str, stage: str, domain: str = TimeDomain.WATERMARK) -> TimerSpec:
    """A timer that no other stage has: FnApiRunner mixes up those of one name, where it runs stages together."""
    return TimerSpec(f"{what} {stage}", domain)


class _Stateful(beam.DoFn):  # type: ignore[misc]
    """Base: one stage over Beam's state."""

    def __init__(self, view: PlanName, label: str, level: int, behavior: Behavior, roles: Roles) -> None:
        self.view, self.label, self.level, self.behavior, self.roles = view, label, level, behavior, roles

    def default_label(self) -> str:
        """A part of the stage's label, which must not follow the class."""
        return "Step"

    def setup(self) -> None:
        """Makes the stage, once for each worker's copy."""
        self.outputs = Outputs(numbered(self.view), is_counting=self.roles.is_counting)
        behavior = self.behavior
        clock = None if behavior.is_durable else _now_micros
        plan, outputs = self.outputs.plan, self.outputs
        known = stages(plan, outputs, behavior.generation, clock, self._horizon, self.roles.reports)
        self.stage = known[self.label]

    def _take(self, element: KEYED, head: Any, *bags: Any) -> list[Any]:
        key, data = element
        self.stage.take(_Cell(head, bags), key.decode("utf-8", "surrogatepass"), decode(data))
        return self.outputs.take()

    # Forgetting -------------------------------------------------------------------------------------------------------

    def _horizon(self) -> int:
        if self.behavior.retention_micros is None:
            return 0
        horizon = _now_micros() - self.behavior.retention_micros
        return horizon if horizon > self.behavior.since_micros else 0

    def _expire_later(self, element: KEYED, timer: Any) -> None:
        """Looks at a cell again when what goes now may be forgotten (S3)."""
        retention = self.behavior.retention_micros
        if retention is not None and is_going(message := decode(element[1])):
            timer.set(Timestamp(micros=max(message.version, self.behavior.since_micros) + retention))

    def _render(self, key: bytes, head: Any, log: Any) -> list[Any]:
        assert isinstance(self.stage, RowStage)
        self.stage.render(_Cell(head, [log]), key.decode("utf-8", "surrogatepass"))
        return self.outputs.take()

    def _expire(self, timer: Any, fired: Timestamp, head: Any, *bags: Any) -> None:
        """Drops a cell, or looks at it again when that is time.

        It is too early where an older version came behind and moved the timer, or the clock is behind the watermark.
        At a drain the watermark is at its end, and a timer fires as soon as it is set: none is set for what has passed.
        """
        gone = self.stage.expire(_Cell(head, bags), self._horizon())
        retention = self.behavior.retention_micros
        if gone is not None and retention is not None:
            again = max(gone, self.behavior.since_micros) + retention + _CLOCKS_MICROS
            if again // 1000 > fired.micros // 1000:  # timers have milliseconds
                timer.set(Timestamp(micros=again))

    # Whole commits ----------------------------------------------------------------------------------------------------

    def _hold(self, element: KEYED, held: Any, next_: Any, passed: Any, timer: Any) -> None:
        """Keeps what came until the watermark passes its version (S19)."""
        ripe = self._ripe_at(decode(element[1]).version)
        if ripe <= (passed.read() or 0):
            Metrics.counter(NAMESPACE, "late").inc()
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
        self, key: bytes, held: Any, next_: Any, passed: Any, timer: Any, fired: Timestamp, head: Any, *bags: Any
    ) -> list[Any]:
        """Takes what the watermark has passed, in the order of its versions."""
        passed.write(max(fired.micros, passed.read() or 0))
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


def _now_micros() -> int:
    return time.time_ns() // 1000


# A class for each stage, because a timer belongs to the class that it is named in -------------------------------------


def _with_head(name: str) -> type[_Stateful]:
    expiry = _timer("expire", name)

    class WithHead(_Stateful):
        """A stage that keeps a head alone."""

        def process(
            self,
            element: KEYED,
            head: Any = beam.DoFn.StateParam(HEAD),
            expire: Any = beam.DoFn.TimerParam(expiry),
        ) -> Any:
            self._expire_later(element, expire)
            return self._take(element, head)

        @on_timer(expiry)
        def expire(
            self,
            fired: Any = beam.DoFn.TimestampParam,
            expire: Any = beam.DoFn.TimerParam(expiry),
            head: Any = beam.DoFn.StateParam(HEAD),
        ) -> None:
            self._expire(expire, fired, head)

    return WithHead


def _with_logs(name: str) -> type[_Stateful]:
    expiry = _timer("expire", name)

    class WithLogs(_Stateful):
        """A stage that keeps two logs."""

        def process(
            self,
            element: KEYED,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            log1: Any = beam.DoFn.StateParam(LOG_1),
            expire: Any = beam.DoFn.TimerParam(expiry),
        ) -> Any:
            self._expire_later(element, expire)
            return self._take(element, head, log0, log1)

        @on_timer(expiry)
        def expire(
            self,
            fired: Any = beam.DoFn.TimestampParam,
            expire: Any = beam.DoFn.TimerParam(expiry),
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            log1: Any = beam.DoFn.StateParam(LOG_1),
        ) -> None:
            self._expire(expire, fired, head, log0, log1)

    return WithLogs


class _WithTiers(_Stateful):
    """A stage that keeps a ranking."""

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


def _of_rows(name: str) -> type[_Stateful]:
    coalescing, backstopping = _timer("render", name, TimeDomain.REAL_TIME), _timer("backstop", name)
    expiry = _timer("expire", name)

    class OfRows(_Stateful):
        """Gathers changes of a row for the coalescing window, then renders it; at the latest when all input is in."""

        stage: RowStage

        def process(
            self,
            element: KEYED,
            window: Any = beam.DoFn.WindowParam,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            is_open: Any = beam.DoFn.StateParam(OPEN),
            render: Any = beam.DoFn.TimerParam(coalescing),
            backstop: Any = beam.DoFn.TimerParam(backstopping),
            expire: Any = beam.DoFn.TimerParam(expiry),
        ) -> Any:
            key, data = element
            gate = self.behavior.gate_micros
            if self.stage.receive(_Cell(head, [log0]), key.decode("utf-8", "surrogatepass"), decode(data)):
                if gate is not None and not is_open.read():
                    backstop.set(Timestamp(micros=gate))
                else:
                    backstop.set(window.max_timestamp())
                    render.set(Timestamp.of(time.time() + self.behavior.coalesce_seconds))
            self._expire_later(element, expire)
            return self.outputs.take()

        @on_timer(coalescing)
        def render(
            self,
            key: Any = beam.DoFn.KeyParam,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
        ) -> Any:
            return self._render(key, head, log0)

        @on_timer(backstopping)
        def backstop(
            self,
            key: Any = beam.DoFn.KeyParam,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            is_open: Any = beam.DoFn.StateParam(OPEN),
        ) -> Any:
            is_open.write(1)
            return self._render(key, head, log0)

        @on_timer(expiry)
        def expire(
            self,
            fired: Any = beam.DoFn.TimestampParam,
            expire: Any = beam.DoFn.TimerParam(expiry),
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
        ) -> None:
            self._expire(expire, fired, head, log0)

    return OfRows


def _of_commits(name: str) -> type[_Stateful]:
    ripeness, expiry = _timer("ripe", name), _timer("expire", name)

    class OfCommits(_Stateful):
        """Any stage, in whole commits."""

        def process(
            self,
            element: KEYED,
            held: Any = beam.DoFn.StateParam(HELD),
            next_: Any = beam.DoFn.StateParam(NEXT),
            passed: Any = beam.DoFn.StateParam(PASSED),
            timer: Any = beam.DoFn.TimerParam(ripeness),
            expire: Any = beam.DoFn.TimerParam(expiry),
        ) -> None:
            self._hold(element, held, next_, passed, timer)
            self._expire_later(element, expire)

        @on_timer(ripeness)
        def ripe(
            self,
            key: Any = beam.DoFn.KeyParam,
            fired: Any = beam.DoFn.TimestampParam,
            held: Any = beam.DoFn.StateParam(HELD),
            next_: Any = beam.DoFn.StateParam(NEXT),
            passed: Any = beam.DoFn.StateParam(PASSED),
            timer: Any = beam.DoFn.TimerParam(ripeness),
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            log1: Any = beam.DoFn.StateParam(LOG_1),
            log2: Any = beam.DoFn.StateParam(LOG_2),
            log3: Any = beam.DoFn.StateParam(LOG_3),
        ) -> Any:
            outputs = self._ripe(key, held, next_, passed, timer, fired, head, log0, log1, log2, log3)
            return outputs + (self._render(key, head, log0) if isinstance(self.stage, RowStage) else [])

        @on_timer(expiry)
        def expire(
            self,
            fired: Any = beam.DoFn.TimestampParam,
            expire: Any = beam.DoFn.TimerParam(expiry),
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            log1: Any = beam.DoFn.StateParam(LOG_1),
        ) -> None:
            self._expire(expire, fired, head, log0, log1)

    return OfCommits


def stateful(stage: Stage, view: PlanName, level: int, behavior: Behavior, roles: Roles) -> beam.DoFn:
    """What carries a stage."""
    name = f"{stage.plan.plan.views[0].name}/{stage.label}"
    kind: type[_Stateful]
    if behavior.is_commit:
        kind = _of_commits(name)
    elif isinstance(stage, RowStage):
        kind = _of_rows(name)
    elif stage.number_of_logs > 2:
        kind = _WithTiers
    else:
        kind = (_with_logs if stage.number_of_logs else _with_head)(name)
    return kind(view, stage.label, level, behavior, roles)
