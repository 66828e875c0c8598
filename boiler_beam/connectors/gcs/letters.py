"""Dead letters in a folder of Cloud Storage: one object for each flush of a worker, one dead letter a line.

`STORAGE_EMULATOR_HOST` (http://HOST:PORT) names an emulator; otherwise the cloud is used, with the application's
default credentials. An object's name begins with the time, and ends with a digest of what it holds.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import google.cloud.storage as storage
import msgspec
from google.api_core.exceptions import GoogleAPIError
from google.auth import credentials
from google.auth.exceptions import GoogleAuthError

from boiler_beam.connectors.letters import SharedWriter
from boiler_beam.errors import UsageError
from boiler_beam.events import DeadLetter

__all__ = ["open_writer", "read_letters"]

_ADDRESS = re.compile(r"(?://)?([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*?))?/?")


def _parsed(uri: str, address: str) -> tuple[str, str]:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(f"{uri}: expected gs:BUCKET/FOLDER, got {address!r}; fix: write a bucket of yours")
    return found[1], f"{found[2]}/" if found[2] else ""


def _client(uri: str) -> Any:
    try:
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            anonymous: Any = credentials.AnonymousCredentials
            return storage.Client(project="emulator", credentials=anonymous())
        return storage.Client()
    except GoogleAuthError as error:
        raise UsageError(
            f"{uri}: expected credentials, got none ({error}); fix: gcloud auth application-default login, "
            "or STORAGE_EMULATOR_HOST=http://HOST:PORT for an emulator"
        ) from None


def _refused(uri: str, expected: str, error: Exception) -> UsageError:
    fix = "grant roles/storage.objectUser on the bucket, and check its name (gcloud storage buckets list)"
    return UsageError(f"{uri}: expected {expected}, got: {error}; fix: {fix}")


class _FolderWriter(SharedWriter):
    def __init__(self, uri: str, address: str, now: Callable[[], str]) -> None:
        super().__init__(uri, now)
        self.bucket, self.folder = _parsed(uri, address)
        self._opened: Any = None

    def _send(self, dead_letters: list[DeadLetter]) -> None:
        data = b"".join(msgspec.json.encode(dead_letter) + b"\n" for dead_letter in dead_letters)
        name = f"{self.folder}{dead_letters[0].time}.{hashlib.blake2b(data, digest_size=8).hexdigest()}.jsonl"
        try:
            self._opened = self._opened or _client(self.uri)
            self._opened.bucket(self.bucket).blob(name).upload_from_string(data, "application/jsonl")
        except GoogleAPIError as error:
            raise _refused(self.uri, "to write dead letters", error) from error

    def _end(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def open_writer(uri: str, address: str, now: Callable[[], str]) -> SharedWriter:
    """Opens a writer to a folder."""
    return _FolderWriter(uri, address, now)


def read_letters(uri: str, address: str) -> Iterator[DeadLetter]:
    """Yields the dead letters of a folder, object by object.

    Raises:
        UsageError: There is no such bucket, or an object holds something else.
    """
    name, folder = _parsed(uri, address)
    client = _client(uri)
    try:
        for blob in client.list_blobs(name, prefix=folder):
            for line in blob.download_as_bytes().splitlines():
                yield msgspec.json.decode(line, type=DeadLetter)
    except GoogleAPIError as error:
        raise _refused(uri, "to read dead letters", error) from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{uri}: expected dead letters, got: {error}; fix: name a folder that holds some") from None
    finally:
        client.close()
