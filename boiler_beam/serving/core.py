"""What can be asked of a server, whatever the protocol: one row, a list, changes, writes."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import anyio.lowlevel
import anyio.to_thread
import msgspec
from starlette.requests import HTTPConnection

from boiler_beam.errors import Conflict, WriteRefused
from boiler_beam.events import Stamp
from boiler_beam.serving.access import NOBODY, Access, User
from boiler_beam.serving.catalog import Catalog, ServedView
from boiler_beam.serving.hub import Batch, Hub
from boiler_beam.serving.limits import ClientLimits, Rates, address_of
from boiler_beam.serving.offsets import BEGIN, Position, parse_offset
from boiler_beam.serving.problems import HistoryGone, Problem, unknown_row
from boiler_beam.serving.reader import Condition, Order, StoredRow
from boiler_beam.serving.routes import Hidden, ServedRoute
from boiler_beam.serving.rows import Rows
from boiler_beam.serving.web import token_of
from boiler_beam.serving.writer import Writer, Written

__all__ = ["Core", "Followed", "Page", "parse_stamp", "stamp_text"]

MAX_LIMIT, DEFAULT_LIMIT = 500, 50
_SCANNED = 2_000
"""Rows that are read for one page, where a user may not see all of them."""
_WAIT_SECONDS = 10.0
_READ_ONLY = (("Allow", "GET, HEAD"),)


class Page(NamedTuple):
    """A part of a list.

    Attributes:
        rows: The rows.
        cursor: Where the list goes on; None at its end.
    """

    rows: list[StoredRow]
    cursor: str | None


class Followed(NamedTuple):
    """What a client that follows a view gets at once.

    Attributes:
        incarnation: The sequence of numbers that the position of the batch is of, for this user.
        user: Who follows, with the roles that they have now.
        batch: The messages; None where nothing came for some time.
        begin: The position of the snapshot that begins with this batch; None where none does.
        is_reset: Whether that snapshot replaces all that the client has.
    """

    incarnation: str
    user: User
    batch: Batch | None
    begin: Position | None = None
    is_reset: bool = False

    @property
    def offset(self) -> str:
        """The offset with its incarnation, where the client goes on; empty without a batch."""
        return "" if self.batch is None else f"{self.incarnation}.{self.batch.position.text}"


class Core:
    """One server without its protocols.

    Args:
        catalog: The views.
        rows: Where their rows are.
        hub: Follows them.
        access: Who may see and do what.
        writer: Takes writes; None: rows can only be read.
        fresh: Computes the fields of a row (stored JSON) from the documents as they are now; None: it can't be done.
        clients: How much clients may ask for.
    """

    def __init__(
        self,
        catalog: Catalog,
        rows: Rows,
        hub: Hub,
        access: Access,
        writer: Writer | None = None,
        fresh: Callable[[ServedView, str], str | None] | None = None,
        clients: ClientLimits | None = None,
    ) -> None:
        self.catalog, self.rows, self.hub, self.access = catalog, rows, hub, access
        self.writer, self.fresh = writer, fresh
        self.rates = Rates(clients or ClientLimits())

    async def user(self, connection: HTTPConnection) -> User:
        """Returns who sends a request, which is counted.

        Raises:
            Problem: The token is not valid, or there were too many requests.
        """
        address = address_of(connection)
        try:
            user = await self.access.user(token_of(connection))
        except Problem:
            self.rates.take(NOBODY, address)
            raise
        self.rates.take(user, address)
        return user

    # Rows -------------------------------------------------------------------------------------------------------------

    async def attend(self, user: User, view: ServedView, offset: str = BEGIN) -> None:
        """Waits until the rows of a view are at hand, and not older than those at an offset that a client has.

        Raises:
            Problem: They are not, the user can't see any row, or it is no offset.
        """
        await self.rows.ready(view.name)
        self.hub.check_followed(view, user)
        text = offset.rpartition(".")[2]
        if text not in (BEGIN, "now"):
            await self.rows.ready(view.name, parse_offset(text).number)

    async def get(self, user: User, view: ServedView, row_id: str) -> StoredRow:
        """Returns a row.

        Raises:
            Problem: There is none, or the user may not see it: that is the same to somebody who might not.
        """
        await self.rows.ready(view.name)
        path = view.path_of(row_id)
        row = None if path is None else self.rows.of(view.name).get(view.name, path)
        return self._seen(user, view, row)

    async def get_fresh(self, user: User, view: ServedView, row_id: str) -> StoredRow:
        """Returns a row as the documents make it now; its stamp is zero.

        Raises:
            Problem: There is none, the user may not see it, or documents are not at hand.
        """
        if self.fresh is None:
            raise Problem(400, "not available", "fresh=1: this server has no access to the documents")
        path = view.path_of(row_id)
        fields = None if path is None else await anyio.to_thread.run_sync(self.fresh, view, row_id)
        row = None if path is None or fields is None else StoredRow(path, Stamp(0, 0, 0), fields)
        return self._seen(user, view, row)

    def _seen(self, user: User, view: ServedView, row: StoredRow | None) -> StoredRow:
        if row is not None and self.sees(user, view, row):
            return row
        if self.access.is_open:
            raise unknown_row()
        raise self.access.refused(user)

    def sees(self, user: User, view: ServedView, row: StoredRow) -> bool:
        """Returns whether a user may see a row."""
        return self.access.is_open or (view.has_viewers and self.access.sees(user, view.principals(row, "_viewers")))

    def hidden(self, user: User, view: ServedView) -> frozenset[str]:
        """Returns the properties of a view that a user may not see in any row."""
        return self.access.hidden(user, view.restricted)

    def encoded_row(self, user: User, view: ServedView, row: StoredRow, *, is_typed: bool = False) -> bytes:
        """Returns a row that a user may see as JSON, without the properties that they may not see."""
        return view.row(row, self.hidden(user, view), is_typed=is_typed)

    async def routed(
        self, user: User, view: ServedView, row_id: str, route: ServedRoute, query: Mapping[str, str]
    ) -> bytes:
        """Returns what a route of a view answers for a row, as JSON.

        Raises:
            Problem: There is no such row, the user may not see it or a property that the route reads, or a parameter
                is wrong.
        """
        row, arguments = await self.get(user, view, row_id), route.arguments(query)
        try:
            return await anyio.to_thread.run_sync(route.answer, row, self.hidden(user, view), arguments)
        except Hidden:
            raise self.access.refused(user) from None

    async def wait_for(self, view: ServedView, row_id: str, version: int) -> None:
        """Waits until a row is at least of a version, which a write answered.

        Raises:
            Problem: It was not within some seconds.
        """
        path = view.path_of(row_id) or ""
        await self.rows.ready(view.name)
        with self.hub.following(view), anyio.move_on_after(_WAIT_SECONDS):
            while True:
                position = self.hub.tail(view)
                row = self.rows.of(view.name).get(view.name, path)
                if row is not None and row.stamp.version >= version:
                    return
                await self.hub.wait(view, position, _WAIT_SECONDS)
        raise Problem(504, "not yet", "the row was not of this version in time", headers=[("Retry-After", "1")])

    async def list(
        self,
        user: User,
        view: ServedView,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
        order: str | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> Page:
        """Returns some rows that a user may see.

        Args:
            user: Who asks.
            view: The view.
            limit: At most so many; there may be fewer although the list goes on.
            cursor: Where to go on, from the page before.
            order: A property that is declared `indexed=`, with `-` in front for descending; None: by path.
            filters: Values by the stored name of a property that is declared `indexed=`.

        Raises:
            Problem: An argument is wrong, or the user can't see any row.
        """
        await self.attend(user, view)
        if not 1 <= limit <= MAX_LIMIT:
            raise Problem(400, "invalid parameter", f"limit: expected 1 to {MAX_LIMIT}")
        ordered, known = None, [name for name in view.indexed if name not in self.hidden(user, view)]
        if order is not None:
            ordered = Order(_indexed(known, order.removeprefix("-"), "order"), order.startswith("-"))
        conditions = [Condition(_indexed(known, name, name), value) for name, value in (filters or {}).items()]
        after = None if cursor is None else _after(cursor)
        rows = list[StoredRow]()
        for _ in range(max(1, _SCANNED // limit)):
            found = self.rows.of(view.name).find(view.name, conditions, ordered, after, limit)
            for row, value in found:
                after = (value, row.path)
                if self.sees(user, view, row):
                    rows.append(row)
                    if len(rows) == limit:
                        return Page(rows, _cursor(after))
            if len(found) < limit:
                return Page(rows, None)
        return Page(rows, None if after is None else _cursor(after))

    # Following --------------------------------------------------------------------------------------------------------

    def position(self, view: ServedView, offset: str) -> Position:
        """Returns the position of an offset (without its incarnation).

        Raises:
            Problem: It is no offset.
        """
        if offset == BEGIN:
            return self.hub.begin(view)
        return self.hub.tail(view) if offset == "now" else parse_offset(offset)

    def incarnation(self, user: User, view: ServedView) -> str:
        """Returns the name of the present sequence of numbers of a view for a user.

        It is another one after the user's roles changed: then it is not known which rows they might see before, so
        they have to read all rows again.
        """
        name = self.hub.incarnation(view)
        if self.access.is_open or not user.roles:
            return name
        return f"{name}-{hashlib.blake2b(' '.join(sorted(user.roles)).encode(), digest_size=6).hexdigest()}"

    def resume(self, user: User, view: ServedView, offset: str) -> tuple[str, Position, bool]:
        """Returns incarnation and position of an offset of `Followed`, and whether all rows come again.

        Raises:
            Problem: It is no offset.
        """
        incarnation, (known, _, text) = self.incarnation(user, view), offset.rpartition(".")
        position = self.position(view, text)
        if not known or known == incarnation:
            return incarnation, position, False
        found = self.rows.continues(incarnation, known, view.name, position)
        return incarnation, self.hub.begin(view) if found is None else found, found is None

    async def follow(
        self, user: User, view: ServedView, offset: str = BEGIN, idle_seconds: float = 15.0
    ) -> AsyncGenerator[Followed, None]:
        """Yields what is behind an offset, then what changes, without an end.

        Where history is gone, a snapshot follows, which replaces all that the client has.

        Args:
            user: Who follows.
            view: The view.
            offset: Of the last `Followed` that the client has; `-1` for all rows, `now` for changes only.
            idle_seconds: After how long without a change nothing (no batch) is yielded.

        Raises:
            Problem: It is no offset, the user can't see any row, or the token expired.
        """
        await self.attend(user, view, offset)
        incarnation, position, is_reset = self.resume(user, view, offset)
        begin = position if position.is_snapshot and not position.path else None
        with self.hub.following(view):
            while True:
                if user.expires is not None and user.expires * 1e6 < self.hub.now():
                    raise Problem(401, "token expired")
                user = await self.access.current(user)
                try:
                    if incarnation != self.incarnation(user, view):
                        self.hub.check_followed(view, user)
                        raise HistoryGone
                    batch = self.hub.read(view, self.hub.incarnation(view), position)
                except HistoryGone:
                    incarnation, position = self.incarnation(user, view), self.hub.begin(view)
                    begin, is_reset = position, True
                    continue
                if batch.messages or batch.position != position:
                    yield Followed(incarnation, user, batch, begin, is_reset)
                    begin, is_reset, position = None, False, batch.position
                    await anyio.lowlevel.checkpoint()
                elif not await self.hub.wait(view, position, idle_seconds):
                    if self.hub.is_ending:
                        return
                    yield Followed(incarnation, user, None)

    def encoded(self, batch: Batch, user: User, view: ServedView) -> Sequence[bytes]:
        """Returns the messages of a batch that are for a user."""
        if not (self.access.is_open or view.has_viewers):
            return []
        hidden = self.hidden(user, view)
        return [text for one in batch.messages if (text := one.to(user, self.access, hidden)) is not None]

    # Writing ----------------------------------------------------------------------------------------------------------

    def can_update(self, view: ServedView) -> bool:
        """Returns whether rows of a view can be changed, by somebody."""
        return self.writer is not None and any(one.is_settable for one in view.properties.values())

    def can_create(self, view: ServedView) -> bool:
        """Returns whether rows of a view can be created, by somebody."""
        return self.writer is not None and view.can_create

    async def update(
        self, user: User, view: ServedView, row_id: str, fields: Any, if_match: Stamp | None = None
    ) -> Written:
        """Sets properties of a row. The writer knows from the documents who may.

        Raises:
            Problem: Nothing was written.
        """
        if not self.can_update(view) or self.writer is None:
            raise Problem(405, "read only", f"rows of {view.name} can't be changed here", headers=_READ_ONLY)
        self.catalog.check_fields(view, fields)
        path = view.path_of(row_id)
        if path is None:
            raise unknown_row() if self.access.is_open else self.access.refused(user)
        if if_match is not None:
            await self.rows.ready(view.name)
        known = row_id if view.has_flat_ids else path
        return await self._write(user, partial(self.writer.update, view.name, known, fields, if_match))

    async def create(self, user: User, view: ServedView, fields: Any) -> Written:
        """Creates a row by `new` of the view.

        Raises:
            Problem: Nothing was written.
        """
        if not self.can_create(view) or self.writer is None:
            raise Problem(405, "read only", f"rows of {view.name} can't be created here", headers=_READ_ONLY)
        if not isinstance(fields, dict):
            raise Problem(422, "invalid value", errors=[("", "expected an object of fields")])
        return await self._write(user, partial(self.writer.create, view.name, fields))

    async def _write(self, user: User, write: Callable[..., Written]) -> Written:
        try:
            return await anyio.to_thread.run_sync(write, None if self.access.is_open else user)
        except WriteRefused as refused:
            if refused.code == "forbidden":
                raise self.access.refused(user) from None
            pointer = None if refused.field is None else f"/{refused.field.replace('~', '~0').replace('/', '~1')}"
            errors = [] if pointer is None else [(pointer, str(refused))]
            raise Problem(refused.status, refused.code.replace("_", " "), str(refused), errors=errors) from None
        except Conflict:
            raise Problem(409, "conflict", "others changed the same documents all the time; try again") from None


def _indexed(known: Sequence[str], name: str, parameter: str) -> str:
    if name not in known:
        expected = f"one of {', '.join(known)}" if known else "none: no property is declared indexed="
        raise Problem(400, "invalid parameter", f"{parameter}: expected {expected}")
    return name


def stamp_text(stamp: Stamp) -> str:
    """Returns a stamp as ETag has it.

    >>> stamp_text(Stamp(1, 5, 0))
    '1-5-0'
    """
    return "-".join(map(str, stamp))


def parse_stamp(text: str) -> Stamp | None:
    """Returns the stamp of a text; None if it is none.

    >>> parse_stamp("1-5-0")
    Stamp(generation=1, version=5, seq=0)
    """
    parts = text.split("-")
    if len(parts) != 3 or not all(one.isascii() and one.isdecimal() and len(one) < 20 for one in parts):
        return None
    return Stamp(*map(int, parts))


def _cursor(after: tuple[Any, str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(after)).decode().rstrip("=")


def _after(cursor: str) -> tuple[Any, str]:
    with contextlib.suppress(binascii.Error, ValueError, msgspec.MsgspecError):
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        value, path = msgspec.json.decode(raw, type=tuple[str | int | float | bool | None, str])
        return value, path
    raise Problem(400, "invalid parameter", "cursor: expected one that this server gave")
