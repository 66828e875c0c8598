"""Makes sure that a file has one writer: locks a file beside it. The operating system releases the lock at a kill."""

from __future__ import annotations

import fcntl
import os
from typing import BinaryIO

from boiler_beam.errors import UsageError

__all__ = ["Lock", "LockedError"]


class LockedError(UsageError):
    """Another program holds a lock."""


class Lock:
    """Holds the lock `PATH.lock` until it is closed.

    Args:
        uri: The URI of the locked file, for messages.
        path: The file that is written.
        fix: The fix in the message if another program holds the lock.

    Raises:
        LockedError: Another program holds the lock.
        UsageError: The lock file can't be created.
    """

    def __init__(self, uri: str, path: str, fix: str = "wait until it ends") -> None:
        self._path, self._fix = f"{path}.lock", fix
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            self._file: BinaryIO = self._locked(uri)
        except OSError as error:
            raise UsageError(f"{uri}: expected a folder that can be written, got: {error}; fix: name another") from None

    def _locked(self, uri: str) -> BinaryIO:
        while True:
            file = open(self._path, "ab")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise LockedError(f"{uri}: expected to be its only writer, got another one; fix: {self._fix}") from None
            try:
                if os.stat(self._path).st_ino == os.fstat(file.fileno()).st_ino:
                    return file
            except FileNotFoundError:
                pass  # its last holder removed the file between the two calls: create it again
            file.close()

    def close(self) -> None:
        """Releases the lock."""
        if not self._file.closed:
            os.unlink(self._path)
            self._file.close()
