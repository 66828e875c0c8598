"""From views to a server: `asgi_app` for rows that another program writes, `running` with an engine in this process."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from boiler_beam.connectors import KeyedSource, Source, database_of, open_source
from boiler_beam.connectors.registry import imported
from boiler_beam.connectors.sqlite import SqliteSink
from boiler_beam.engine.follow import Settings, StreamReport, follow
from boiler_beam.engine.fresh import fresh_row
from boiler_beam.engine.state import State, open_state
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import EncodedRow, View
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.program.connecting import opened_dead_letters, state_beside
from boiler_beam.serving.access import Access, Verifier
from boiler_beam.serving.app import MAX_BODY, application
from boiler_beam.serving.auth import verifier_of
from boiler_beam.serving.catalog import Catalog, ServedView
from boiler_beam.serving.core import Core
from boiler_beam.serving.graphql import GraphQLServer
from boiler_beam.serving.hub import Hub, Limits
from boiler_beam.serving.limits import ClientLimits
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.reader import RowReader
from boiler_beam.serving.roles import Memberships, Roles, StoredRoles, memberships_of
from boiler_beam.serving.rows import Rows
from boiler_beam.serving.socketio import socketio_app
from boiler_beam.serving.writer import Writer
from boiler_beam.values import encode_fields
from boiler_beam.views import ViewModel
from boiler_beam.writing.writer import Writer as DocumentWriter

__all__ = ["Running", "asgi_app", "core_of", "running"]

_log = logging.getLogger("boiler_beam.serving")
Views = Sequence[type[ViewModel]]
Sources = Sequence[str | Source]


def asgi_app(
    views: Views,
    *,
    rows: str = "sqlite:boiler_beam.db",
    documents: str | Source | None = None,
    auth: str | Verifier | None = None,
    writer: Writer | None = None,
    origins: Sequence[str] = (),
    limits: Limits | None = None,
    clients: ClientLimits | None = None,
    roles: str | Memberships | Roles | None = None,
) -> Starlette:
    """Returns an ASGI application that serves rows which another program writes.

    It needs no start: mount it in an application of FastAPI, Starlette or Litestar, or run it with any ASGI server.

    Args:
        views: The classes.
        rows: Where the rows are, `sqlite:PATH` or `firestore:PROJECT[/DATABASE]`.
        documents: Where documents are, for `?fresh=1` and, in a store (`documents:`, `firestore:`), for writes.
        auth: `"none"` (the default: everything is open), `"firebase:PROJECT"`, or a verifier.
        writer: Takes writes; None: the documents, if they are in a store.
        origins: Sites whose pages may read and write, beside the server's own.
        limits: What the hub keeps, and how often it looks.
        clients: How much clients may ask for.
        roles: Which roles users have beside those in their token: a collection of memberships in the documents, as
            `--roles`, or a function.

    Raises:
        UsageError: An argument is wrong.
        DeclarationError: The classes can't be compiled.
    """
    opened = open_source(documents) if isinstance(documents, str) else documents
    plan = compile_plan(views, database_of([] if opened is None else [opened]))
    limits = limits or Limits()
    stored = _rows(rows, plan, limits)
    if writer is None and opened is not None:
        writer = _writer(views, [opened], stored)
    core = core_of(plan, stored, opened, verifier_of(auth), writer, limits, clients, roles)
    return application(core, origins=origins, more=_more(core, origins))


def core_of(
    plan: Plan,
    rows: Rows,
    documents: Source | None,
    verifier: Verifier | None,
    writer: Writer | None,
    limits: Limits | None,
    clients: ClientLimits | None = None,
    roles: str | Memberships | Roles | None = None,
) -> Core:
    """Returns a server without its protocols."""
    access = Access(verifier, _roles(roles, documents))
    hub = Hub(rows, access, limits)
    rows.written = hub.wake
    fresh = None if documents is None else _fresh(documents)
    for view in plan.views:
        if not access.is_open and "viewers" not in view.visibility:
            _log.warning("%s has no viewers(), so nobody may see its rows; fix: define it", view.name)
    return Core(Catalog(plan), rows, hub, access, writer, fresh, clients)


def _roles(roles: str | Memberships | Roles | None, documents: Source | None) -> Roles | None:
    where = memberships_of(roles) if isinstance(roles, str) else roles
    return StoredRoles(where, documents) if isinstance(where, Memberships) else where


class Running:
    """A running engine and its server.

    Attributes:
        app: The ASGI application, to be mounted or served.
        core: The server without its protocols.
        report: What the engine did so far.
        failure: Why the engine ended; None while it runs, and when its sources ended.
    """

    def __init__(self, core: Core, app: Starlette) -> None:
        self.core, self.app = core, app
        self.report: StreamReport | None = None
        self.failure: BaseException | None = None


@contextlib.asynccontextmanager
async def running(
    views: Views,
    *,
    sources: Sources = (),
    rows: str = "sqlite:boiler_beam.db",
    state: str | State | None = None,
    dead_letters: str | None = None,
    documents: str | Source | None = None,
    auth: str | Verifier | None = None,
    writer: Writer | None = None,
    origins: Sequence[str] = (),
    limits: Limits | None = None,
    clients: ClientLimits | None = None,
    roles: str | Memberships | Roles | None = None,
    coalesce_seconds: float = 0.0,
) -> AsyncIterator[Running]:
    """Within the context the embedded engine follows sources in a thread, and its rows can be served.

        async with running([MeetingSession], sources=["tail:documents.jsonl"]) as served:
            await uvicorn.Server(uvicorn.Config(served.app)).serve()

    Args:
        views: The classes.
        sources: URIs or opened sources; none: another program writes the rows.
        rows: Where the rows are, `sqlite:PATH`; without sources also `firestore:PROJECT[/DATABASE]`.
        state: The engine's state, as `--state`; None: in memory if all sources end, else beside the rows.
        dead_letters: Where unusable inputs are written, as `--dead_letter`; None: beside the rows.
        documents: Where documents are, for `?fresh=1` and, in a store, for writes; None: in the first source that can.
        auth: `"none"` (the default: everything is open), `"firebase:PROJECT"`, or a verifier.
        writer: Takes writes; None: `documents`, or the first source that is a store (`documents:`, `firestore:`).
        origins: Sites whose pages may read and write, beside the server's own.
        limits: What the hub keeps, and how often it looks.
        clients: How much clients may ask for.
        roles: Which roles users have beside those in their token: a collection of memberships in the documents, as
            `--roles`, or a function.
        coalesce_seconds: How long changes are gathered before rows are written.

    Raises:
        UsageError: An argument is wrong.
        DeclarationError: The classes can't be compiled.
        BoilerBeamError: The engine failed; raised at the end.
    """
    opened = [open_source(one) if isinstance(one, str) else one for one in sources]
    if all(source.is_bounded for source in opened):
        opened = [source.following() for source in opened]
    stored = open_source(documents) if isinstance(documents, str) else documents
    known = [*([] if stored is None else [stored]), *opened]
    plan = compile_plan(views, database_of(known))
    sink = _sink(rows) if opened else None
    limits = limits or Limits()
    readable = _rows(rows, plan, limits)
    if stored is None:
        stored = next((one for one in opened if isinstance(one, KeyedSource)), None)
    if writer is None:
        writer = _writer(views, known, readable)
    core = core_of(plan, readable, stored, verifier_of(auth), writer, limits, clients, roles)
    served = Running(core, application(core, origins=origins, more=_more(core, origins)))
    with contextlib.ExitStack() as stack:
        stack.callback(readable.close)
        if sink is not None:
            sink.written = core.hub.wake
            engine = _engine(plan, opened, sink, state, dead_letters, coalesce_seconds, served)
            stack.enter_context(_in_a_thread(engine, served))
        readable.start()
        yield served
    if served.failure is not None:
        raise BoilerBeamError(f"the engine failed: {served.failure}; fix: see its log") from served.failure


Engine = Callable[[Callable[[], None], Callable[[], bool]], None]
"""Runs until its second argument says so; its first is called when all is opened."""


def _engine(
    plan: Plan,
    sources: Sequence[Source],
    sink: SqliteSink,
    state: str | State | None,
    dead_letters: str | None,
    coalesce_seconds: float,
    served: Running,
) -> Engine:
    address = state or state_beside(sink, is_bounded=all(source.is_bounded for source in sources))

    def keep_report(report: StreamReport) -> None:
        served.report = report

    def run(is_opened: Callable[[], None], should_stop: Callable[[], bool]) -> None:
        with contextlib.ExitStack() as stack:
            kept = open_state(address) if isinstance(address, str) else address
            stack.callback(kept.close)
            letters = opened_dead_letters(dead_letters, sink)
            stack.callback(letters.close)
            is_opened()
            follow(
                plan,
                sources,
                sink,
                letters,
                kept,
                Settings(coalesce_seconds),
                should_stop=should_stop,
                on_report=keep_report,
            )

    return run


@contextlib.contextmanager
def _in_a_thread(engine: Engine, served: Running) -> Iterator[None]:
    """Runs an engine beside the context; what is wrong before it has opened its files is raised here."""
    stop, opened = threading.Event(), threading.Event()

    def run() -> None:
        try:
            engine(opened.set, stop.is_set)
        except Exception as error:
            if opened.is_set():
                _log.exception("the engine failed; rows are no longer kept up to date")
            served.failure = error
            served.core.hub.failure = f"the engine failed ({type(error).__name__})"
        finally:
            opened.set()

    thread = threading.Thread(target=run, name="boiler_beam engine", daemon=True)
    thread.start()
    opened.wait()
    try:
        if isinstance(served.failure, UsageError):
            raise served.failure
        yield
    finally:
        stop.set()
        thread.join()


def _sink(rows: str) -> SqliteSink:
    scheme, _, path = rows.partition(":")
    if scheme != SqliteSink.scheme:
        fix = "write the rows to a sqlite: sink"
        if scheme == "firestore":
            fix += f", or let a stream of its own write them (boiler-beam run --sink {rows}), without --source here"
        raise UsageError(f"--rows {rows}: expected sqlite:PATH beside --source, got {scheme!r}; fix: {fix}")
    return SqliteSink(path)


def _rows(rows: str, plan: Plan, limits: Limits) -> Rows:
    scheme, _, rest = rows.partition(":")
    if scheme == "firestore":
        listened: Rows = imported(scheme, "boiler_beam.serving.listened:ListenedRows")(rest, plan, limits)
        return listened
    if scheme != SqliteSink.scheme:
        raise UsageError(
            f"--rows {rows}: expected sqlite:PATH or firestore:PROJECT, got {scheme!r}; fix: write the rows to one"
        )
    return Rows(SqliteSink(rest).rest)


def _writer(views: Views, sources: Sequence[Source], rows: Rows) -> Writer | None:
    """Returns what writes to the first source that is a store; None if none is."""
    uri = next((one.uri for one in sources if one.scheme in ("documents", "firestore")), None)
    if uri is None:
        return None

    def row(view: View, path: str) -> EncodedRow | None:
        with contextlib.closing(RowReader(rows.of(view.name).path)) as reader:  # it is called in several threads
            found = reader.get(view.name, path)
        return None if found is None else EncodedRow(path, found.stamp, found.fields.encode())

    return DocumentWriter(views, uri, row)


def _fresh(documents: Source) -> Callable[[ServedView, str], str | None]:
    lock = threading.Lock()

    def fresh(view: ServedView, row_id: str) -> str | None:
        paths = view.plan.paths
        at = paths.at(view.prefix + row_id)
        root = next((at.pop(name) for name in ("id", "key") if name in at), row_id)
        try:
            with lock:
                fields = fresh_row(view.plan.model, root, documents, at)
        except UsageError:
            return None
        except BoilerBeamError:
            _log.exception("%s %s can't be computed", view.name, row_id)
            raise Problem(502, "documents are invalid", "the row can't be computed from the documents") from None
        return None if fields is None else encode_fields(fields).decode()

    return fresh


def _more(core: Core, origins: Sequence[str]) -> list[BaseRoute]:
    """Returns the routes of the protocols that need libraries of their own."""
    graphql = GraphQLServer(core, frozenset(origins), MAX_BODY)
    return [
        Route("/graphql", graphql, methods=["POST"]),
        WebSocketRoute("/graphql", graphql),
        Mount("/socket.io", socketio_app(core, origins, MAX_BODY)),
    ]
