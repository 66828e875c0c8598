"""One client over a connection that stays open: JSON-RPC calls, and subscriptions whose rows are sent as they change.

A session knows no transport: it is given what was received, and a function that sends.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import msgspec

from boiler_beam.serving.access import NOBODY, User
from boiler_beam.serving.catalog import ServedView
from boiler_beam.serving.core import Core
from boiler_beam.serving.messages import control
from boiler_beam.serving.offsets import BEGIN
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.rpc import Rpc, error
from boiler_beam.serving.streams import framed

__all__ = ["Gone", "Session"]

MAX_SUBSCRIPTIONS, IDLE_SECONDS = 100, 15.0
_log = logging.getLogger("boiler_beam.serving")


class Gone(Exception):
    """The client went away while it was sent something."""


class Session:
    """One client; see the module.

    Args:
        core: Answers what is asked.
        user: Who it is, until it authenticates.
        send: Sends a message, and waits until the client can take the next one. It raises `Gone`.
        start: Starts a coroutine function with its arguments, beside this one.
        address: Where the client is.
        max_subscriptions: How many there may be.
        idle_seconds: How often a subscription without changes says that it lives.
    """

    def __init__(
        self,
        core: Core,
        user: User,
        send: Callable[[Any], Awaitable[None]],
        start: Callable[..., Any],
        address: str = "",
        max_subscriptions: int = MAX_SUBSCRIPTIONS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.core, self.user, self.send, self.start = core, user, send, start
        self.address, self.max_subscriptions, self.idle_seconds = address, max_subscriptions, idle_seconds
        self.subscriptions: dict[int, anyio.CancelScope] = {}
        own = {"authenticate": self._authenticate, "subscribe": self._subscribe, "unsubscribe": self._unsubscribe}
        self.rpc = Rpc(core, own)
        self.last = 0
        self.begun: list[tuple[int, ServedView, str]] = []

    async def take(self, body: Any) -> None:
        """Answers a call, or a batch of them; then begins what was subscribed to."""
        self.user = await self.core.access.current(self.user)
        try:
            self.core.rates.take(self.user, self.address, len(body) if isinstance(body, list) else 1)
        except Problem as problem:
            call_id = body.get("id") if isinstance(body, dict) else None
            await self.send(error(call_id, problem.status, problem.title, problem.as_json()))
            return
        answer = await self.rpc.call(self.user, body)
        if answer is not None:
            await self.send(answer)
        begun, self.begun = self.begun, []
        for one in begun:  # its rows come behind the answer
            self.start(self._follow, *one)

    def close(self) -> None:
        """Ends all subscriptions."""
        for scope in self.subscriptions.values():
            scope.cancel()

    async def _authenticate(self, user: User, params: Mapping[str, Any]) -> Any:
        token = params.get("token")
        if not isinstance(token, str):
            raise Problem(400, "invalid parameter", "token: expected text")
        if self.subscriptions or self.user != NOBODY:
            raise Problem(400, "invalid request", "authenticate: expected to come first")
        self.user = await self.core.access.user(token)
        return {"user": self.user.id}

    async def _subscribe(self, user: User, params: Mapping[str, Any]) -> Any:
        view, given = self.core.catalog.named(params.get("view")), params.get("offset", BEGIN)
        if len(self.subscriptions) >= self.max_subscriptions:
            raise Problem(429, "too many subscriptions")
        if not isinstance(given, str):
            raise Problem(400, "invalid offset", "expected text")
        await self.core.attend(user, view, given)
        self.core.resume(user, view, given)
        self.last += 1
        self.subscriptions[self.last] = anyio.CancelScope()
        self.begun.append((self.last, view, given))
        return {"subscription": self.last}

    async def _unsubscribe(self, user: User, params: Mapping[str, Any]) -> Any:
        number = params.get("subscription")
        scope = self.subscriptions.pop(number, None) if isinstance(number, int) else None
        if scope is None:
            raise Problem(404, "no such subscription")
        scope.cancel()
        self.begun = [one for one in self.begun if one[0] != number]
        return {"subscription": number}

    async def _follow(self, number: int, view: ServedView, offset: str) -> None:
        scope = self.subscriptions.get(number)
        if scope is None:
            return
        with scope:
            try:
                await self._rows(number, view, offset)
            except Problem as problem:
                await self._tell("ended", {"subscription": number, "problem": problem.as_json()})
            except Gone:
                pass
            except Exception:
                _log.exception("a subscription to %s failed", view.name)
                await self._tell("ended", {"subscription": number, "problem": Problem(500, "internal error").as_json()})
        self.subscriptions.pop(number, None)

    async def _rows(self, number: int, view: ServedView, offset: str) -> None:
        following = self.core.follow(self.user, view, offset, self.idle_seconds)
        async with contextlib.aclosing(following):
            async for followed in following:
                batch = followed.batch
                if batch is None:
                    await self._tell("alive", {"subscription": number})
                    continue
                messages = framed(batch, self.core.encoded(batch, followed.user, view), followed.begin)
                if followed.is_reset:
                    messages.insert(0, control("reset"))
                if messages or batch.is_whole:
                    rows = {"messages": [msgspec.Raw(one) for one in messages], "offset": followed.offset}
                    await self._tell("rows", {"subscription": number, **rows, "upToDate": batch.is_whole})

    async def _tell(self, method: str, params: Any) -> None:
        await self.send({"jsonrpc": "2.0", "method": method, "params": params})
