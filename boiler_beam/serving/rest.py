"""REST: `GET /views/{view}/{id}`, lists, `PATCH` and `POST`; with ETag, If-None-Match, If-Match, problem documents."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from boiler_beam.serving.access import User
from boiler_beam.serving.catalog import ServedView
from boiler_beam.serving.core import DEFAULT_LIMIT, Core, parse_stamp, stamp_text
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.reader import StoredRow
from boiler_beam.serving.routes import ServedRoute
from boiler_beam.serving.web import audience, decode_body, flag, integer, matches, only, read_json_body, vary
from boiler_beam.views.visibility import ANYONE

__all__ = ["Rest", "filters_of"]

JSON = "application/json"
_TAG_SUFFIX = re.compile(r"(-t)?(-h[0-9a-f]{8})?$")
_LISTED = ("limit", "cursor", "order", "typed")


class Rest:
    """The requests of one server.

    Args:
        core: Answers them.
        max_body: Bytes that a body may have.
    """

    def __init__(self, core: Core, max_body: int) -> None:
        self.core, self.max_body = core, max_body

    async def one(self, request: Request, user: User, view: ServedView, row_id: str) -> Response:
        """`/views/{view}/{id}`: GET, HEAD and PATCH.

        Raises:
            Problem: It is not answered.
        """
        if request.method == "PATCH":
            return await self._patch(request, user, view, row_id)
        only(request, "GET", "HEAD", *(["PATCH"] if self.core.can_update(view) else []))
        query: Mapping[str, str] = request.query_params if request.scope["query_string"] else {}
        if "wait_for" in query:
            await self.core.wait_for(view, row_id, integer(query["wait_for"], "wait_for"))
        is_typed = flag(query.get("typed"), "typed")
        if flag(query.get("fresh"), "fresh"):
            row = await self.core.get_fresh(user, view, row_id)
            body = self.core.encoded_row(user, view, row, is_typed=is_typed)
            return Response(body, headers={"Cache-Control": "no-store"}, media_type=JSON)
        row = await self.core.get(user, view, row_id)
        hidden = audience(self.core.hidden(user, view))
        tag = f'"{stamp_text(row.stamp)}{"-t" if is_typed else ""}{hidden and f"-h{hidden}"}"'
        control = self._cached(view, row)
        headers = {"ETag": tag, "Cache-Control": control, **vary(control.startswith("public"))}
        if matches(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(self.core.encoded_row(user, view, row, is_typed=is_typed), headers=headers, media_type=JSON)

    async def routed(self, request: Request, user: User, view: ServedView, row_id: str, route: ServedRoute) -> Response:
        """`/views/{view}/{id}/...`, a route of the view: GET and HEAD.

        Raises:
            Problem: It is not answered.
        """
        only(request, "GET", "HEAD")
        body = await self.core.routed(user, view, row_id, route, request.query_params)
        tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
        visibility = "public" if self.core.access.is_open else "private"
        headers = {"ETag": tag, "Cache-Control": f"{visibility}, no-cache", **vary(self.core.access.is_open)}
        if matches(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=JSON)

    def _cached(self, view: ServedView, row: StoredRow) -> str:
        access = self.core.access
        is_public = access.is_open or (not view.restricted and ANYONE in view.principals(row, "_viewers"))
        return f"{'public' if is_public else 'private'}, no-cache"

    async def _patch(self, request: Request, user: User, view: ServedView, row_id: str) -> Response:
        given = request.headers.get("if-match")
        if_match = None
        if given is not None and given != "*":
            if_match = parse_stamp(_TAG_SUFFIX.sub("", given.removeprefix("W/").strip('"')))
            if if_match is None:
                raise Problem(400, "invalid parameter", "If-Match: expected an ETag that this server gave")
        written = await self.core.update(user, view, row_id, await self._body(request), if_match)
        return Response(msgspec.json.encode(written), headers={"Cache-Control": "no-store"}, media_type=JSON)

    async def many(self, request: Request, user: User, view: ServedView) -> Response:
        """`/views/{view}`: GET, HEAD and POST.

        Raises:
            Problem: It is not answered.
        """
        if request.method == "POST":
            created = await self.core.create(user, view, await self._body(request))
            headers = {"Cache-Control": "no-store"}
            return Response(msgspec.json.encode(created), 201, headers, media_type=JSON)
        only(request, "GET", "HEAD", *(["POST"] if self.core.can_create(view) else []))
        query = request.query_params
        page = await self.core.list(
            user,
            view,
            limit=integer(query.get("limit", str(DEFAULT_LIMIT)), "limit"),
            cursor=query.get("cursor"),
            order=query.get("order"),
            filters=filters_of(view, {name: query[name] for name in query if name not in _LISTED}),
        )
        is_typed = flag(query.get("typed"), "typed")
        rows = [msgspec.Raw(self.core.encoded_row(user, view, row, is_typed=is_typed)) for row in page.rows]
        body = msgspec.json.encode({"rows": rows, "cursor": page.cursor})
        visibility = "public" if self.core.access.is_open else "private"
        headers = {"Cache-Control": f"{visibility}, no-cache", **vary(self.core.access.is_open)}
        return Response(body, headers=headers, media_type=JSON)

    async def _body(self, request: Request) -> Any:
        return decode_body(await read_json_body(request, self.max_body))


def filters_of(view: ServedView, texts: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values of texts by which a list is filtered, by the types of the properties.

    Raises:
        Problem: One is of another type.
    """
    found: dict[str, Any] = {}
    for name, text in texts.items():
        known = view.properties.get(name)
        kind = None if known is None else known.type.scalar
        try:
            if kind is bool:
                found[name] = {"true": 1, "false": 0}[text]
            elif kind is int or kind is float:
                found[name] = kind(text)
            else:
                found[name] = text.removesuffix("Z") if known and known.type.schema.get("format") else text
        except (ValueError, KeyError):
            raise Problem(400, "invalid parameter", f"{name}: expected {known and known.type.schema}") from None
    return found
