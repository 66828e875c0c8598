"""The base of the steps of a stream: a step takes a message to a key, changes the state there, and sends messages."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from boiler_beam.events import DeadLetter, EncodedRow
from boiler_beam.steps.keyed.cells import Cell, HeadCodec
from boiler_beam.steps.keyed.messages import Input, Message
from boiler_beam.steps.keyed.plan import KeyedView
from boiler_beam.steps.keyed.routing import Key

__all__ = ["Output", "Step", "StepSettings"]


class Output(Protocol):
    """What comes out of a step."""

    def count_documents(self, path: str, number: int, /) -> None:
        """Changes the number of known documents of an edge by 1 or -1."""

    def send(self, message: Message, /) -> None:
        """Sends a message to another step; `routing.address` says to which."""

    def emit(self, row: EncodedRow, /) -> None:
        """Sends a row to the sink."""

    def leave_unchanged(self, path: str, /) -> None:
        """Names the path of an unknown row, or the wildcard of its copies: what the sink holds stays (S6)."""

    def refuse(self, dead_letter: DeadLetter, /) -> None:
        """Reports a dead letter."""


@dataclass(frozen=True)
class StepSettings:
    """How the steps of a view run.

    Attributes:
        generation: That of the rows (S13).
        clock: The time in microseconds, where the runner may roll back what was already written (S15); None where only
            what is committed reaches the sink.
        horizon: The time before which deletions are forgotten (S3), in microseconds: an older change of an unknown
            document is refused.
        reporting: The labels of the steps that report what is wrong with a document; None: all.
    """

    generation: int = 1
    clock: Callable[[], int] | None = None
    horizon: Callable[[], int] = lambda: 0
    reporting: frozenset[str] | None = None

    def now(self) -> int | None:
        """The time, where stamps need it."""
        return None if self.clock is None else self.clock()


class Step(abc.ABC):
    """Base of all steps.

    Args:
        view: The view.
        label: Its name in the view, which never changes while the view does not.
        output: Where it sends.
        settings: How it runs.

    Attributes:
        head_type: The type of the heads that it keeps.
        number_of_logs: How many logs it keeps at each key.
    """

    head_type: ClassVar[type[Any]]
    number_of_logs: ClassVar[int] = 0

    def __init__(self, view: KeyedView, label: str, output: Output, settings: StepSettings) -> None:
        self.view, self.label, self.output, self.settings = view, label, output, settings
        self.heads: HeadCodec[Any] = HeadCodec(self.head_type)

    def take(self, cell: Cell, key: Key, message: Input) -> bool:
        """Takes a change or a message that was sent to a key.

        Returns:
            Whether the row of the key is dirty, so that the caller must call `RowStep.render` later.
        """
        head = self.heads.read(cell)
        is_dirty = self.update(head, cell, key, message)
        self.heads.write(cell, head)
        return bool(is_dirty)

    @abc.abstractmethod
    def update(self, head: Any, cell: Cell, key: Key, message: Any) -> bool | None:
        """Brings the head and the logs of a key up to date with a message, and sends others."""

    def empty_since(self, head: Any, cell: Cell) -> int | None:
        """The version since which the cell keeps nothing but a deletion (S3); None if it keeps more."""
        return None

    def expire(self, cell: Cell, horizon: int) -> int | None:
        """Drops a cell that has been empty since before the horizon; its key then refuses changes older than that.

        Returns:
            The version since which it is empty, if that is after the horizon: it must be checked again later.
        """
        since = self.empty_since(self.heads.read(cell), cell)
        if since is None or since >= horizon:
            return since
        cell.write(None)
        for log in cell.logs:
            log.replace([])
        return None
