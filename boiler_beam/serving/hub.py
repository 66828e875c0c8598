"""The hub: one reader of the store for each view, however many clients follow it.

While somebody follows a view, a `Feed` reads what each commit changed, once, and keeps the last messages. A client is
only a position in the history, so one that is slow costs no memory and blocks nobody: when it reads again it gets the
newest message of each row since its position, from the feed or, if that is too far back, from the store.

    commit 7: a, b     commit 8: a     client at 6 -> b (7), a (8), then "that is all" at 8

The store is looked at every few milliseconds, and at once where the writer is in the same process (`wake`).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from boiler_beam.serving.access import Access, User
from boiler_beam.serving.catalog import ServedView
from boiler_beam.serving.messages import Message, messages_of, newest
from boiler_beam.serving.offsets import Position
from boiler_beam.serving.problems import HistoryGone
from boiler_beam.serving.reader import Mark
from boiler_beam.serving.rows import Rows

__all__ = ["Batch", "Hub", "Limits"]

_NONE = "none"
"""The incarnation while nothing was ever written."""
_ChunkKey = tuple[str, str, Position, int]
"""The view, the incarnation, where it begins, and the last commit when it was read."""


@dataclass(frozen=True)
class Limits:
    """What the hub keeps and how often it looks.

    Attributes:
        poll_seconds: How often the store is looked at.
        stale_seconds: After so long without a sign of life of the writer, rows are stale.
        chunk: Rows or changes that are read and sent at once.
        kept: Messages of a view that are kept in memory.
        chunks: Chunks of older history that are kept in memory, for many clients that reconnect at once.
        release_seconds: After so long without a reader, a listener to the store of the rows ends (`firestore:`).
        wait_seconds: How long a reader waits for a listener that begins, or is behind (`firestore:`).
    """

    poll_seconds: float = 0.02
    stale_seconds: float = 20.0
    chunk: int = 500
    kept: int = 5_000
    chunks: int = 16
    release_seconds: float = 300.0
    wait_seconds: float = 10.0


class Batch(NamedTuple):
    """What a client reads at once.

    Attributes:
        messages: In the order of commits.
        position: Where it reads on.
        is_whole: Whether it has then all rows as of one commit: nothing that a commit changed is missing.
        is_snapshot: Whether the messages are rows of a snapshot.
    """

    messages: list[Message]
    position: Position
    is_whole: bool
    is_snapshot: bool = False


@dataclass
class Feed:
    """What the hub keeps of one view while somebody follows it.

    Attributes:
        view: The view.
        incarnation: The sequence of numbers that its numbers are of.
        number: The last commit that was read.
        floor: Messages of all commits after this one are kept.
        units: The messages of each commit, or of some that were read together.
        clients: How many follow.
        waiting: Set when something changed.
    """

    view: ServedView
    incarnation: str
    number: int
    floor: int
    units: deque[tuple[int, list[Message]]] = field(default_factory=deque)
    clients: int = 0
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    merged: dict[int, list[Message]] = field(default_factory=dict)
    kept: int = 0
    version: object = None


class Hub:
    """Reads rows for clients, see the module. All calls belong to one event loop, except `wake`.

    Args:
        rows: Where the rows are.
        access: Who may see what.
        limits: What is kept.
        now: Microseconds since the epoch.
    """

    def __init__(
        self,
        rows: Rows,
        access: Access,
        limits: Limits | None = None,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.rows, self.access, self.limits, self.now = rows, access, limits or Limits(), now
        self.feeds: dict[str, Feed] = {}
        self.figures = {"reads": 0, "messages": 0}
        self.failure: str | None = None
        self.is_ending = False
        self._trouble: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._chunks: OrderedDict[_ChunkKey, Batch] = OrderedDict()
        self._public: dict[str, tuple[object, bool]] = {}

    # Following --------------------------------------------------------------------------------------------------------

    @contextmanager
    def following(self, view: ServedView) -> Iterator[None]:
        """Within the context the view is followed: `wait` returns soon after it changed."""
        feed = self.feeds.get(view.name)
        if feed is None:
            self._loop = asyncio.get_running_loop()
            mark = self._looked(view)
            feed = self.feeds[view.name] = Feed(view, mark.incarnation, mark.number, mark.number)
            if self._task is None:
                self._task = self._loop.create_task(self._run())
        feed.clients += 1
        self.rows.hold(view.name)
        try:
            yield
        finally:
            self.rows.release(view.name)
            feed.clients -= 1
            if not feed.clients:
                self.feeds.pop(view.name, None)
                feed.waiting.set()
            if not self.feeds and self._task is not None:
                self._task.cancel()
                self._task = None

    async def wait(self, view: ServedView, position: Position, seconds: float) -> bool:
        """Waits until a followed view has more than a position, or its history is gone; False after some time.

        A position may be ahead of the feed: the client read rows of a commit that the hub has not looked at yet.
        """
        feed = self.feeds[view.name]
        if self.is_ending:
            return False
        if feed.number > position.number or position.path is not None:
            return True
        try:
            await asyncio.wait_for(feed.waiting.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return not self.is_ending

    def end(self) -> None:
        """Ends all waiting, so that a server that is asked to end is not kept by its clients; they come back."""
        self.is_ending = True
        for feed in self.feeds.values():
            feed.waiting.set()

    def wake(self) -> None:
        """Says, from any thread, that rows were written."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken.set)

    async def _run(self) -> None:
        """Looks at the store while anything is followed."""
        while True:
            self._woken.clear()
            try:
                self._look()
                self._trouble = None
            except sqlite3.Error as error:  # such as a file that is just replaced; followers wait, readiness says why
                self._trouble = f"the rows can't be read ({error})"
            try:
                await asyncio.wait_for(self._woken.wait(), self.limits.poll_seconds)
            except asyncio.TimeoutError:
                continue

    def _look(self) -> None:
        for feed in list(self.feeds.values()):
            version = self.rows.of(feed.view.name).version()
            if version == feed.version:
                continue
            mark = self._looked(feed.view)
            if mark.number != feed.number:
                self._advance(feed)
                feed.waiting.set()
                feed.waiting = asyncio.Event()
            feed.version = version

    def _looked(self, view: ServedView) -> Mark:
        """Returns how far the writer is; nothing is kept of another incarnation, or of numbers that went back."""
        mark, feed = self.rows.of(view.name).mark(), self.feeds.get(view.name)
        if feed is not None and (mark.incarnation != feed.incarnation or mark.number < feed.number):
            feed.units.clear()
            feed.merged.clear()
            feed.incarnation, feed.kept, feed.number, feed.floor = mark.incarnation, 0, -1, mark.number
        return mark

    def _advance(self, feed: Feed) -> None:
        """Reads what changed; where that is too much to be kept, clients read it from the store."""
        feed.merged.clear()
        found: list[Message] = []
        position = Position(feed.number)
        while True:
            try:
                read = self.rows.of(feed.view.name).changes(feed.view.name, position, self.limits.chunk)
            except HistoryGone:
                read = None
            if read is None or len(found) + len(read.changed) > self.limits.kept:
                feed.number = feed.floor = self.rows.of(feed.view.name).mark().number
                feed.units.clear()
                feed.kept = 0
                return
            self.figures["reads"] += 1
            found += messages_of(feed.view, read.changed)
            position = read.position
            if read.is_whole:
                break
        feed.number = position.number
        feed.units.append((feed.number, newest(found)))
        feed.kept += len(feed.units[-1][1])
        while feed.kept > self.limits.kept:
            number, messages = feed.units.popleft()
            feed.floor = number
            feed.kept -= len(messages)

    # Reading ----------------------------------------------------------------------------------------------------------

    def begin(self, view: ServedView) -> Position:
        """Returns the position before all rows."""
        return Position(self._looked(view).number, "", is_snapshot=True)

    def tail(self, view: ServedView) -> Position:
        """Returns the position behind all that was written."""
        feed = self.feeds.get(view.name)
        return Position(self._looked(view).number if feed is None or feed.number < 0 else feed.number)

    def incarnation(self, view: ServedView) -> str:
        """Returns the name of the present sequence of numbers."""
        return self._looked(view).incarnation or _NONE

    def read(self, view: ServedView, incarnation: str, position: Position) -> Batch:
        """Returns what is behind a position; nothing, where nothing is.

        Args:
            view: The view.
            incarnation: The sequence of numbers that the position is of.
            position: Where to read on.

        Raises:
            HistoryGone: It is not known what changed since.
        """
        mark = self._looked(view)
        if incarnation != (mark.incarnation or _NONE):
            raise HistoryGone
        if position.is_snapshot:
            return self._chunk((view.name, incarnation, position, mark.number), lambda: self._rows(view, position))
        feed = self.feeds.get(view.name)
        if feed is not None and position.path is None and feed.floor <= position.number <= feed.number:
            if position.number not in feed.merged:
                units = [one for number, messages in feed.units if number > position.number for one in messages]
                feed.merged[position.number] = newest(units)
            return Batch(feed.merged[position.number], Position(feed.number), True)
        return self._chunk((view.name, incarnation, position, mark.number), lambda: self._changes(view, position))

    def _changes(self, view: ServedView, position: Position) -> Batch:
        read = self.rows.of(view.name).changes(view.name, position, self.limits.chunk)
        self.figures["reads"] += 1
        return Batch(messages_of(view, read.changed), read.position, read.is_whole)

    def _rows(self, view: ServedView, position: Position) -> Batch:
        chunk = self.limits.chunk
        rows = self.rows.of(view.name).snapshot(view.name, position.path or "", chunk + 1)
        self.figures["reads"] += 1
        messages = [Message(view, row.path, 0, row, (None,)) for row in rows[:chunk]]
        if len(rows) <= chunk:
            after = Position(position.number)
            return Batch(messages, after, self._looked(view).number == position.number, is_snapshot=True)
        return Batch(messages, position._replace(path=rows[chunk - 1].path), False, is_snapshot=True)

    def _chunk(self, key: _ChunkKey, read: Callable[[], Batch]) -> Batch:
        found = self._chunks.get(key)
        if found is None:
            found = self._chunks[key] = read()
            while len(self._chunks) > self.limits.chunks:
                self._chunks.popitem(last=False)
        self._chunks.move_to_end(key)
        return found

    # State of the feed ------------------------------------------------------------------------------------------------

    def staleness(self) -> str | None:
        """Returns why rows may be stale; None if they are not."""
        if self.failure is not None or self._trouble is not None:
            return self.failure or self._trouble
        return self.rows.staleness(self.now(), self.limits.stale_seconds)

    def check_followed(self, view: ServedView, user: User) -> None:
        """Refuses a user who can't see any row, so that a subscription is never silently empty.

        Raises:
            Problem: The user is refused.
        """
        if self.access.is_open or (user.id is not None and view.has_viewers):
            return
        if view.has_viewers and self._has_public(view):
            return
        raise self.access.refused(user)

    def _has_public(self, view: ServedView) -> bool:
        reader = self.rows.of(view.name)
        version = reader.version()
        known = self._public.get(view.name)
        if known is None or known[0] != version:
            known = self._public[view.name] = (version, reader.has_row_for_anyone(view.name))
        return known[1]
