"""Writes and reads dead letters at `jsonl:PATH` (one object a line) or `sqlite:PATH` (table `dead_letters`)."""

from __future__ import annotations

import abc
import codecs
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from typing import Any

import msgspec

from boiler_beam.connectors.base import Sink
from boiler_beam.connectors.registry import open_sink
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import DeadLetter
from boiler_beam.values import format_timestamp

__all__ = ["DeadLetterWriter", "dead_letters_beside", "open_dead_letters", "read_dead_letters"]

_COLUMNS = DeadLetter.__struct_fields__
_CREATE = f"CREATE TABLE IF NOT EXISTS dead_letters ({', '.join(_COLUMNS)})"
_INSERT = f"INSERT INTO dead_letters VALUES ({', '.join('?' * len(_COLUMNS))})"


def _now() -> str:
    return format_timestamp(datetime.now(timezone.utc))


def dead_letters_beside(sink: str | Sink) -> str:
    """Returns the default of `--dead_letter`: a file beside the sink.

    >>> dead_letters_beside("sqlite:rows.db")
    'jsonl:rows.db.dead_letters.jsonl'
    """
    opened = open_sink(sink) if isinstance(sink, str) else sink
    return f"jsonl:{opened.rest}.dead_letters.jsonl" if opened.has_path else "jsonl:dead_letters.jsonl"


class DeadLetterWriter(abc.ABC):
    """Appends dead letters to a file, which is created with the first one.

    Args:
        uri: The URI, for messages.
        path: The file.
        now: Returns the time for dead letters that have none.
    """

    def __init__(self, uri: str, path: str, now: Callable[[], str]) -> None:
        self.uri, self.path, self.now = uri, path, now
        self._opened: Any = None

    def write(self, letter: DeadLetter) -> None:
        """Writes one dead letter; all are durable after `flush` or `close`.

        Raises:
            BoilerBeamError: It can't be written.
        """
        if not letter.time:
            letter = msgspec.structs.replace(letter, time=self.now())
        try:
            if self._opened is None:
                os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
                self._opened = self._open()
            self._append(letter)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        """Makes all dead letters so far durable.

        Raises:
            BoilerBeamError: They can't be written.
        """
        if self._opened is not None:
            try:
                self._sync()
            except (OSError, sqlite3.Error) as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """Closes the file.

        Raises:
            BoilerBeamError: The last letters can't be written.
        """
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
    def _append(self, letter: DeadLetter) -> None: ...

    @abc.abstractmethod
    def _sync(self) -> None: ...

    @abc.abstractmethod
    def _end(self) -> None: ...


class _Jsonl(DeadLetterWriter):
    def _open(self) -> Any:
        return open(self.path, "ab")

    def _append(self, letter: DeadLetter) -> None:
        self._opened.write(msgspec.json.encode(letter) + b"\n")

    def _sync(self) -> None:
        self._opened.flush()
        os.fsync(self._opened.fileno())

    def _end(self) -> None:
        self._opened.close()


class _Sqlite(DeadLetterWriter):
    def _open(self) -> Any:
        database = sqlite3.connect(self.path)
        try:
            database.execute(_CREATE)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _append(self, letter: DeadLetter) -> None:
        self._opened.execute(_INSERT, msgspec.structs.astuple(letter))

    def _sync(self) -> None:
        self._opened.commit()

    def _end(self) -> None:
        self._opened.commit()
        self._opened.close()


_KINDS = {"jsonl": _Jsonl, "sqlite": _Sqlite}


def _parsed(uri: str) -> tuple[str, str]:
    scheme, _, path = uri.partition(":")
    if scheme not in _KINDS or not path:
        raise UsageError(f"{uri}: expected dead letters at jsonl:PATH or sqlite:PATH; fix: write one of the two")
    if os.path.isdir(path):
        raise UsageError(f"{uri}: expected a file, got a folder; fix: name a file in it")
    return scheme, path


def open_dead_letters(uri: str, *, now: Callable[[], str] = _now) -> DeadLetterWriter:
    """Opens a writer of dead letters. The file is created with the first one.

    Raises:
        UsageError: The URI is not one of dead letters.
    """
    scheme, path = _parsed(uri)
    return _KINDS[scheme](uri, path, now)


def read_dead_letters(uri: str) -> Iterator[DeadLetter]:
    """Yields the dead letters of a file, in the order in which they were written.

    Raises:
        UsageError: The file does not exist, or holds something else.
    """
    scheme, path = _parsed(uri)
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
