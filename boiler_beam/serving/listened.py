"""The rows of `--rows firestore:PROJECT[/DATABASE]`: a local file for each view, which one listener fills (`mirror`).

A listener begins when a view is first read, and ends some time after the last reader. Between, reads are answered from
the file, also when Firestore can't be reached. Files are temporary: another process begins with a snapshot, which is
newer than all that its clients have seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable
from typing import Any

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.plan import Plan
from boiler_beam.serving.hub import Limits
from boiler_beam.serving.mirror import Mirror
from boiler_beam.serving.offsets import Position
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.reader import RowReader
from boiler_beam.serving.rows import Rows
from boiler_beam.values import Database, Ref

__all__ = ["ListenedRows"]

_LOOK_SECONDS = 0.02
_BEHIND_SECONDS = 1.0
"""After so long a listener that has not reached a time asks the server again."""
_END_SECONDS = 3.0
_FUTURE_MICROS = 60_000_000
_SHARED = 8
"""The letters of an incarnation that are the same in each server: they name the database and the view."""


class ListenedRows(Rows):
    """Rows in a Firestore database.

    Args:
        rest: `PROJECT` or `PROJECT/DATABASE`.
        plan: The views, with the database of the documents: references into it are local.
        limits: How long readers wait, and listeners stay.

    Raises:
        UsageError: The address is malformed.
    """

    def __init__(self, rest: str, plan: Plan, limits: Limits) -> None:
        self._client, self._limits = Client(rest), limits
        self.uri, self.written = self._client.uri, _nobody
        folder = tempfile.mkdtemp(prefix="boiler_beam_rows_")
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        process, fields = uuid.uuid4().hex[:_SHARED], _fields(self._client.location, plan.database)
        self._mirrors = {
            view.name: Mirror(
                rest,
                view.target,
                os.path.join(folder, f"{number}.db"),
                _digest(f"{self._client.root}{view.target.template}") + process,
                fields,
                limits.release_seconds,
                lambda: self.written(),
            )
            for number, view in enumerate(plan.views)
        }

    @property
    def listeners(self) -> int:
        """The number of listeners that run now: at most one for each view."""
        return sum(mirror.is_running for mirror in self._mirrors.values())

    def of(self, view: str) -> RowReader:
        """Returns the reader of a view's file."""
        return self._mirrors[view].reader

    def start(self) -> None:
        """Begins to listen to all views; to those that nobody reads not for long."""
        for mirror in self._mirrors.values():
            mirror.use()

    def hold(self, view: str) -> None:
        """A client follows a view."""
        self._mirrors[view].hold(1)

    def release(self, view: str) -> None:
        """A client no longer follows a view."""
        self._mirrors[view].hold(-1)

    async def ready(self, view: str, number: int = 0) -> None:
        """Waits for the view's listener, if it begins, or if another server has told its client of a later commit.

        Where the database can't be reached, it waits for some time, and then lets the reader have the rows that are
        there: only not rows that are older than those that the client has seen.

        Raises:
            Problem: There are no such rows.
        """
        mirror = self._mirrors[view]
        mirror.use()
        if mirror.is_at(number):
            return
        if number > time.time_ns() // 1000 + _FUTURE_MICROS:  # no server has told that
            number = 0
        mirror.hold(1)
        try:
            await self._waited(mirror, number)
        finally:
            mirror.hold(-1)
        mirror.is_given_up = not mirror.is_fresh
        if not mirror.consistent or number > mirror.consistent:
            raise Problem(503, "not yet", "the rows are being read; try again", headers=[("Retry-After", "1")])

    async def _waited(self, mirror: Mirror, number: int) -> None:
        began = time.monotonic()
        while not mirror.is_at(number):
            waited = time.monotonic() - began
            if waited > self._limits.wait_seconds or (mirror.is_given_up and number <= mirror.consistent):
                return
            if waited > _BEHIND_SECONDS and mirror.is_fresh:
                mirror.listen_anew(began)
            await asyncio.sleep(_LOOK_SECONDS)

    def continues(self, incarnation: str, other: str, view: str, position: Position) -> Position | None:
        """Returns where a position that another server gave is in this one; None: that is not known.

        All changes up to the number of a position are known to its client, if it is not within a commit or a snapshot.
        """
        is_same = other[:_SHARED] == incarnation[:_SHARED] and other[2 * _SHARED :] == incarnation[2 * _SHARED :]
        mirror = self._mirrors[view]
        if not is_same or position.path is not None or position.number > mirror.consistent:
            return None
        return Position(min(position.number, mirror.reader.mark().number))

    def staleness(self, now: int, seconds: float) -> str | None:
        """Returns why rows may be stale; None if they are not, or nobody reads them."""
        for name, mirror in self._mirrors.items():
            if not mirror.is_running:
                continue
            why = f"; its listener failed ({mirror.failure})" if mirror.failure else ""
            if not mirror.consistent:
                return f"the rows of {name} are being read{why}"
            waited = time.monotonic() - mirror.heard
            if waited > seconds:
                return f"nothing was heard of the rows of {name} for {waited:.0f} seconds{why}"
        return None

    def number(self) -> int:
        """Returns the number of the last commit."""
        return max((mirror.reader.mark().number for mirror in self._mirrors.values()), default=0)

    def close(self) -> None:
        """Ends the listeners, and removes the files."""
        until = time.monotonic() + _END_SECONDS
        for mirror in self._mirrors.values():
            mirror.end()
        for mirror in self._mirrors.values():
            mirror.close(until - time.monotonic())
        self._client.close()
        self._remove()


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_SHARED // 2).hexdigest()


def _nobody() -> None:
    """What is called before a hub exists."""


def _fields(rows: Database, documents: Database) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Returns what makes references into the database of the documents local, where rows are in another one."""
    if documents.project is None or documents == rows:
        return lambda fields: fields

    def local(value: Any) -> Any:
        if isinstance(value, list):
            return [local(one) for one in value]
        if not isinstance(value, dict):
            return value
        path = value.get("referenceValue")
        if len(value) == 1 and isinstance(path, str):
            return {"referenceValue": rows.root + path if Ref.at(path).is_local else documents.relative(path)}
        return {name: local(one) for name, one in value.items()}

    return local
