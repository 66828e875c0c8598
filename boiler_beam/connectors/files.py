"""Document files: `file:PATH` (a file, a folder, a glob; `.gz` too), `tail:PATH` (one that grows), `sample:`.

A line is `{"path": "users/u1", "version": 1700000000000000, "fields": {...}}`, with `"fields": null` for a deletion.
Other keys, blank lines and a byte order mark at the beginning are ignored. A malformed line is a dead letter
`malformed_line`.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import io
import logging
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from boiler_beam.connectors.base import Source
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.values import INT64_MAX

__all__ = ["FileSource", "SampleSource", "TailSource", "change_of_line"]

SPLIT_BYTES = 32 << 20
_GZIP_RATIO = 6


class _Line(Change, frozen=True, gc=False):
    version: Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)]
    event_time: int = msgspec.field(default=0, name="-")
    """Document lines carry no event time: a key of that name is ignored (`-` is the name of no key)."""


_decode = msgspec.json.Decoder(_Line).decode
_decode_lines = msgspec.json.Decoder(_Line).decode_lines
_CHUNK_BYTES = 1 << 18
_log = logging.getLogger("boiler_beam")
_BEGINNING_BYTES = 4096
_POLL_SECONDS = 0.05


class _Position(msgspec.Struct, array_like=True):
    offset: int
    beginning: str


def _opened(path: str) -> Any:
    return gzip.open(path) if path.endswith(".gz") else open(path, "rb")


def _beginning(path: str, offset: int) -> str:
    """Returns a digest of the beginning of a file up to an offset, by which a replaced file is detected."""
    with _opened(path) as file:
        first = file.read(min(offset, _BEGINNING_BYTES))
        file.seek(0, os.SEEK_END)
        size = file.tell() if not path.endswith(".gz") else offset
    return hashlib.blake2b(first, digest_size=16).hexdigest() if size >= offset else "shorter"


class FileSource(Source):
    """Reads document files; large ones in several parts, in parallel."""

    scheme: ClassVar[str] = "file"

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self._counter = _LineCounter()
        if not rest:
            raise UsageError(f"{self.uri}: expected a path behind the scheme, got none; fix: write file:PATH")

    def files(self) -> list[str]:
        """Returns the files that the path matches, sorted.

        Raises:
            UsageError: No file matches, or one can't be read.
        """
        if os.path.isdir(self.rest):
            found = [entry.path for entry in os.scandir(self.rest) if entry.name.endswith((".jsonl", ".jsonl.gz"))]
            wanted = "a folder with .jsonl or .jsonl.gz files"
        elif os.path.exists(self.rest):
            found, wanted = [self.rest], ""
        else:
            found = [path for path in glob.glob(self.rest, recursive=True) if not os.path.isdir(path)]
            wanted = "a file, a folder or a glob that matches files"
        if not found:
            raise UsageError(f"{self.uri}: expected {wanted}, got none; fix: check the path")
        for path in found:
            try:
                open(path, "rb").close()
            except OSError as error:
                raise UsageError(
                    f"{self.uri}: expected a readable file, got {path}: {error.strerror}; fix: check its permissions"
                ) from None
        return sorted(found)

    def splits(self) -> Sequence[str]:
        """Returns `BEGIN-END:PATH` with byte offsets for each part.

        Without END the part extends to the end of the file.
        """
        found = []
        for path in self.files():
            size = 0 if path.endswith(".gz") else os.path.getsize(path)
            begins = range(0, max(size, 1), SPLIT_BYTES)
            ends = [*map(str, begins[1:]), ""]
            found += [f"{begin}-{end}:{path}" for begin, end in zip(begins, ends, strict=True)]
        return found

    def size_bytes(self) -> int:
        """Returns the size of all files, uncompressed."""
        return sum(os.path.getsize(path) * (_GZIP_RATIO if path.endswith(".gz") else 1) for path in self.files())

    def follow(self, position: str | None) -> Iterator[tuple[list[Change | DeadLetter], str]]:
        """Yields the changes after a position, which has for each file a byte offset and a digest of its beginning."""
        known = msgspec.json.decode(position, type=dict[str, _Position]) if position else {}
        for path in self.files():
            begin = self._continued(path, known[path]) if path in known else 0
            end = begin
            try:
                for chunk in _chunks(path, begin, None):
                    changes = _changes_of(chunk, path, end)
                    end += len(chunk)
                    known[path] = _Position(end, _beginning(path, end))
                    yield changes, msgspec.json.encode(known).decode()
            except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
                raise UsageError(f"file:{path}: expected to read on, got: {error}; fix: restore the file") from error

    def _continued(self, path: str, known: _Position) -> int:
        """Returns the offset at which a file is read on; raises an error if the part before it was changed."""
        if _beginning(path, known.offset) != known.beginning:
            raise UsageError(
                f"{self.uri}: expected {path} to begin as when it was read up to byte {known.offset:,}, got another "
                "beginning; fix: append to the file, or start with another --state"
            )
        return known.offset

    def place(self, split: str, number: int) -> str:
        """Returns file and line of a change; cheap if called in the order in which the changes were read."""
        span, _, path = split.partition(":")
        return f"file:{path}:{self._counter.line(path, _line_at(path, int(span.partition('-')[0])), number)}"

    def place_followed(self, before: str | None, after: str, number: int) -> str | None:
        """Returns file and line of a change that `follow` yielded."""
        old = msgspec.json.decode(before, type=dict[str, _Position]) if before else {}
        for path, one in msgspec.json.decode(after, type=dict[str, _Position]).items():
            begin = old[path].offset if path in old else 0
            if begin < one.offset:
                return f"file:{path}:{self._counter.line(path, begin, number)}"
        return None

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        """Yields the changes of the lines that begin in a split."""
        span, _, path = split.partition(":")
        begin, _, end = span.partition("-")
        number = 0
        try:
            for chunk in _chunks(path, int(begin), int(end) if end else None):
                changes = _decoded(chunk)
                if changes is not None:
                    yield from changes
                else:
                    yield from _one_by_one(chunk, path, number + _lines_before(path, int(begin)))
                number += chunk.count(b"\n")
        except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
            place = f"file:{path}:{number + _lines_before(path, int(begin)) + 1}"
            raise UsageError(f"{place}: expected to read on, got: {error}; fix: restore the file") from error


class _LineCounter:
    """Counts lines for messages; continues at the line of the last call."""

    def __init__(self) -> None:
        self.path, self.begin, self.number = "", 0, -1
        self.position = self.lines = 0
        """The offset after the line of the last call."""

    def line(self, path: str, begin: int, number: int) -> int:
        """Returns the number, from 1, of the line that is `number` lines (not counting blank ones) after an offset."""
        is_behind = path == self.path and begin == self.begin and number > self.number
        if not is_behind:
            if path != self.path or begin < self.position:
                self.position = self.lines = 0
            self.path, self.begin, self.number = path, begin, -1
        with _opened(path) as file:
            file.seek(self.position)
            while self.position < begin and (block := file.read(min(begin - self.position, 1 << 20))):
                self.position += len(block)
                self.lines += block.count(b"\n")
            while self.number < number and (line := file.readline()):
                self.position += len(line)
                self.lines += 1
                self.number += bool(line.strip())
        return self.lines


def _line_at(path: str, begin: int) -> int:
    """Returns the offset of the first line that begins in a part of a file."""
    if not begin:
        return 0
    with _opened(path) as file:
        file.seek(begin - 1)
        file.readline()
        return int(file.tell())


def _chunks(path: str, begin: int, end: int | None) -> Iterator[bytes]:
    """Yields the lines that begin in a part of a file, in batches."""
    with _opened(path) as file:
        position = begin
        if begin:
            file.seek(begin - 1)
            file.readline()
            position = file.tell()
        while end is None or position < end:
            chunk = file.read(_CHUNK_BYTES if end is None else min(_CHUNK_BYTES, end - position))
            if not chunk:
                return
            if not chunk.endswith(b"\n"):
                chunk += file.readline()
            position += len(chunk)
            yield chunk


def _decoded(lines: bytes) -> list[_Line] | None:
    """Decodes the changes of many lines; returns None if one of them is malformed."""
    try:
        changes = _decode_lines(lines)
        if not lines.isascii():
            lines.decode()  # msgspec does not validate the text of unused keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return changes if all(_is_of_a_document(change.path) for change in changes) else None


def _changes_of(lines: bytes, path: str, begin: int) -> list[Change | DeadLetter]:
    """Yields the changes of the lines that begin at an offset in a file."""
    changes: Any = _decoded(lines)
    return list(_one_by_one(lines, path, _lines_before(path, begin))) if changes is None else changes


def _is_of_a_document(path: str) -> bool:
    return path.count("/") & 1 == 1 and "//" not in path and path[0] != "/" != path[-1]


def _one_by_one(lines: bytes, path: str, number: int) -> Iterator[Change | DeadLetter]:
    """Yields the changes of lines of which some are malformed; `number` lines precede them in the file."""
    for line in io.BytesIO(lines):
        number += 1
        line = line.removeprefix(codecs.BOM_UTF8)
        try:
            line.decode()
            change = _decode(line)
            if _is_of_a_document(change.path):
                yield change
                continue
            problem = f"expected a document's path, got {change.path!r}"
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if not line.strip():
                continue
            problem = str(error)
        yield _malformed(line, problem, f"file:{path}:{number}")


def change_of_line(line: str, source: str | None) -> Change | DeadLetter | None:
    """Decodes the change of a line; returns a dead letter if it is malformed, None if it is empty."""
    found = next(_one_by_one(line.encode(), "", 0), None)
    return msgspec.structs.replace(found, source=source) if isinstance(found, DeadLetter) else found


def _lines_before(path: str, begin: int) -> int:
    """Counts the lines that begin before a split, for a message."""
    if not begin:
        return 0
    lines = 0
    with open(path, "rb") as file:
        left = begin - 1
        while left and (block := file.read(min(left, 1 << 20))):
            lines += block.count(b"\n")
            left -= len(block)
    return lines + 1


class _Known(msgspec.Struct):
    path: msgspec.Raw = msgspec.Raw(b"null")
    version: msgspec.Raw = msgspec.Raw(b"null")


def _malformed(line: bytes, problem: str, place: str) -> DeadLetter:
    path = version = None
    try:
        known = msgspec.json.decode(line, type=_Known)
        path, version = msgspec.json.decode(known.path), msgspec.json.decode(known.version)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        problem = problem or "expected JSON"  # not even the path can be read
    return DeadLetter(
        stage="read",
        code="malformed_line",
        message=f'{problem}; a line is {{"path": "users/u1", "version": 1700000000000000, "fields": {{...}}}}',
        path=path if isinstance(path, str) else None,
        version=version if type(version) is int else None,
        source=place,
        input=line.rstrip(b"\r\n").decode("utf-8", "backslashreplace"),
    )


class SampleSource(FileSource):
    """Reads the documents of an example: `sample:` (the meeting room) or `sample:cities`."""

    scheme: ClassVar[str] = "sample"

    def __init__(self, rest: str) -> None:
        folder = Path(__file__).parent.parent / "samples"
        name = rest or "meeting"
        known = sorted(path.stem for path in folder.glob("*.jsonl"))
        if name not in known:
            raise UsageError(f"sample:{rest}: expected one of {', '.join(known)}, got {name!r}; fix: name one of them")
        super().__init__(str(folder / f"{name}.jsonl"))
        self.uri = f"sample:{rest}"


class TailSource(FileSource):
    """Follows one document file without end: reads its lines, and then appended lines.

    The file may be created later.
    """

    scheme: ClassVar[str] = "tail"
    is_bounded: ClassVar[bool] = False

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        if rest.endswith(".gz") or os.path.isdir(rest):
            raise UsageError(f"{self.uri}: expected one file that lines are appended to; fix: name it")

    def files(self) -> list[str]:
        """Returns the file, if it exists."""
        return super().files() if os.path.exists(self.rest) else []

    def follow(self, position: str | None) -> Iterator[tuple[list[Change | DeadLetter], str]]:
        """Yields the changes after a position: a byte offset and a digest of the file's beginning."""
        position = position or '[0,""]'
        if not os.path.exists(self.rest):
            _log.warning("%s: there is no such file yet: waits until there is one", self.uri)
        while True:
            for batch in self._appended(msgspec.json.decode(position, type=_Position)):
                position = batch[1]
                yield batch
            yield [], position
            time.sleep(_POLL_SECONDS)

    def place_followed(self, before: str | None, after: str, number: int) -> str:
        """Returns file and line of a change that `follow` yielded."""
        begin = msgspec.json.decode(before, type=_Position).offset if before else 0
        return f"file:{self.rest}:{self._counter.line(self.rest, begin, number)}"

    def _appended(self, at: _Position) -> Iterator[tuple[list[Change | DeadLetter], str]]:
        """Yields the lines that were not read yet; a line without line break is left until it is complete."""
        path, end = self.rest, at.offset
        try:
            if (not end and not os.path.exists(path)) or os.path.getsize(path) == end:
                return
            if end:
                self._continued(path, at)
            for chunk in _chunks(path, end, None):
                lines = chunk[: chunk.rfind(b"\n") + 1]
                if lines:
                    changes = _changes_of(lines, path, end)
                    end += len(lines)
                    yield changes, msgspec.json.encode(_Position(end, _beginning(path, end))).decode()
        except OSError as error:
            raise UsageError(f"{self.uri}: expected to read on, got: {error}; fix: restore the file") from None
