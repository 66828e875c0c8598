"""Replaces a file in one rename: the old content stays until the new content is complete and on the disk."""

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
    """The new file `PATH.new`, which replaces the old one at `commit`.

    Attributes:
        file: The open file, for writing and reading.
    """

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path, self.file = path, file

    def commit(self) -> None:
        """Replaces the old file by the new one."""
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

    A file that a killed program left behind is overwritten.

    Raises:
        UsageError: The folder can't be written, or another program replaces the file right now.
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
        message = f"{uri}: could not be written ({error}); its rows are unchanged; fix: free space"
        raise BoilerBeamError(message) from error
    finally:
        if _inode_at(_beside(path)) == inode:
            os.unlink(_beside(path))
        try:
            file.close()
        except OSError:
            file.close()  # the first close failed to flush to the full disk; the file is not used any more


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
        os.close(descriptor)  # the other writer ended between the two calls, and renamed its file


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
    """Reads the control data from a side file, one view a line; empty if there is no file.

    Raises:
        UsageError: The file can't be read.
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
    """Writes the control data of some views to the side file; that of other views stays.

    It is written before the rows. After a crash between both, the rows have an older generation than the control data,
    and the next backfill writes them again. In the other order the rows would have a newer generation than the control
    data.
    """
    every = {**read_controls(uri, path), **controls}
    with replacing(uri, path) as replacement:
        for name, control in sorted(every.items()):
            line = _ControlLine(name, control.generation, control.fingerprint, control.holder, control.backfilled)
            replacement.file.write(msgspec.json.encode(line) + b"\n")
        replacement.commit()
