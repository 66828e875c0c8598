"""The registry of connectors: finds the class for the scheme of a URI.

    @register
    class Postgres(Source, Sink):
        scheme = "postgres"

A scheme is looked up, in this order, among registered classes, built-in schemes, and the entry points of installed
packages in the group `boiler_beam.connectors` (scheme = "module:Class").
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from boiler_beam.connectors.base import Sink, Source
from boiler_beam.connectors.stores import DocumentStore
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.install import install_command
from boiler_beam.values import Database

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from boiler_beam.connectors.firestore.options import WriteOptions

__all__ = [
    "database_of",
    "open_sink",
    "open_source",
    "open_sources",
    "open_store",
    "read_sources",
    "register",
    "schemes",
    "with_write_options",
]

Connector = TypeVar("Connector", bound="type[Source] | type[Sink]")

_SOURCES = {
    "file": "boiler_beam.connectors.files:FileSource",
    "documents": "boiler_beam.connectors.documents.source:DocumentsSource",
    "sample": "boiler_beam.connectors.files:SampleSource",
    "tail": "boiler_beam.connectors.files:TailSource",
    "pubsub": "boiler_beam.connectors.pubsub.source:PubsubSource",
    "firestore": "boiler_beam.connectors.firestore.source:FirestoreSource",
    "dead-letters": "boiler_beam.connectors.replay:DeadLetterSource",
}
_SINKS = {
    "jsonl": "boiler_beam.connectors.jsonl:JsonlSink",
    "sqlite": "boiler_beam.connectors.sqlite:SqliteSink",
    "pubsub": "boiler_beam.connectors.pubsub.sink:PubsubSink",
    "parquet": "boiler_beam.connectors.parquet:ParquetSink",
    "firestore": "boiler_beam.connectors.firestore.sink:FirestoreSink",
}
_STORES = {
    "documents": "boiler_beam.connectors.documents.store:DocumentsStore",
    "firestore": "boiler_beam.connectors.firestore.store:FirestoreStore",
}
_BUILT_IN = {**_SOURCES, **_SINKS}
_GROUP = "boiler_beam.connectors"
_registered: dict[str, type[Source] | type[Sink]] = {}


def register(connector: Connector) -> Connector:
    """Registers a class by its scheme; a class that is both `Source` and `Sink` is used as both.

    Raises:
        UsageError: Another class has the scheme.
    """
    scheme = connector.scheme
    known = _registered.get(scheme)
    if scheme in _BUILT_IN or (known is not None and known.__qualname__ != connector.__qualname__):
        raise UsageError(
            f"{connector.__qualname__}: expected an unused scheme, got {scheme!r}, which is taken; fix: rename it"
        )
    _registered[scheme] = connector
    return connector


def schemes(kind: Any) -> list[str]:
    """Returns the known schemes of sources, or of sinks.

    Schemes of installed packages, which are not imported, are in both.
    """
    registered = [scheme for scheme, connector in _registered.items() if issubclass(connector, kind)]
    installed = [point.name for point in _installed()]
    return sorted({*(_SOURCES if kind is Source else _SINKS), *registered, *installed})


def open_source(uri: str) -> Source:
    """Opens the source at a URI. Nothing is read yet.

    Raises:
        UsageError: The URI is malformed, or its scheme is not one of a source.
    """
    opened: Source = _open(uri, Source, "source")
    return opened


def open_sources(uris: Iterable[str], collections: Sequence[str], read_time: int | None = None) -> list[Source]:
    """Opens the bounded sources at some URIs, and prepares them to read some collections.

    Args:
        uris: The URIs of the sources.
        collections: The patterns of the collections that are asked for.
        read_time: The time as of which they are read, if they support that, in microseconds since the epoch; None: now.

    Raises:
        UsageError: A URI is malformed, its scheme is not one of a source, or it can't be read.
    """
    sources = [open_source(uri) for uri in uris]
    for source in sources:
        source.read_time = read_time
        source.prepare(collections)
    return sources


def database_of(sources: Iterable[Source], project: str | None = None, name: str | None = None) -> Database:
    """Returns the database whose documents some sources yield.

    Args:
        sources: The sources; the first one whose address names a database is used.
        project: The project if no source names one; None: any.
        name: The database if no source names one; None: `(default)`.
    """
    named = next((source.database for source in sources if source.database is not None), None)
    return named or (Database(project, name) if name is not None else Database(project))


def read_sources(uris: Iterable[str], collections: Sequence[str]) -> Iterator[Change | DeadLetter]:
    """Opens the bounded sources at some URIs, and yields all their changes, one source after the other.

    Args:
        uris: The URIs of the sources.
        collections: The patterns of the wanted collections; others may be yielded too.

    Raises:
        UsageError: A URI is malformed, or its scheme is not one of a source; when read: there is nothing to read.
    """
    return (change for source in open_sources(uris, collections) for change in source.read_all())


def open_sink(uri: str, options: WriteOptions | None = None) -> Sink:
    """Opens the sink at a URI. Nothing is written yet.

    Args:
        uri: The sink's URI.
        options: How rows are written, for `firestore:`.

    Raises:
        UsageError: The URI is malformed, or its scheme is not one of a sink.
    """
    opened: Sink = _open(uri, Sink, "sink")
    return opened if options is None else with_write_options(opened, options)


def with_write_options(sink: Sink, options: WriteOptions) -> Sink:
    """Returns the sink, which will write rows as the options say if it writes to Firestore."""
    if sink.scheme == "firestore":
        sink.options = options  # type: ignore[attr-defined]
    return sink


def open_store(uri: str) -> DocumentStore:
    """Opens the document store at a URI: `documents:PATH` or `firestore:PROJECT[/DATABASE]`. Nothing is read yet.

    Raises:
        UsageError: The URI is malformed, its scheme is not one of a store, or it names rows, which can only be read.
    """
    scheme, _, rest = uri.partition(":")
    if scheme in _STORES:
        store: DocumentStore = imported(scheme, _STORES[scheme])(rest)
        return store
    known = ", ".join(_STORES)
    if scheme in _SINKS:
        raise UsageError(
            f"{uri}: expected a store of documents, got rows, which are computed and read-only; "
            f"fix: name the store of the documents that they are computed from ({known})"
        )
    raise UsageError(f"{uri}: expected a store of documents, got another scheme; fix: use one of {known}")


def _open(uri: str, kind: Any, word: str) -> Any:
    scheme, colon, rest = uri.partition(":")
    if not colon or "/" in scheme:
        known = ", ".join(schemes(kind))
        raise UsageError(f"{uri}: expected a {word} as SCHEME:ADDRESS, got no scheme; fix: put one before it ({known})")
    found = _class_of(scheme, kind)
    if not issubclass(found, kind):
        known = ", ".join(schemes(kind))
        other = "" if found is object else f" (it is one of a {'sink' if word == 'source' else 'source'})"
        raise UsageError(f"{uri}: expected the scheme of a {word}, got {scheme!r}{other}; fix: use one of {known}")
    return found(rest)


def _class_of(scheme: str, kind: Any) -> Any:
    """Returns the class of a scheme, of this kind if there are two; `object` if the scheme is unknown."""
    if scheme in _registered:
        return _registered[scheme]
    if scheme in _BUILT_IN:
        wanted = _SOURCES if kind is Source else _SINKS
        return imported(scheme, wanted.get(scheme, _BUILT_IN[scheme]))
    for point in _installed():
        if point.name == scheme:
            return point.load()
    return object


def imported(scheme: str, address: str) -> Any:
    """Returns what a scheme needs, `module:name`; it is imported only when the scheme is named.

    Raises:
        UsageError: Google's client libraries are not installed.
    """
    module, _, name = address.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("google", "grpc")):
            raise
        raise UsageError(
            f"{scheme}: expected Google's client libraries to be installed, got no {error.name}; "
            f"fix: {install_command('firestore')}"
        ) from None


def _installed() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    return entry_points(group=_GROUP)
