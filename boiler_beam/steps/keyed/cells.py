"""What a step keeps at one key: a head, and logs.

A head is small and is read and written for each message. A log is appended to without being read. Both are bytes; the
first byte of a head is the version of its format. Beam's state or a simulator's dict is behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

__all__ = ["Cell", "HeadCodec", "ListLog", "Log"]

_FORMAT = bytes([5])
T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


class Log(Protocol):
    """Entries in any order."""

    def append(self, entry: bytes, /) -> None:
        """Adds an entry."""

    def read(self) -> Iterable[bytes]:
        """All entries."""

    def replace(self, entries: list[bytes], /) -> None:
        """Replaces all entries."""


class ListLog:
    """A log in memory."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self.entries = list(entries)

    def append(self, entry: bytes, /) -> None:
        """Adds an entry."""
        self.entries.append(entry)

    def read(self) -> list[bytes]:
        """All entries."""
        return self.entries

    def replace(self, entries: list[bytes], /) -> None:
        """Replaces all entries."""
        self.entries = entries


class Cell(Protocol):
    """What is kept at one key of one step."""

    @property
    def logs(self) -> Sequence[Log]:
        """The logs."""

    def read(self) -> bytes | None:
        """The head; None where nothing is kept."""

    def write(self, head: bytes | None, /) -> None:
        """Replaces the head; None drops it."""


class HeadCodec(Generic[T]):
    """Reads and writes heads of one type.

    Args:
        type_: The type; without arguments it makes the head of a key that was never seen.
    """

    def __init__(self, type_: type[T]) -> None:
        self._type, self._decode, self._new = type_, msgspec.msgpack.Decoder(type_).decode, _encode(type_())

    def read(self, cell: Cell) -> T:
        """The head of a cell; a new one where nothing is kept.

        Raises:
            ValueError: Another version of the program wrote it.
        """
        data = cell.read()
        if data is None:
            return self._type()
        if data[:1] != _FORMAT:
            raise ValueError(f"expected state of format {_FORMAT[0]}, got {data[0]}: it was made by another version")
        return self._decode(memoryview(data)[1:])

    def write(self, cell: Cell, head: T) -> None:
        """Replaces the head of a cell; one that is like a new head is dropped."""
        data = _encode(head)
        cell.write(None if data == self._new else _FORMAT + data)
