"""Writes and reads dead letters, by URI.

| URI | |
| --- | --- |
| `jsonl:PATH` | a file, one object a line |
| `sqlite:PATH` | a file, table `dead_letters` |
| `pubsub:projects/P/topics/T` | a message each; they are read from `pubsub:projects/P/subscriptions/S` |
| `firestore:PROJECT[/DATABASE]` | a document each, in the collection `_boiler_dead_letters` |
| `gs:BUCKET/FOLDER` | objects in a folder of Cloud Storage, one object a line |

The last three are for jobs whose workers are other machines.
"""

from __future__ import annotations

import abc
import codecs
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import msgspec

from boiler_beam.connectors.base import Sink
from boiler_beam.connectors.letters import DeadLetterWriter, now
from boiler_beam.connectors.registry import imported, open_sink
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import DeadLetter

__all__ = [
    "DeadLetterWriter",
    "dead_letters_beside",
    "is_shared",
    "open_dead_letters",
    "read_dead_letters",
    "shared_dead_letters",
]

_COLUMNS = DeadLetter.__struct_fields__
_CREATE = f"CREATE TABLE IF NOT EXISTS dead_letters ({', '.join(_COLUMNS)})"
_INSERT = f"INSERT INTO dead_letters VALUES ({', '.join('?' * len(_COLUMNS))})"


def dead_letters_beside(sink: str | Sink) -> str:
    """Returns the default of `--dead_letter`: a file beside the sink.

    >>> dead_letters_beside("sqlite:rows.db")
    'jsonl:rows.db.dead_letters.jsonl'
    """
    opened = open_sink(sink) if isinstance(sink, str) else sink
    return f"jsonl:{opened.rest}.dead_letters.jsonl" if opened.has_path else "jsonl:dead_letters.jsonl"


def shared_dead_letters(sink: str) -> str:
    """Returns the default of `--dead_letter` where workers are other machines: the sink's database, if it is one.

    >>> shared_dead_letters("firestore:my-project")
    'firestore:my-project'
    """
    return sink if sink.startswith("firestore:") else dead_letters_beside(sink)


def is_shared(uri: str) -> bool:
    """Returns whether many workers can write to a place.

    >>> is_shared("gs:bucket/letters"), is_shared("jsonl:letters.jsonl")
    (True, False)
    """
    return uri.partition(":")[0] in _SHARED


class _File(DeadLetterWriter):
    """Appends dead letters to a file, which is created with the first one.

    Args:
        uri: The URI, for messages.
        path: The file.
        now: Returns the time for dead letters that have none.
    """

    def __init__(self, uri: str, path: str, now: Callable[[], str]) -> None:
        super().__init__(uri, now)
        self.path = path
        self._opened: Any = None

    def _write(self, dead_letter: DeadLetter) -> None:
        try:
            if self._opened is None:
                os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
                self._opened = self._open()
            self._append(dead_letter)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        """Makes all dead letters so far durable."""
        if self._opened is not None:
            try:
                self._sync()
            except (OSError, sqlite3.Error) as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """Closes the file."""
        if self._opened is not None:
            try:
                self._end()
            except (OSError, sqlite3.Error) as error:
                raise self._failed(error) from error
            finally:
                self._opened = None

    def _failed(self, error: Exception) -> BoilerBeamError:
        return BoilerBeamError(f"{self.uri}: expected a file for dead letters, got: {error}; fix: name another")

    @abc.abstractmethod
    def _open(self) -> Any: ...

    @abc.abstractmethod
    def _append(self, dead_letter: DeadLetter) -> None: ...

    @abc.abstractmethod
    def _sync(self) -> None: ...

    @abc.abstractmethod
    def _end(self) -> None: ...


class _Jsonl(_File):
    def _open(self) -> Any:
        return open(self.path, "ab")

    def _append(self, dead_letter: DeadLetter) -> None:
        self._opened.write(msgspec.json.encode(dead_letter) + b"\n")

    def _sync(self) -> None:
        self._opened.flush()
        os.fsync(self._opened.fileno())

    def _end(self) -> None:
        self._opened.close()


class _Sqlite(_File):
    def _open(self) -> Any:
        database = sqlite3.connect(self.path)
        try:
            database.execute(_CREATE)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _append(self, dead_letter: DeadLetter) -> None:
        self._opened.execute(_INSERT, msgspec.structs.astuple(dead_letter))

    def _sync(self) -> None:
        self._opened.commit()

    def _end(self) -> None:
        self._opened.commit()
        self._opened.close()


_FILES = {"jsonl": _Jsonl, "sqlite": _Sqlite}
_SHARED = {
    "pubsub": "boiler_beam.connectors.pubsub.letters",
    "firestore": "boiler_beam.connectors.firestore.letters",
    "gs": "boiler_beam.connectors.gcs.letters",
}
"""The module of each target that many workers share."""


def _parsed(uri: str) -> tuple[str, str]:
    scheme, _, rest = uri.partition(":")
    if scheme not in (*_FILES, *_SHARED) or not rest:
        raise UsageError(
            f"{uri}: expected dead letters at jsonl:PATH, sqlite:PATH, pubsub:projects/P/topics/T, "
            "firestore:PROJECT or gs:BUCKET/FOLDER; fix: write one of them"
        )
    if scheme in _FILES and os.path.isdir(rest):
        raise UsageError(f"{uri}: expected a file, got a folder; fix: name a file in it")
    return scheme, rest


def open_dead_letters(uri: str, *, now: Callable[[], str] = now) -> DeadLetterWriter:
    """Opens a writer of dead letters. A file is created with the first one.

    Raises:
        UsageError: The URI is not one of dead letters.
    """
    scheme, rest = _parsed(uri)
    if scheme in _FILES:
        return _FILES[scheme](uri, rest, now)
    writer: DeadLetterWriter = imported(scheme, f"{_SHARED[scheme]}:open_writer")(uri, rest, now)
    return writer


def read_dead_letters(uri: str) -> Iterator[DeadLetter]:
    """Yields the dead letters at a URI, those of a file in the order in which they were written.

    Raises:
        UsageError: There is no such place, or it holds something else.
    """
    scheme, path = _parsed(uri)
    if scheme in _SHARED:
        yield from imported(scheme, f"{_SHARED[scheme]}:read_letters")(uri, path)
        return
    if not os.path.exists(path):
        raise UsageError(f"{uri}: expected dead letters, got no file; fix: check the path (no dead letters, no file)")
    try:
        if scheme == "jsonl":
            with open(path, "rb") as file:
                for line in file:
                    yield msgspec.json.decode(line.removeprefix(codecs.BOM_UTF8), type=DeadLetter)
        else:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                for values in database.execute(f"SELECT {', '.join(_COLUMNS)} FROM dead_letters ORDER BY rowid"):
                    yield DeadLetter(**dict(zip(_COLUMNS, values, strict=True)))
    except (OSError, sqlite3.Error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{uri}: expected dead letters, got: {error}; fix: name a file that holds some") from None
