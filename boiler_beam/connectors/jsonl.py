"""The `jsonl:` sink: a log of rows.

The current row of a path is the line with the newest stamp; at equal stamps the later.

    {"path": "meeting_sessions/m1", "generation": 1, "version": 1700000000000000, "seq": 0, "fields": {...}}

`fields` is null for a deleted row. A backfill replaces the file in one rename; control data is in a file beside it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import BinaryIO, ClassVar

import msgspec

from boiler_beam.connectors.base import BackfillWriter, Control, Sink, StreamWriter
from boiler_beam.connectors.locks import Lock
from boiler_beam.connectors.replacing import Replacement, read_controls, replacing, write_controls
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import EncodedRow, Stamp, View

__all__ = ["JsonlSink"]


class _Line(msgspec.Struct, gc=False):
    path: str
    generation: int
    version: int
    seq: int
    fields: msgspec.Raw


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_BEGIN = b'{"path":"'


class JsonlSink(Sink):
    """Stores rows in one uncompressed file."""

    scheme: ClassVar[str] = "jsonl"
    has_path: ClassVar[bool] = True

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        if not rest:
            raise UsageError(f"{self.uri}: expected a path behind the scheme, got none; fix: write jsonl:PATH")
        self._known: tuple[object, frozenset[int]] | None = None

    @property
    def _control_path(self) -> str:
        return f"{self.rest}.control.jsonl"

    def controls(self) -> dict[str, Control]:
        """Reads the control data of all views from the side file `PATH.control.jsonl`."""
        return read_controls(self.uri, self._control_path)

    def current_rows(self, view: View) -> Iterator[EncodedRow]:
        """Yields the current rows of a view: for each path the line with the newest stamp."""
        for line in self._standing_lines(view):
            yield EncodedRow(line.path, Stamp(line.generation, line.version, line.seq), bytes(line.fields))

    def _standing_lines(self, view: View | None = None) -> Iterator[_Line]:
        """Yields the current rows of one view, or of all, in two passes, so that only stamps are held in memory."""
        places = self._places()
        with self._open() as file:
            for number, text in enumerate(file):
                if number in places:
                    line = _decode(text)
                    if view is None or view.matches(line.path):
                        yield line

    def _places(self) -> frozenset[int]:
        """Returns the numbers of the lines with current rows; computed again only when the file has changed."""
        state = _state(self.rest)
        if self._known is not None and self._known[0] == state:
            return self._known[1]
        newest: dict[str, tuple[Stamp, int]] = {}
        with self._open() as file:
            for number, text in enumerate(file):
                try:
                    line = _decode(text)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    if not text.endswith(b"\n"):
                        break  # the writer was stopped while it wrote its last line
                    message = f"expected a row, got: {error}; fix: name a file that holds rows, or a new one"
                    raise UsageError(f"{self.uri}:{number + 1}: {message}") from None
                stamp = Stamp(line.generation, line.version, line.seq)
                is_deleted = bytes(line.fields) == b"null"
                if line.path not in newest or newest[line.path][0] <= stamp:
                    newest[line.path] = stamp, -1 if is_deleted else number
        self._known = state, frozenset(number for _, number in newest.values())
        return self._known[1]

    def _open(self) -> BinaryIO:
        try:
            return open(self.rest if os.path.exists(self.rest) else os.devnull, "rb")
        except OSError as error:
            raise UsageError(f"{self.uri}: expected a file that can be read, got: {error}; fix: name another") from None

    @contextmanager
    def backfill(self, views: Sequence[View]) -> Iterator[BackfillWriter]:
        """Opens a backfill, which writes a new file and renames it at `commit`."""
        with closing(Lock(self.uri, self.rest)), replacing(self.uri, self.rest) as replacement:
            yield _Writer(self, replacement)

    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        """Opens the file for appending. An incomplete last line, which a killed writer left, is cut off (S23)."""
        with closing(Lock(self.uri, self.rest)):
            try:
                file = open(self.rest, "ab+", buffering=0)  # noqa: SIM115
            except OSError as error:
                raise UsageError(
                    f"{self.uri}: expected a file that can be written, got: {error}; fix: name another"
                ) from None
            with file:
                self._check_first(file)
                _cut_torn_line(file)
                yield _Appender(self, file)

    def _check_first(self, file: io.FileIO) -> None:
        """Raises an error if the file holds something else than rows."""
        file.seek(0)
        first, end, _ = file.read(2 << 20).partition(b"\n")
        try:
            if end:
                _decode(first)
            elif not (first.startswith(_BEGIN) or _BEGIN.startswith(first)):
                raise msgspec.ValidationError("text that no row begins with")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            message = f"expected a row, got: {error}; fix: name a file that holds rows, or a new one"
            raise UsageError(f"{self.uri}:1: {message}") from None

    def _commit(self, replacement: Replacement, going: set[str], controls: Mapping[str, Control]) -> None:
        for line in self._standing_lines():
            if line.path not in going:
                replacement.file.write(_encode(line) + b"\n")
        write_controls(self.uri, self._control_path, controls)
        replacement.commit()


def _state(path: str) -> object:
    if not os.path.exists(path):
        return None
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Writer(BackfillWriter):
    def __init__(self, sink: JsonlSink, replacement: Replacement) -> None:
        self.sink, self.replacement = sink, replacement
        self.going: set[str] = set()

    def write(self, view: View, row: EncodedRow) -> None:
        assert row.fields is not None
        line = _encode(_Line(row.path, *row.stamp, msgspec.Raw(row.fields)))
        self.replacement.file.write(line + b"\n")
        self.going.add(row.path)

    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        self.going.add(path)

    def commit(self, controls: Mapping[str, Control]) -> None:
        self.sink._commit(self.replacement, self.going, controls)


def _cut_torn_line(file: io.FileIO) -> None:
    size = end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - 65536)
        file.seek(begin)
        place = file.read(end - begin).rfind(b"\n")
        end = begin + place + 1
        if place >= 0:
            break
    if end < size:
        file.truncate(end)


class _Appender(StreamWriter):
    def __init__(self, sink: JsonlSink, file: io.FileIO) -> None:
        self.sink, self.file = sink, file

    def write(self, rows: Sequence[tuple[View, EncodedRow]]) -> None:
        lines = [
            _Line(path, *stamp, msgspec.Raw(b"null" if fields is None else fields)) for _, (path, stamp, fields) in rows
        ]
        begin = self.file.seek(0, os.SEEK_END)
        left = memoryview(_encode_lines(lines))
        try:
            while left:
                left = left[self.file.write(left) or 0 :]
            if self.must_be_durable:
                os.fsync(self.file.fileno())
        except OSError as error:
            self.file.truncate(begin)
            message = f"{self.sink.uri}: could not be written ({error}); nothing is lost; fix: free space, run again"
            raise BoilerBeamError(message) from error

    def control(self, controls: Mapping[str, Control]) -> None:
        write_controls(self.sink.uri, self.sink._control_path, controls)
