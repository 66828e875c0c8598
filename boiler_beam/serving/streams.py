"""Live rows by the read half of the Durable Streams protocol, version 1: catch-up, long-poll and server-sent events.

A stream is `/views/{view}/{incarnation}/stream`; its messages are those of the State Protocol (see `messages`). From
offset `-1` it has all rows (`snapshot-start`, the rows, `snapshot-end`), then what changes. `Stream-Up-To-Date` is also
the end mark of commits: what a client has then are the rows as of one commit.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from boiler_beam.serving.access import User
from boiler_beam.serving.catalog import ServedView
from boiler_beam.serving.core import Core
from boiler_beam.serving.hub import Batch
from boiler_beam.serving.messages import control
from boiler_beam.serving.offsets import BEGIN, Position
from boiler_beam.serving.problems import HistoryGone, Problem
from boiler_beam.serving.web import audience, matches, only, vary

__all__ = ["Streams"]

_INTERVAL_SECONDS, _EPOCH = 20, 1_728_432_000
"""The cursor counts intervals since 2024-10-09T00:00:00Z (section 10.1)."""

_NO_OFFSET = "offset: expected -1 or where to read on; if the client sent one, a proxy has removed the query string"


class Streams:
    """The requests of one server.

    Args:
        core: Answers them.
        poll_seconds: How long a long-poll waits.
        stream_seconds: After so long a stream of server-sent events ends, and the client connects again.
        idle_seconds: How often such a stream says that it lives.
    """

    def __init__(
        self, core: Core, poll_seconds: float = 25.0, stream_seconds: float = 60.0, idle_seconds: float = 15.0
    ) -> None:
        self.core, self.poll_seconds, self.stream_seconds = core, poll_seconds, stream_seconds
        self.idle_seconds = idle_seconds

    # What a stream consists of; the conformance tests of the protocol run this class over streams of other messages.

    media_type = "application/json"
    needs_offset = True
    """A request without `offset` is refused. The protocol lets it mean `-1`; but where a proxy removes query strings,
    each request would then get all rows again, and a client would keep rows that were deleted."""

    def framed(self, batch: Batch, messages: Any, begin: Position | None) -> list[bytes]:
        """Returns the messages of a batch with marks; see `framed`."""
        return framed(batch, messages, begin)

    def joined(self, messages: list[bytes]) -> bytes:
        """Returns messages as a body."""
        return b"[" + b",".join(messages) + b"]"

    def data_event(self, messages: list[bytes]) -> bytes:
        """Returns messages as a server-sent event."""
        return b"event: data\ndata:" + self.joined(messages) + b"\n\n"

    async def redirect(self, request: Request, user: User, view: ServedView) -> Response:
        """`/views/{view}/stream`: to the stream of the present incarnation.

        Raises:
            Problem: The user is refused.
        """
        only(request, "GET", "HEAD")
        await self.core.attend(user, view)
        path = request.scope.get("root_path", "") + f"/views/{view.name}/{self.core.incarnation(user, view)}/stream"
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(path + query, 307, {"Cache-Control": "no-store"})

    async def stream(self, request: Request, user: User, view: ServedView, incarnation: str) -> Response:
        """`/views/{view}/{incarnation}/stream`.

        Raises:
            Problem: It is not answered.
        """
        only(request, "GET", "HEAD")
        core, query = self.core, request.query_params
        await core.attend(user, view, query.get("offset") or BEGIN)
        if incarnation != core.incarnation(user, view):
            raise HistoryGone
        live, offset = query.get("live"), query.get("offset")
        if live not in (None, "long-poll", "sse"):
            raise Problem(400, "invalid parameter", "live: expected long-poll or sse")
        if offset is None and self.needs_offset and request.method != "HEAD":
            raise Problem(400, "no offset", _NO_OFFSET)
        if offset == "" or len(query.getlist("offset")) > 1 or (live is not None and offset is None):
            raise Problem(400, "invalid parameter", "offset: expected one")
        offset = BEGIN if offset is None else offset
        position = core.position(view, offset)
        if request.method == "HEAD":
            tail = core.hub.tail(view).text
            head = {"Stream-Next-Offset": tail, "Cache-Control": "no-store"}
            return Response(headers=head, media_type=self.media_type)
        if live == "sse":
            core.hub.read(view, core.hub.incarnation(view), position)  # 410 where history is gone
            events = self._events(request, user, view, incarnation, position, is_first=offset == BEGIN)
            headers = {
                "Cache-Control": "no-cache, no-store",
                "X-Accel-Buffering": "no",
                "Content-Type": "text/event-stream",
            }
            return StreamingResponse(events, headers=headers)
        return await self._answer(request, user, view, incarnation, position, offset, is_live=live is not None)

    async def _answer(
        self,
        request: Request,
        user: User,
        view: ServedView,
        incarnation: str,
        position: Position,
        offset: str,
        *,
        is_live: bool,
    ) -> Response:
        core, hub = self.core, self.core.hub
        headers = {"Cache-Control": "no-store", **vary(core.access.is_open)}
        if is_live:
            headers["Stream-Cursor"] = cursor_after(request.query_params.get("cursor"))
        if offset == "now" and not is_live:
            tail = {"Stream-Next-Offset": position.text, "Stream-Up-To-Date": "true"}
            return Response(self.joined([]), headers={**headers, **tail}, media_type=self.media_type)
        known, latest = hub.incarnation(view), core.rows.of(view.name).mark().number
        batch = hub.read(view, known, position)
        if is_live and not batch.messages and batch.position == position:
            with hub.following(view):
                deadline = time.monotonic() + self.poll_seconds
                while (seconds := deadline - time.monotonic()) > 0 and await hub.wait(view, position, seconds):
                    batch = hub.read(view, known, position)
                    if core.encoded(batch, user, view):
                        break
                    position = batch.position
        messages = self.framed(batch, core.encoded(batch, user, view), position if offset == BEGIN else None)
        headers["Stream-Next-Offset"] = batch.position.text
        if batch.is_whole:
            headers["Stream-Up-To-Date"] = "true"
        if is_live and not messages:
            return Response(status_code=204, headers={**headers, "Stream-Up-To-Date": "true"})
        if not is_live:
            visibility = "public" if core.access.is_open else "private"
            age = "no-cache" if batch.is_whole else "max-age=60, stale-while-revalidate=300"
            headers["Cache-Control"] = f"{visibility}, {age}"
        whose = "" if user.id is None else f":{user.id.encode().hex()}:{audience(core.hidden(user, view))}"
        parts = "" if batch.is_whole else f":{latest}"  # whole at one commit, and a part with other rows at the next
        tag = f'"{incarnation}:{offset}:{batch.position.text}{parts}{whose}"'
        headers["ETag"] = tag
        if not is_live and matches(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(self.joined(messages), headers=headers, media_type=self.media_type)

    async def _events(
        self, request: Request, user: User, view: ServedView, incarnation: str, position: Position, *, is_first: bool
    ) -> AsyncIterator[bytes]:
        core, hub = self.core, self.core.hub
        deadline = time.monotonic() + self.stream_seconds * random.uniform(0.9, 1.1)
        cursor = request.query_params.get("cursor")
        if not is_first and hub.tail(view) == position:
            cursor = cursor_after(cursor)
            yield event("control", {"streamNextOffset": position.text, "streamCursor": cursor, "upToDate": True})
        begin = position if is_first else None
        with hub.following(view):
            while (seconds := deadline - time.monotonic()) > 0:
                if user.expires is not None and user.expires < time.time():
                    return
                try:
                    if incarnation != core.incarnation(await core.access.current(user), view):
                        return
                    batch = hub.read(view, hub.incarnation(view), position)
                except HistoryGone:  # the next request is answered with 410
                    return
                if not batch.messages and batch.position == position and begin is None:
                    if not await hub.wait(view, position, min(seconds, self.idle_seconds)):
                        if hub.is_ending:
                            return
                        yield b": \n\n"
                    continue
                messages = self.framed(batch, core.encoded(batch, user, view), begin)
                begin, position = None, batch.position
                cursor = cursor_after(cursor)
                control: dict[str, Any] = {"streamNextOffset": position.text, "streamCursor": cursor}
                if batch.is_whole:
                    control["upToDate"] = True
                yield (self.data_event(messages) if messages else b"") + event("control", control)


def framed(batch: Batch, messages: Any, begin: Position | None) -> list[bytes]:
    """Returns the messages of a batch with the marks of a snapshot; `begin` is its first position, else None."""
    found = list(messages)
    if begin is not None and begin.is_snapshot:
        found.insert(0, control("snapshot-start", begin.text))
    if batch.is_snapshot and not batch.position.is_snapshot:
        found.append(control("snapshot-end", batch.position.text))
    return found


def event(kind: str, data: Any) -> bytes:
    """Returns a server-sent event."""
    return b"event: " + kind.encode() + b"\ndata:" + msgspec.json.encode(data) + b"\n\n"


def cursor_after(given: str | None) -> str:
    """Returns the cursor of an answer, which is greater than the given one, so that no cache answers for ever."""
    now = int(time.time() - _EPOCH) // _INTERVAL_SECONDS
    if given is not None and given.isascii() and given.isdecimal() and len(given) < 16 and int(given) >= now:
        return str(int(given) + max(1, random.randint(1, 3600) // _INTERVAL_SECONDS))
    return str(now)
