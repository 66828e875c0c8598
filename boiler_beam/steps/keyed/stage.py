"""What a keyed stage of a stream is: it takes what comes to one key, and keeps a head and some logs there.

A head is small, read and written for each message; a log is added to without being read. Both are bytes, the head's
first byte is the version of its form. Beam's state stands behind them, or a simulator's dict.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from boiler_beam.events import Change, DeadLetter, Row
from boiler_beam.steps.keyed.logs import Log
from boiler_beam.steps.keyed.posting import Posting
from boiler_beam.steps.stream.messages import Message
from boiler_beam.steps.stream.plan import StreamPlan

__all__ = ["Cell", "HeadCodec", "Output", "Stage"]

FORM = 1
_encode = msgspec.msgpack.Encoder().encode


class Cell(Protocol):
    """What is kept at one key of one stage."""

    @property
    def logs(self) -> Sequence[Log]:
        """The logs."""

    def read(self) -> bytes | None:
        """The head; None where nothing was kept yet."""

    def write(self, head: bytes | None, /) -> None:
        """Another head; None: the cell is as if it had never been."""


class Output(Protocol):
    """What comes out of a stage."""

    def known(self, path: str, number: int, /) -> None:
        """A document more (1) or less (-1) is known at an edge."""

    def post(self, message: Message, /) -> None:
        """To another stage; see `boiler_beam.steps.keyed.posting.address`."""

    def give(self, row: Row, /) -> None:
        """To the sink."""

    def leave(self, path: str, /) -> None:
        """A row, or a mask of its copies, that can't be told: what stands in the sink stays (S6)."""

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

    def gone_since(self, cell: Cell) -> int | None:
        """The version, in microseconds, at which all that the cell was for went; None while there is something (S3)."""
        return None

    def expire(self, cell: Cell, horizon: int) -> int | None:
        """Drops a cell whose contents went before a time: a key that has no state takes nothing that is older.

        Returns:
            The version at which they went, where that is too early yet: somebody must look at the cell again.
        """
        since = self.gone_since(cell)
        if since is None or since >= horizon:
            return since
        cell.write(None)
        for log in cell.logs:
            log.replace([])
        return None


class HeadCodec:
    """A head and its bytes."""

    def __init__(self, type_: type[Any]) -> None:
        self._type, self._decode = type_, msgspec.msgpack.Decoder(type_).decode

    def read(self, cell: Cell) -> Any:
        """The head of a cell; a new one where there is none.

        Raises:
            ValueError: It was made by another version.
        """
        data = cell.read()
        if data is None:
            return self._type()
        if data[0] != FORM:
            raise ValueError(f"expected state of form {FORM}, got {data[0]}: it was made by another version")
        return self._decode(memoryview(data)[1:])

    @staticmethod
    def write(cell: Cell, head: Any) -> None:
        """Puts another head."""
        cell.write(bytes([FORM]) + _encode(head))
