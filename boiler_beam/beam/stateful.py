"""The steps of a stream over Beam's state: a head is a value, a log is a bag. Only state that every runner has.

What a step does is in `boiler_beam.steps.keyed`; here are its state and its timers.
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

from boiler_beam.beam.elements import NAMESPACE
from boiler_beam.events import DeadLetter, EncodedRow, Row
from boiler_beam.plan import PlanName, load_plan
from boiler_beam.steps.keyed import KeyedView, Step, StepSettings, steps_of
from boiler_beam.steps.keyed.messages import Message
from boiler_beam.steps.keyed.routing import Key, address, is_removal
from boiler_beam.steps.keyed.rows import RowStep
from boiler_beam.steps.keyed.wire import decode, encode, path_bytes

__all__ = [
    "DEAD_LETTERS",
    "KEYED",
    "LEFT",
    "ROWS",
    "BeamOutput",
    "Behavior",
    "RememberedTimer",
    "Roles",
    "keyed_view",
    "stateful",
]

KEYED = tuple[bytes, bytes]
"""Elements between steps: a key, and a message."""
DEAD_LETTERS, ROWS, LEFT = "dead_letters", "rows", "left"
"""The outputs that go to no other step."""


@dataclass(frozen=True)
class Behavior:
    """How views follow their stream.

    Attributes:
        generation: Of the rows (S13).
        coalesce_seconds: How long changes of a row are gathered before it is rendered.
        is_commit: Whether no row holds a part of a commit (S19): every step holds what came until the watermark
            passes it, and takes it in the order of its versions. Elements' timestamps are their versions then.
        is_durable: Whether only what is committed reaches the sink, as behind a durable shuffle; else a row's sequence
            is at least the time, and the sink decides whether a row changed (S15).
        gate_micros: No row is rendered before the watermark passes this time: that of a snapshot that comes with the
            stream; None: at once.
        retention_micros: How long deletions are remembered (S3); None: for ever, as it should be where input ends.
        since_micros: When it began: it has forgotten nothing before it runs for longer than that.
        lateness_micros: With `is_commit`, how long after newer changes a change may arrive.
    """

    generation: int = 1
    coalesce_seconds: float = 0.1
    is_commit: bool = False
    is_durable: bool = True
    gate_micros: int | None = None
    retention_micros: int | None = None
    since_micros: int = 0
    lateness_micros: int = 0


class Roles(NamedTuple):
    """What one step does for all that read the same documents.

    Attributes:
        is_counting: Whether it counts them.
        reporting: The labels of the view's steps that report what is wrong with one.
    """

    is_counting: bool
    reporting: frozenset[str]


@lru_cache(maxsize=16)
def keyed_view(view: PlanName) -> KeyedView:
    """The plan of one view."""
    return KeyedView(load_plan(view))


class BeamOutput:
    """What a step sends, gathered as Beam's tagged outputs.

    Args:
        view: The view.
        is_counting: Whether the step counts documents.
    """

    def __init__(self, view: KeyedView, *, is_counting: bool = False) -> None:
        self.view, self.is_counting = view, is_counting
        self._waiting: list[Any] = []

    def send(self, message: Message, /) -> None:
        """A message to another step."""
        label, key = address(self.view, message)
        self._waiting.append(pvalue.TaggedOutput(label, (key.encode(), encode(message))))

    def emit(self, row: EncodedRow, /) -> None:
        """A row to the sink."""
        data = encode(Row(self.view.view.name, row.path, *row.stamp, row.fields))
        self._waiting.append(pvalue.TaggedOutput(ROWS, (path_bytes(row.path), data)))

    def refuse(self, dead_letter: DeadLetter, /) -> None:
        """A dead letter."""
        plan, view = self.view.plan, self.view.view
        Metrics.counter(NAMESPACE, "dead_letters").inc()
        if dead_letter.stage == "render":
            Metrics.counter(NAMESPACE, f"{view.name}/failed").inc()
        if dead_letter.stage == "decode" and dead_letter.path is not None:
            for type_index in plan.types_of(dead_letter.path):
                Metrics.counter(NAMESPACE, f"dead {plan.collections[type_index]}").inc()
        self._waiting.append(pvalue.TaggedOutput(DEAD_LETTERS, encode(dead_letter)))

    def leave_unchanged(self, path: str, /) -> None:
        """The path of an unknown row, or the wildcard of its copies."""
        self._waiting.append(pvalue.TaggedOutput(LEFT, path))

    def count_documents(self, path: str, number: int, /) -> None:
        """A document more or less."""
        if self.is_counting:
            Metrics.counter(NAMESPACE, "documents").inc(number)

    def take(self) -> list[Any]:
        """All that was sent since the last call."""
        waiting, self._waiting = self._waiting, []
        return waiting


class _BeamLog:
    """A log in a bag."""

    __slots__ = ("_bag",)

    def __init__(self, bag: Any) -> None:
        self._bag = bag

    def append(self, entry: bytes, /) -> None:
        self._bag.add(entry)

    def read(self) -> Iterable[bytes]:
        return self._bag.read()  # type: ignore[no-any-return]

    def replace(self, entries: list[bytes], /) -> None:
        self._bag.clear()
        for entry in entries:
            self._bag.add(entry)


class _BeamCell:
    """A cell in a value and some bags."""

    __slots__ = ("_head", "logs")

    def __init__(self, head: Any, bags: Sequence[Any]) -> None:
        self._head, self.logs = head, [_BeamLog(bag) for bag in bags]

    def read(self) -> bytes | None:
        return self._head.read()  # type: ignore[no-any-return]

    def write(self, head: bytes | None, /) -> None:
        if head is None:
            self._head.clear()
        else:
            self._head.write(head)


class RememberedTimer:
    """A timer of one key that fires at the earliest time it was set for, and the state that remembers this time.

    A runner may lose a timer (Prism: https://github.com/apache/beam/issues/35771). So the timer is set again, for the
    same time, where it is overdue by the clock; a runner that is only late fires it once all the same.

    Args:
        due: The time in microseconds; nothing where it is not set.
        timer: Fires then.
    """

    def __init__(self, due: Any, timer: Any) -> None:
        self._due, self._timer = due, timer

    def set(self, micros: int) -> bool:
        """Sets the timer, at the latest for a time; gives whether the runner was asked for it."""
        due = self._due.read()
        if due is None or micros < due:
            due = micros
            self._due.write(due)
        elif due > _now_micros():
            return False
        self._timer.set(Timestamp(micros=due))
        return True

    def forget(self) -> None:
        """It has fired, or need not."""
        self._due.clear()


class _HeldMessages:
    """Messages of one key that wait until the watermark passes their versions (S19).

    Args:
        messages: A bag of them.
        passed: Up to where messages were taken.
        timer: Fires when the next one may be taken.
    """

    def __init__(self, messages: Any, passed: Any, timer: RememberedTimer) -> None:
        self._messages, self._passed, self._timer = messages, passed, timer

    def add(self, data: bytes, ripe: int) -> None:
        """Holds a message until a time."""
        if ripe <= (self._passed.read() or 0):
            Metrics.counter(NAMESPACE, "late").inc()
        self._messages.add(data)
        self._timer.set(ripe)

    def take(self, now: int, ripe_at: Any) -> list[bytes]:
        """The messages that are ripe, in the order of their versions; the others are held on."""
        self._passed.write(max(now, self._passed.read() or 0))
        found = sorted(((decode(data).version, data) for data in self._messages.read()), key=lambda pair: pair[0])
        number = sum(ripe_at(version) <= now for version, _ in found)
        rest = found[number:]
        self._messages.clear()
        for _, data in rest:
            self._messages.add(data)
        self._timer.forget()
        if rest:
            self._timer.set(ripe_at(rest[0][0]))
        return [data for _, data in found[:number]]


HEAD = ReadModifyWriteStateSpec("head", BytesCoder())
LOG_0, LOG_1, LOG_2, LOG_3 = (BagStateSpec(f"log{number}", BytesCoder()) for number in range(4))
HELD = BagStateSpec("held", BytesCoder())
DUE, PASSED = (
    ReadModifyWriteStateSpec("next_ripe", VarIntCoder()),  # a running job knows it by this name
    ReadModifyWriteStateSpec("passed", VarIntCoder()),
)
IS_OPEN = ReadModifyWriteStateSpec("is_open", VarIntCoder())

_CLOCKS_MICROS = 60_000_000
"""How far a worker's clock may be behind the watermark."""


class _StatefulStep(beam.DoFn):  # type: ignore[misc]
    """Base: one step over Beam's state."""

    step: Step

    def __init__(self, view: PlanName, label: str, level: int, behavior: Behavior, roles: Roles) -> None:
        self.view, self.label, self.level, self.behavior, self.roles = view, label, level, behavior, roles

    def default_label(self) -> str:
        """A part of the label in Beam, which must not follow the class."""
        return "Step"

    def setup(self) -> None:
        """Makes the step, once for each worker's copy."""
        view, behavior = keyed_view(self.view), self.behavior
        self.output = BeamOutput(view, is_counting=self.roles.is_counting)
        clock = None if behavior.is_durable else _now_micros
        settings = StepSettings(behavior.generation, clock, self._horizon, self.roles.reporting)
        self.step = steps_of(view, self.output, settings)[self.label]

    def cell(self, head: Any, *bags: Any) -> _BeamCell:
        """The cell of a key."""
        return _BeamCell(head, bags[: self.step.number_of_logs])

    def receive(self, key: bytes, data: bytes, cell: _BeamCell) -> bool:
        """Takes a message; gives whether it is of a row that must be rendered later."""
        return self.step.take(cell, Key.decode(key), decode(data))

    def render_row(self, key: bytes, cell: _BeamCell) -> None:
        """Renders the row of a cell, where it is one of a row."""
        if isinstance(self.step, RowStep):
            self.step.render(cell, Key.decode(key).name)

    # Forgetting -------------------------------------------------------------------------------------------------------

    def _horizon(self) -> int:
        if self.behavior.retention_micros is None:
            return 0
        horizon = _now_micros() - self.behavior.retention_micros
        return horizon if horizon > self.behavior.since_micros else 0

    def expire_later(self, data: bytes, timer: Any) -> None:
        """Looks at a cell again when what is removed now may be forgotten (S3)."""
        retention = self.behavior.retention_micros
        if retention is not None and is_removal(message := decode(data)):
            timer.set(Timestamp(micros=max(message.version, self.behavior.since_micros) + retention))

    def expire_cell(self, timer: Any, fired: Timestamp, cell: _BeamCell) -> None:
        """Drops a cell, or looks at it again when that is due.

        It is too early where an older version came later and moved the timer, or the clock is behind the watermark.
        At a drain the watermark is at its end, and a timer fires as soon as it is set: none is set for what has passed.
        """
        since, retention = self.step.expire(cell, self._horizon()), self.behavior.retention_micros
        if since is not None and retention is not None:
            again = max(since, self.behavior.since_micros) + retention + _CLOCKS_MICROS
            if again // 1000 > fired.micros // 1000:  # timers have milliseconds
                timer.set(Timestamp(micros=again))

    def ripe_at(self, version: int) -> int:
        """When a version may be taken, in microseconds: the watermark must be past it, and past the steps before.

        Timers have milliseconds, and hold the watermark of the next step at, not before, the time that they fire.
        """
        return ((version + self.behavior.lateness_micros) // 1000 + 1 + self.level) * 1000


def _now_micros() -> int:
    return time.time_ns() // 1000


def _class_of(name: str) -> type[_StatefulStep]:
    """The class of one step: a timer belongs to a class, and FnApiRunner mixes up timers of one name.

    Every step has the same state and timers, and uses what it needs: a step of a whole commit (S19) holds its messages,
    that of a row is rendered after the coalescing window, at the latest when all input is in.
    """
    ripening = TimerSpec(f"ripe {name}", TimeDomain.WATERMARK)
    rendering = TimerSpec(f"render {name}", TimeDomain.REAL_TIME)
    closing = TimerSpec(f"backstop {name}", TimeDomain.WATERMARK)
    expiring = TimerSpec(f"expire {name}", TimeDomain.WATERMARK)

    class StatefulStep(_StatefulStep):
        """One step."""

        def process(
            self,
            element: KEYED,
            window: Any = beam.DoFn.WindowParam,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            log1: Any = beam.DoFn.StateParam(LOG_1),
            log2: Any = beam.DoFn.StateParam(LOG_2),
            log3: Any = beam.DoFn.StateParam(LOG_3),
            held: Any = beam.DoFn.StateParam(HELD),
            due: Any = beam.DoFn.StateParam(DUE),
            passed: Any = beam.DoFn.StateParam(PASSED),
            is_open: Any = beam.DoFn.StateParam(IS_OPEN),
            ripe: Any = beam.DoFn.TimerParam(ripening),
            render: Any = beam.DoFn.TimerParam(rendering),
            backstop: Any = beam.DoFn.TimerParam(closing),
            expire: Any = beam.DoFn.TimerParam(expiring),
        ) -> Any:
            (key, data), behavior = element, self.behavior
            if behavior.is_commit:
                ripe_at = self.ripe_at(decode(data).version)
                _HeldMessages(held, passed, RememberedTimer(due, ripe)).add(data, ripe_at)
            elif self.receive(key, data, self.cell(head, log0, log1, log2, log3)):
                if behavior.gate_micros is not None and not is_open.read():
                    RememberedTimer(due, backstop).set(behavior.gate_micros)
                elif RememberedTimer(due, render).set(_now_micros() + round(behavior.coalesce_seconds * 1e6)):
                    backstop.set(window.max_timestamp())
            self.expire_later(data, expire)
            return self.output.take()

        @on_timer(rendering)
        def render(
            self,
            key: Any = beam.DoFn.KeyParam,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            due: Any = beam.DoFn.StateParam(DUE),
        ) -> Any:
            due.clear()
            self.render_row(key, self.cell(head, log0))
            return self.output.take()

        @on_timer(closing)
        def backstop(
            self,
            key: Any = beam.DoFn.KeyParam,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            is_open: Any = beam.DoFn.StateParam(IS_OPEN),
            due: Any = beam.DoFn.StateParam(DUE),
        ) -> Any:
            is_open.write(1)
            due.clear()
            self.render_row(key, self.cell(head, log0))
            return self.output.take()

        @on_timer(ripening)
        def ripe(
            self,
            key: Any = beam.DoFn.KeyParam,
            fired: Any = beam.DoFn.TimestampParam,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            log1: Any = beam.DoFn.StateParam(LOG_1),
            log2: Any = beam.DoFn.StateParam(LOG_2),
            log3: Any = beam.DoFn.StateParam(LOG_3),
            held: Any = beam.DoFn.StateParam(HELD),
            due: Any = beam.DoFn.StateParam(DUE),
            passed: Any = beam.DoFn.StateParam(PASSED),
            ripe: Any = beam.DoFn.TimerParam(ripening),
        ) -> Any:
            cell = self.cell(head, log0, log1, log2, log3)
            for data in _HeldMessages(held, passed, RememberedTimer(due, ripe)).take(fired.micros, self.ripe_at):
                self.receive(key, data, cell)
            self.render_row(key, cell)
            return self.output.take()

        @on_timer(expiring)
        def expire(
            self,
            fired: Any = beam.DoFn.TimestampParam,
            head: Any = beam.DoFn.StateParam(HEAD),
            log0: Any = beam.DoFn.StateParam(LOG_0),
            log1: Any = beam.DoFn.StateParam(LOG_1),
            log2: Any = beam.DoFn.StateParam(LOG_2),
            log3: Any = beam.DoFn.StateParam(LOG_3),
            expire: Any = beam.DoFn.TimerParam(expiring),
        ) -> None:
            self.expire_cell(expire, fired, self.cell(head, log0, log1, log2, log3))

    return StatefulStep


def stateful(step: Step, view: PlanName, level: int, behavior: Behavior, roles: Roles) -> beam.DoFn:
    """The DoFn that runs a step.

    Args:
        step: The step.
        view: Its view, importable on the workers.
        level: How many steps are before it.
        behavior: How the view follows its stream.
        roles: What the step does for others.
    """
    return _class_of(f"{step.view.view.name}/{step.label}")(view, step.label, level, behavior, roles)
