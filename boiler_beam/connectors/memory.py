"""A sink in memory, alone or over another one: for dry runs, comparisons and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from typing_extensions import override

from boiler_beam.connectors.base import BackfillWriter, Control, Sink, StreamWriter
from boiler_beam.events import EncodedRow, Stamp, View

__all__ = ["MemorySink"]

_OLDEST = Stamp(0, 0, 0)


class MemorySink(Sink):
    """Keeps what is written to it, over another sink that is read and never written.

    Args:
        under: A sink whose rows and control data are here, too, until they are replaced.
        is_aside: Whether the rows of `under` count as older than any others, so that all rows are computed anew.

    Attributes:
        written: The rows that were written, by path.
        deleted: The paths that were deleted.
    """

    scheme: ClassVar[str] = "memory"

    def __init__(self, under: Sink | None = None, *, is_aside: bool = False) -> None:
        super().__init__(under.uri if under is not None else "")
        self.under, self.is_aside = under, is_aside
        self.written: dict[str, EncodedRow] = {}
        self.deleted: set[str] = set()
        self._controls = under.controls() if under is not None else {}

    @override
    def controls(self) -> dict[str, Control]:
        return self._controls

    @override
    def current_rows(self, view: View) -> Iterator[EncodedRow]:
        for row in self.under.current_rows(view) if self.under is not None else ():
            if row.path not in self.written and row.path not in self.deleted:
                yield row._replace(stamp=_OLDEST) if self.is_aside else row
        for row in self.written.values():
            if view.matches(row.path):
                yield row

    @override
    @contextmanager
    def backfill(self, views: Sequence[View]) -> Iterator[BackfillWriter]:
        yield _Writer(self)

    @override
    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        yield _Follower(self)


class _Writer(BackfillWriter):
    def __init__(self, sink: MemorySink) -> None:
        self.sink = sink
        self.written: dict[str, EncodedRow] = {}
        self.deleted: set[str] = set()

    def write(self, view: View, row: EncodedRow) -> None:
        self.written[row.path] = row

    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        self.deleted.add(path)

    def commit(self, controls: Mapping[str, Control]) -> None:
        self.sink.written = {path: row for path, row in self.sink.written.items() if path not in self.deleted}
        self.sink.written.update(self.written)
        self.sink.deleted = (self.sink.deleted | self.deleted) - self.written.keys()
        self.sink._controls = {**self.sink._controls, **controls}


class _Follower(StreamWriter):
    def __init__(self, sink: MemorySink) -> None:
        self.sink = sink

    def write(self, rows: Sequence[tuple[View, EncodedRow]]) -> None:
        for _, row in rows:
            current = self.sink.written.get(row.path)
            if current is not None and current.stamp > row.stamp:
                continue
            if row.fields is None:
                self.sink.written.pop(row.path, None)
                self.sink.deleted.add(row.path)
            else:
                self.sink.written[row.path] = row
                self.sink.deleted.discard(row.path)

    def control(self, controls: Mapping[str, Control]) -> None:
        self.sink._controls = {**self.sink._controls, **controls}
