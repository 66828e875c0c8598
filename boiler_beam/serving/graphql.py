"""GraphQL at `/graphql`: a typed query, list and subscription for each view.

    query { MeetingSession(id: "m1") { id stamp { version } fields { address inSession } } }
    query { MeetingSession_list(limit: 10, order: "-address") { rows { id } cursor } }
    subscription { MeetingSession_changes { rows { id fields { address } } deleted offset upToDate } }
    mutation { MeetingSession_update(id: "m1", fields: {inSession: true}) { id versions } }

Names are those of classes and of stored properties. Subscriptions are sent over graphql-transport-ws or as server-sent
events (the "distinct connections" of GraphQL over SSE). Over a WebSocket the token is `authorization` in the parameters
of `connection_init`. A problem is an error whose `extensions` are the problem document.
"""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import AsyncIterator, Mapping
from typing import Any, Optional

import anyio
import msgspec
import strawberry
from graphql import GraphQLError
from starlette.requests import HTTPConnection, Request
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.extensions import MaskErrors, MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.types.execution import ExecutionContext

from boiler_beam.events import Stamp
from boiler_beam.serving.access import User
from boiler_beam.serving.catalog import Property, ServedView
from boiler_beam.serving.core import DEFAULT_LIMIT, Core, parse_stamp
from boiler_beam.serving.offsets import BEGIN
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.reader import StoredRow
from boiler_beam.serving.web import check_origin, decode_body, problem_response, read_body
from boiler_beam.values import INT64_MAX, INT64_MIN

__all__ = ["GraphQLServer", "schema_of"]

MAX_DEPTH, MAX_ALIASES, MAX_TOKENS = 10, 15, 1_000
JSON: Any = strawberry.scalars.JSON
Int64 = type("Int64", (int,), {"__doc__": "A 64-bit integer, a JSON number."})
"""GraphQL's own Int has 32 bits."""
_IS_CUT = "boiler_is_cut"
"""In the scope of a request: the server ends a subscription that is not complete."""
_SCALARS: Mapping[type | None, Any] = {str: str, int: Int64, float: float, bool: bool}


@strawberry.type(name="Stamp", description="Which of two writes of a row is newer.")
class _Stamp:
    generation: Int64  # type: ignore[valid-type]
    version: Int64  # type: ignore[valid-type]
    seq: Int64  # type: ignore[valid-type]


@strawberry.type(name="Written", description="The version of each document that was written, in microseconds.")
class _Written:
    id: strawberry.ID
    versions: JSON


def _type(name: str, fields: Mapping[str, Any], description: str = "", *, is_input: bool = False) -> Any:
    """Returns a GraphQL type."""
    made = type(name, (), {"__annotations__": dict(fields), "__module__": __name__})
    if is_input:
        for field in fields:
            setattr(made, field, strawberry.UNSET)
        return strawberry.input(made, description=description or None)
    return strawberry.type(made, description=description or None)


def _named(property_name: str) -> bool:
    """Whether GraphQL and Python can name a field so."""
    return property_name.isascii() and property_name.isidentifier() and not keyword.iskeyword(property_name)


class _View:
    """The types of one view, and what resolves its fields."""

    def __init__(self, core: Core, view: ServedView) -> None:
        self.core, self.view, name = core, view, view.name
        self.known: dict[str, Property] = {key: one for key, one in view.properties.items() if _named(key)}
        types = {key: Optional[_SCALARS.get(one.type.scalar, JSON)] for key, one in self.known.items()}  # noqa: UP045
        self.fields = _type(f"{name}_fields", types, view.description)
        common = {"id": strawberry.ID, "path": str, "stamp": _Stamp, "fields": self.fields}
        self.row = _type(name, common, view.description)
        self.page = _type(f"{name}_page", {"rows": list[self.row], "cursor": Optional[str]})  # type: ignore[name-defined]  # noqa: UP045
        self.changes = _type(
            f"{name}_changed",
            {
                "rows": list[self.row],  # type: ignore[name-defined]
                "deleted": list[strawberry.ID],
                "offset": str,
                "isReset": bool,
                "upToDate": bool,
            },
            "Rows that changed. All rows that a client has are replaced where isReset; rows are as of one commit where "
            "upToDate. A client that comes back gives the offset.",
        )
        settable = {key: types[key] for key, one in self.known.items() if one.is_settable}
        self.change = _type(f"{name}_change", settable, is_input=True) if settable else None

    def made(self, user: User, row: StoredRow) -> Any:
        """Returns a row as GraphQL resolves it; properties that the user may not see are null."""
        values = msgspec.json.decode(self.view.fields(row.fields, self.core.hidden(user, self.view)))
        fields = self.fields(**{key: values.get(key) for key in self.known})
        return self.row(id=self.view.id_of(row.path), path=row.path, stamp=_Stamp(**row.stamp._asdict()), fields=fields)

    async def _user(self, info: Any) -> User:
        """Returns who asks, with the roles that they have now: a WebSocket may be open for long."""
        return await self.core.access.current(info.context["user"])

    def query(self) -> dict[str, Any]:
        """Returns the fields of the query type."""

        async def one(info: Any, id: str, fresh: bool = False) -> Any:
            user = await self._user(info)
            if fresh:
                return self.made(user, await self.core.get_fresh(user, self.view, id))
            return self.made(user, await self.core.get(user, self.view, id))

        async def many(
            info: Any, limit: int = DEFAULT_LIMIT, cursor: Any = None, order: Any = None, filters: Any = None
        ) -> Any:
            if not isinstance(filters, (dict, type(None))):
                raise Problem(400, "invalid parameter", "filters: expected an object")
            user = await self._user(info)
            page = await self.core.list(user, self.view, limit=limit, cursor=cursor, order=order, filters=filters)
            return self.page(rows=[self.made(user, row) for row in page.rows], cursor=page.cursor)

        text = Optional[str]  # noqa: UP045
        _annotate(one, Optional[self.row], id=strawberry.ID, fresh=bool)  # noqa: UP045
        _annotate(many, self.page, limit=int, cursor=text, order=text, filters=Optional[JSON])  # noqa: UP045
        return {self.view.name: _field(one, self.view.description), f"{self.view.name}_list": _field(many)}

    def subscription(self) -> dict[str, Any]:
        """Returns the fields of the subscription type."""

        async def changes(info: Any, offset: str = BEGIN) -> AsyncIterator[Any]:
            access, is_current = self.core.access, False
            following = self.core.follow(info.context["user"], self.view, offset)
            async with contextlib.aclosing(following):
                async for followed in following:
                    batch, user = followed.batch, followed.user
                    if batch is None:
                        continue
                    seen = [one for one in batch.messages if one.is_seen(user, access)]
                    others = (one for one in batch.messages if not one.is_seen(user, access))
                    gone = [one for one in others if one.was_seen(user, access)]
                    is_reset = followed.is_reset or followed.begin is not None
                    if seen or gone or is_reset or batch.is_snapshot or batch.is_whole > is_current:
                        is_current = batch.is_whole
                        yield self.changes(
                            rows=[self.made(user, one.row) for one in seen if one.row is not None],
                            deleted=[one.id for one in gone],
                            offset=followed.offset,
                            isReset=is_reset,
                            upToDate=batch.is_whole,
                        )
            request = info.context["request"]  # the server ends; after `complete` no client would come back
            if isinstance(request, WebSocket):
                await anyio.sleep_forever()  # until the server closes it
            request.scope[_IS_CUT] = True

        _annotate(changes, AsyncIterator[self.changes], offset=str)  # type: ignore[name-defined]
        return {f"{self.view.name}_changes": strawberry.subscription(resolver=changes)}

    def mutation(self) -> dict[str, Any]:
        """Returns the fields of the mutation type."""
        found: dict[str, Any] = {}

        async def update(info: Any, id: str, fields: Any, if_match: Any = None) -> Any:
            given = {key: getattr(fields, key, strawberry.UNSET) for key in self.known}
            values = {key: value for key, value in given.items() if value is not strawberry.UNSET}
            stamp: Stamp | None = None if if_match is None else parse_stamp(if_match)
            if if_match is not None and stamp is None:
                raise Problem(400, "invalid parameter", "if_match: expected generation-version-seq of the row's stamp")
            return _Written(**_as_dict(await self.core.update(await self._user(info), self.view, id, values, stamp)))

        async def create(info: Any, fields: Any) -> Any:
            return _Written(**_as_dict(await self.core.create(await self._user(info), self.view, fields)))

        if self.change is not None:
            _annotate(update, _Written, id=strawberry.ID, fields=self.change, if_match=Optional[str])  # noqa: UP045
            found[f"{self.view.name}_update"] = _field(update)
        if self.view.can_create:
            _annotate(create, _Written, fields=JSON)
            found[f"{self.view.name}_create"] = _field(create)
        return found


def _as_dict(written: Any) -> dict[str, Any]:
    return {"id": written.id, "versions": dict(written.versions)}


def _annotate(function: Any, returned: Any, **arguments: Any) -> None:
    function.__annotations__ = {"info": strawberry.Info, **arguments, "return": returned}


def _field(resolver: Any, description: str = "") -> Any:
    return strawberry.field(resolver=resolver, description=description or None)


def _root(name: str, fields: Mapping[str, Any]) -> Any:
    return strawberry.type(type(name, (), {**fields, "__annotations__": {}, "__module__": __name__}))


class _Schema(strawberry.Schema):
    """Problems are sent with their documents; other errors are logged, and not sent."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        unexpected = []
        for error in errors:
            if isinstance(error.original_error, Problem):
                problem = error.original_error
                error.message, error.extensions = problem.title, problem.as_json()
            elif error.original_error is not None:
                unexpected.append(error)
        super().process_errors(unexpected, execution_context)


def _is_secret(error: GraphQLError) -> bool:
    return error.original_error is not None and not isinstance(error.original_error, Problem)


def schema_of(core: Core) -> strawberry.Schema:
    """Returns the schema of a server."""
    views = [_View(core, view) for view in core.catalog.values()]
    roots: list[dict[str, Any]] = [{}, {}, {}]
    for view in views:
        for root, fields in zip(roots, (view.query(), view.subscription(), view.mutation()), strict=True):
            root.update(fields)
    query, subscription, mutation = roots
    int64: Any = strawberry.scalar(name="Int64", serialize=int, parse_value=_int64)
    return _Schema(
        _root("Query", query),
        mutation=_root("Mutation", mutation) if mutation and core.writer is not None else None,
        subscription=_root("Subscription", subscription),
        config=StrawberryConfig(auto_camel_case=False, scalar_map={Int64: int64}),
        extensions=[
            lambda: QueryDepthLimiter(max_depth=MAX_DEPTH),
            lambda: MaxAliasesLimiter(max_alias_count=MAX_ALIASES),
            lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
            lambda: MaskErrors(should_mask_error=_is_secret, error_message="internal error"),
        ],
    )


class _Frames(BaseGraphQLTransportWSHandler[Any, Any]):
    """Frames of graphql-transport-ws. One that is JSON, but no message, closes the connection like text that isn't."""

    async def handle_message(self, message: Any) -> None:
        """Takes a message; see the base class."""
        if not isinstance(message, dict) or not isinstance(message.get("id", ""), str):
            return await self.handle_invalid_message("Failed to parse message")
        if message.get("type") == "subscribe" and not isinstance(message.get("payload", {}), dict):
            return await self.handle_invalid_message("Failed to parse message")
        return await super().handle_message(message)  # type: ignore[arg-type]


class GraphQLServer(GraphQL[Any, Any]):
    """The ASGI application of `/graphql`.

    Args:
        core: Answers what is asked.
        origins: Sites whose pages may connect, beside the server's own.
        max_body: Bytes that a request may have.
    """

    graphql_transport_ws_handler_class = _Frames

    def __init__(self, core: Core, origins: frozenset[str], max_body: int) -> None:
        super().__init__(
            schema_of(core),
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL],
        )
        self.core, self.origins, self.max_body = core, origins, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses what no protocol takes, then answers."""
        connection = HTTPConnection(scope)
        try:
            check_origin(connection, self.origins)
            scope["boiler_user"] = await self.core.user(connection)
            if scope["type"] == "http":
                body = await read_body(Request(scope, receive), self.max_body)
                if not isinstance(decode_body(body), dict):
                    raise Problem(400, "invalid request", "the body: expected an object with a query")
                receive = _again(body, receive)
        except Problem as problem:
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).close(4000 + problem.status, problem.title)
            else:
                await problem_response(problem)(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    async def create_streaming_response(self, request: Any, stream: Any, sub_response: Any, headers: Any) -> Any:
        """Sends server-sent events; see the base class. Those of a subscription that is cut have no `complete`."""

        async def uncut() -> AsyncIterator[str]:
            async with contextlib.aclosing(stream()) as parts:
                async for part in parts:
                    if _IS_CUT not in request.scope:
                        yield part

        return await super().create_streaming_response(request, uncut, sub_response, headers)

    async def get_context(self, request: Request | WebSocket, response: Any) -> Any:
        """Returns who asks; see the base class."""
        return {"user": request.scope["boiler_user"], "request": request}

    async def on_ws_connect(self, context: Any) -> Any:
        """Takes the token that a WebSocket gives first; see the base class."""
        params = context.get("connection_params") or {}
        given = params.get("authorization", params.get("Authorization"))
        if isinstance(given, str):
            try:
                context["user"] = await self.core.access.user(given.removeprefix("Bearer ").strip())
            except Problem as problem:
                raise ConnectionRejectionError(problem.as_json()) from None
        return await super().on_ws_connect(context)


def _again(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives a body that was read."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _int64(value: Any) -> int:
    if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
        raise ValueError(f"expected a 64-bit integer, got {value!r}")
    return value
