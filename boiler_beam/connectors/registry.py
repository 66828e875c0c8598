"""The registry of schemes: from a URI to the class that reads or writes it.

    @register
    class Postgres(Source, Sink):
        scheme = "postgres"

Known are, in this order: what was registered, the built-in schemes, and the entry points in the group
`boiler_beam.connectors` (scheme = "module:Class") of installed packages.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from boiler_beam.connectors.base import Sink, Source
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.values import Database

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from boiler_beam.connectors.firestore.options import WriteOptions

__all__ = ["database_of", "open_sink", "open_source", "open_sources", "read_sources", "register", "schemes"]

Connector = TypeVar("Connector", bound="type[Source] | type[Sink]")

_SOURCES = {
    "file": "boiler_beam.connectors.files:FileSource",
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
_BUILT_IN = {**_SOURCES, **_SINKS}
_GROUP = "boiler_beam.connectors"
_registered: dict[str, type[Source] | type[Sink]] = {}


def register(connector: Connector) -> Connector:
    """Makes a class known by its scheme; a class that is both `Source` and `Sink` serves as both.

    Raises:
        UsageError: Another class has the scheme.
    """
    scheme = connector.scheme
    known = _registered.get(scheme)
    if scheme in _BUILT_IN or (known is not None and known.__qualname__ != connector.__qualname__):
        raise UsageError(
            f"{connector.__qualname__}: expected a scheme of its own, got {scheme!r}, which is taken; fix: rename it"
        )
    _registered[scheme] = connector
    return connector


def schemes(kind: Any) -> list[str]:
    """The known schemes of `Source`, or of `Sink`. Of installed packages nothing is imported: theirs are in both."""
    registered = [scheme for scheme, connector in _registered.items() if issubclass(connector, kind)]
    installed = [point.name for point in _installed()]
    return sorted({*(_SOURCES if kind is Source else _SINKS), *registered, *installed})


def open_source(uri: str) -> Source:
    """The source at a URI. Nothing is read yet.

    Raises:
        UsageError: The URI is malformed, or its scheme is none of a source.
    """
    opened: Source = _open(uri, Source, "source")
    return opened


def open_sources(uris: Iterable[str], collections: Sequence[str], read_time: int | None = None) -> list[Source]:
    """The sources at some URIs, prepared to give the documents of some collections, for readers of bounded ones.

    Args:
        uris: Of the sources.
        collections: The patterns of the collections that are asked for.
        read_time: As of when they are read, where they can tell, in microseconds since the epoch; None: as of now.

    Raises:
        UsageError: A URI is malformed, its scheme is none of a source, or it can't be read.
    """
    sources = [open_source(uri) for uri in uris]
    for source in sources:
        source.read_time = read_time
        source.prepare(collections)
    return sources


def database_of(sources: Iterable[Source], project: str | None = None, name: str | None = None) -> Database:
    """The database whose documents some sources give.

    Args:
        sources: The first of them whose address names a database decides.
        project: The project, where none does; None: any.
        name: The database, where none does; None: `(default)`.
    """
    named = next((source.database for source in sources if source.database is not None), None)
    return named or (Database(project, name) if name is not None else Database(project))


def read_sources(uris: Iterable[str], collections: Sequence[str]) -> Iterator[Change | DeadLetter]:
    """All that the bounded sources at some URIs hold, one after the other. They are opened at once, and read as asked.

    Args:
        uris: Of the sources.
        collections: The patterns of the collections that are asked for; others may come, too.

    Raises:
        UsageError: A URI is malformed, or its scheme is none of a source; when read: there is nothing to read.
    """
    return (change for source in open_sources(uris, collections) for change in source.read_all())


def open_sink(uri: str, options: WriteOptions | None = None) -> Sink:
    """The sink at a URI. Nothing is written yet.

    Args:
        uri: Of the sink.
        options: How rows are written, where the sink can be told: `firestore:`.

    Raises:
        UsageError: The URI is malformed, or its scheme is none of a sink.
    """
    opened: Sink = _open(uri, Sink, "sink")
    if options is not None and opened.scheme == "firestore":
        opened.options = options  # type: ignore[attr-defined]
    return opened


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
    """The class of a scheme, of this kind where there are two; `object` where nobody knows it."""
    if scheme in _registered:
        return _registered[scheme]
    if scheme in _BUILT_IN:
        wanted = _SOURCES if kind is Source else _SINKS
        module, _, name = wanted.get(scheme, _BUILT_IN[scheme]).partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith(("google", "grpc")):
                raise
            raise UsageError(
                f"{scheme}: expected Google's client libraries to be installed, got no {error.name}; "
                "fix: pip install 'boiler_beam[firestore]'"
            ) from None
    for point in _installed():
        if point.name == scheme:
            return point.load()
    return object


def _installed() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, and seldom asked for

    return entry_points(group=_GROUP)
