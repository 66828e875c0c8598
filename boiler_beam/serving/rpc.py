"""JSON-RPC 2.0: `get`, `list`, `update` and `create`; over HTTP at `/rpc`, and over WebSocket with subscriptions.

    {"jsonrpc": "2.0", "id": 1, "method": "get", "params": {"view": "MeetingSession", "id": "m1"}}

A problem is an error whose `code` is the status that REST has for it, and whose `data` is the problem document.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from boiler_beam.events import Stamp
from boiler_beam.serving.access import User
from boiler_beam.serving.core import DEFAULT_LIMIT, Core
from boiler_beam.serving.problems import Problem

__all__ = ["MAX_BATCH", "Rpc", "error"]

MAX_BATCH = 100
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
_log = logging.getLogger("boiler_beam.serving")

Method = Callable[[User, Mapping[str, Any]], Awaitable[Any]]


class Rpc:
    """Calls of one server.

    Args:
        core: Answers them.
        more: More methods by name: called with the user and the parameters.
    """

    def __init__(self, core: Core, more: Mapping[str, Method] | None = None) -> None:
        self.core = core
        own: dict[str, Method] = {"get": self._get, "list": self._list, "update": self._update, "create": self._create}
        self.methods: dict[str, Method] = {**own, **(more or {})}

    async def call(self, user: User, body: Any) -> Any:
        """Returns the answer to a request or a batch of them; None where only notifications were sent."""
        if not isinstance(body, list):
            return await self._one(user, body)
        if not body or len(body) > MAX_BATCH:
            return error(None, INVALID_REQUEST, "invalid request", f"a batch has 1 to {MAX_BATCH} calls")
        answers = [answer for one in body if (answer := await self._one(user, one)) is not None]
        return answers or None

    async def _one(self, user: User, request: Any) -> Any:
        call_id = request.get("id") if isinstance(request, dict) else None
        if not isinstance(call_id, (str, int, float, type(None))) or isinstance(call_id, bool):
            call_id = None
        if not (
            isinstance(request, dict) and request.get("jsonrpc") == "2.0" and isinstance(request.get("method"), str)
        ):
            return error(call_id, INVALID_REQUEST, "invalid request", "expected jsonrpc, method, params and id")
        answer = await self._answer(user, call_id, request["method"], request.get("params", {}))
        return answer if "id" in request else None

    async def _answer(self, user: User, call_id: Any, method: str, params: Any) -> Any:
        known = self.methods.get(method)
        if known is None:
            return error(call_id, NO_METHOD, "no such method", f"expected one of {', '.join(self.methods)}")
        if not isinstance(params, dict):
            return error(call_id, INVALID_PARAMS, "invalid params", "expected an object")
        try:
            return {"jsonrpc": "2.0", "id": call_id, "result": await known(user, params)}
        except Problem as problem:
            return error(call_id, problem.status, problem.title, problem.as_json())
        except Exception:
            _log.exception("%s failed", method)
            return error(call_id, INTERNAL, "internal error")

    async def _get(self, user: User, params: Mapping[str, Any]) -> Any:
        view, row_id = self.core.catalog.named(params.get("view")), _text(params, "id")
        if params.get("fresh"):
            return msgspec.Raw(self.core.encoded_row(user, view, await self.core.get_fresh(user, view, row_id)))
        return msgspec.Raw(self.core.encoded_row(user, view, await self.core.get(user, view, row_id)))

    async def _list(self, user: User, params: Mapping[str, Any]) -> Any:
        view, limit = self.core.catalog.named(params.get("view")), params.get("limit", DEFAULT_LIMIT)
        filters = params.get("filters", {})
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise Problem(400, "invalid parameter", "limit: expected a number")
        if not isinstance(filters, dict) or not all(isinstance(one, (str, int, float)) for one in filters.values()):
            raise Problem(400, "invalid parameter", "filters: expected an object of texts, numbers and booleans")
        order, cursor = _optional(params, "order"), _optional(params, "cursor")
        page = await self.core.list(user, view, limit=limit, cursor=cursor, order=order, filters=filters)
        rows = [msgspec.Raw(self.core.encoded_row(user, view, row)) for row in page.rows]
        return {"rows": rows, "cursor": page.cursor}

    async def _update(self, user: User, params: Mapping[str, Any]) -> Any:
        view, row_id = self.core.catalog.named(params.get("view")), _text(params, "id")
        if_match = None
        if params.get("if_match") is not None:
            try:
                stamp = msgspec.convert(params["if_match"], _Stamp)
            except msgspec.ValidationError:
                expected = "if_match: expected the stamp of the row, generation, version and seq"
                raise Problem(400, "invalid parameter", expected) from None
            if_match = Stamp(stamp.generation, stamp.version, stamp.seq)
        return await self.core.update(user, view, row_id, params.get("fields"), if_match)

    async def _create(self, user: User, params: Mapping[str, Any]) -> Any:
        view = self.core.catalog.named(params.get("view"))
        return await self.core.create(user, view, params.get("fields"))


class _Stamp(msgspec.Struct):
    generation: int
    version: int
    seq: int


def error(call_id: Any, code: int, message: str, data: Any = None) -> Any:
    """Returns an error response."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": call_id, "error": error}


def _text(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str):
        raise Problem(400, "invalid parameter", f"{name}: expected text")
    return value


def _optional(params: Mapping[str, Any], name: str) -> str | None:
    return None if params.get(name) is None else _text(params, name)
