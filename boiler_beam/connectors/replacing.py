"""Replacing a file in one rename: the old content stands until the new one is whole and on the disk."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

import msgspec

from boiler_beam.connectors.base import Control
from boiler_beam.errors import BoilerBeamError, UsageError

__all__ = ["Replacement", "read_controls", "replacing", "write_controls"]


class Replacement:
    """A new file beside the one that it will replace, `PATH.new`.

    Attributes:
        file: Open for writing and reading.
    """

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path, self.file = path, file

    def commit(self) -> None:
        """Puts the new file in the old one's place."""
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(_beside(self.path), self.path)
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _beside(path: str) -> str:
    return f"{path}.new"


@contextmanager
def replacing(uri: str, path: str) -> Iterator[Replacement]:
    """Opens a replacement of the file at `path`, locked by the operating system; without `commit` nothing changes.

    What a killed program left behind is taken over by the next one.

    Raises:
        UsageError: The place can't be written, or another program replaces the file right now.
        BoilerBeamError: The disk is full.
    """
    try:
        if os.path.isdir(path):
            raise UsageError(f"{uri}: expected a file, got a folder; fix: name a file in it")
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        file = _locked(uri, _beside(path))
    except OSError as error:
        raise UsageError(f"{uri}: expected a file that can be written, got: {error}; fix: name another") from None
    inode = os.fstat(file.fileno()).st_ino
    try:
        yield Replacement(path, file)
    except OSError as error:
        message = f"{uri}: could not be written ({error}); its rows stand as before; fix: free space"
        raise BoilerBeamError(message) from error
    finally:
        if _inode_at(_beside(path)) == inode:
            os.unlink(_beside(path))
        try:
            file.close()
        except OSError:
            file.close()  # the first one failed to flush to the full disk; the file is of no use anyway


def _locked(uri: str, path: str) -> BinaryIO:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(
                f"{uri}: expected to be its only writer, got another one; fix: wait until it ends"
            ) from None
        if _inode_at(path) == os.fstat(descriptor).st_ino:
            os.ftruncate(descriptor, 0)
            return open(descriptor, "w+b")
        os.close(descriptor)  # the other writer ended between the two calls, and its file is in place


def _inode_at(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


class _ControlLine(msgspec.Struct, omit_defaults=True):
    view: str
    generation: int
    fingerprint: str
    holder: str = ""
    backfilled: int = 0


def read_controls(uri: str, path: str) -> dict[str, Control]:
    """The control data in a side file, one view a line; none where there is no file.

    Raises:
        UsageError: It can't be read.
    """
    try:
        with open(path, "rb") as file:
            lines = [msgspec.json.decode(line, type=_ControlLine) for line in file if line.strip()]
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{uri}: expected control data in {path}, got: {error}; fix: name another sink") from None
    return {line.view: _control(line) for line in lines}


def _control(line: _ControlLine) -> Control:
    return Control(
        generation=line.generation, fingerprint=line.fingerprint, holder=line.holder, backfilled=line.backfilled
    )


def write_controls(uri: str, path: str, controls: Mapping[str, Control]) -> None:
    """Puts control data into the side file; that of other views stays.

    It is written before the rows. A crash between the two leaves rows of an older generation, which the next backfill
    writes again; the other way round it would leave rows that look newer than those of the program that made them.
    """
    every = {**read_controls(uri, path), **controls}
    with replacing(uri, path) as replacement:
        for name, control in sorted(every.items()):
            line = _ControlLine(name, control.generation, control.fingerprint, control.holder, control.backfilled)
            replacement.file.write(msgspec.json.encode(line) + b"\n")
        replacement.commit()
