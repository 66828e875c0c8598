"""Looks up the documents that a row has over an edge when they are read, starting at its root or its members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from typing_extensions import assert_never

from boiler_beam.models import DomainModel
from boiler_beam.plan import Edge, Fixed, Group, PlannedEdge, PlannedView, Reference, Referrers, Root
from boiler_beam.steps.contributions import Contribution, keyed_links_of, links_of
from boiler_beam.steps.functions import FunctionRaised
from boiler_beam.steps.newest import DocumentVersions
from boiler_beam.steps.row import store_value

__all__ = ["JoinedDocuments", "RowDocuments", "RowLookup"]

Documents = dict[str, DomainModel]


class JoinedDocuments(Protocol):
    """The part of an edge's join that rows read; `boiler_beam.engine.joins.EdgeJoin` implements it."""

    planned: PlannedEdge
    edge: Edge
    versions: DocumentVersions
    documents_at: dict[str, dict[str, None]]

    def contribution(self, path: str) -> Contribution | None:
        """What the document at a path contributes."""

    def shown(self, path: str) -> DomainModel | None:
        """The document at a path, where the edge shows it."""

    def first_documents(self, row_id: str, candidates: Callable[[], Iterable[str]]) -> Iterable[str]:
        """The paths of the documents that a row has over an edge with a limit; `candidates` are those without it."""


class _Reader(NamedTuple):
    """How the rows of a view read one edge.

    Attributes:
        bits: `PlannedEdge.bits`.
        documents: All documents of the edge's type, by path.
        paths: The paths of those that a row has, each once.
        one: The document that a row has, of an edge to one document; else None.
        value: What getters read of the edge.
    """

    bits: int
    documents: Documents
    paths: Callable[[RowDocuments], Iterable[str]]
    one: Callable[[RowDocuments], DomainModel | None] | None
    value: Callable[[RowDocuments], Any]


class RowLookup:
    """How the rows of a view read its edges.

    Args:
        planned: The view.
        joins: The joins of its edges.
        collection: The collection of its root's documents.
    """

    def __init__(self, planned: PlannedView, joins: Sequence[JoinedDocuments], collection: str) -> None:
        self._prefix = "" if planned.view.paths.root is not None else f"{collection}/"
        self.readers: dict[str, _Reader] = {}
        for join in joins:  # parents first
            reader = self._reader(join)
            self.readers[join.edge.name] = reader if join.edge.limit is None else _of_first(join, reader.paths)

    def _reader(self, join: JoinedDocuments) -> _Reader:
        """A reader of an edge; its limit is not applied."""
        edge = join.edge
        match edge:
            case Root():
                prefix, shown = self._prefix, _shown(join)
                return _of_one(join, lambda row: shown(prefix + row.row_id))
            case Fixed():
                path, shown = edge.path, _shown(join)
                return _of_one(join, lambda row: shown(path))
            case Group():
                return _of_many(join, lambda row: join.documents_at.get(row.row_id, ()))
            case Referrers():
                parent = edge.parent or ""

                def referring(row: RowDocuments) -> Iterable[str]:
                    at = join.documents_at
                    return dict.fromkeys([path for key in row.paths(parent) if key in at for path in at[key]])

                return _of_many(join, referring)
            case Reference():
                if self.readers[edge.parent or ""].one is None:
                    return _of_many(join, _referred(edge, join))
                return _of_parent(edge, join)
            case _:
                assert_never(edge)


def _ignore(error: FunctionRaised) -> None:
    """What a property raises was reported when the document was joined."""


def _shown(join: JoinedDocuments) -> Callable[[str], DomainModel | None]:
    """The document at a path, where the edge shows it."""
    return join.versions.documents.get if join.planned.shows_all else join.shown


def _value(edge: Edge) -> Callable[[RowDocuments], Any]:
    """What getters read of an edge, from the documents that a row has."""
    return lambda row: store_value(edge, row(edge.name), lambda: row(edge.parent) if edge.parent else {})


def _of_one(join: JoinedDocuments, one: Callable[[RowDocuments], DomainModel | None]) -> _Reader:
    """A reader of an edge to one document."""
    edge = join.edge
    name = edge.name

    def paths(row: RowDocuments) -> Iterable[str]:
        document = row.one(name)
        return () if document is None else (document.path,)

    value = (lambda row: row.one(name)) if edge.only is None else _value(edge)
    return _Reader(join.planned.bits, join.versions.documents, paths, one, value)


def _of_many(join: JoinedDocuments, paths: Callable[[RowDocuments], Iterable[str]]) -> _Reader:
    """A reader of an edge to several documents, or to one of the documents of several parents."""
    return _Reader(join.planned.bits, join.versions.documents, paths, None, _value(join.edge))


def _of_first(join: JoinedDocuments, candidates: Callable[[RowDocuments], Iterable[str]]) -> _Reader:
    """A reader of the first documents over an edge with a limit; a row ranks its candidates once."""
    name = join.edge.name

    def first(row: RowDocuments) -> Iterable[str]:
        found = row.ranked.get(name)
        if found is None:
            found = row.ranked[name] = join.first_documents(row.row_id, partial(candidates, row))
        return found

    return _of_many(join, first)


def _referred(edge: Reference, join: JoinedDocuments) -> Callable[[RowDocuments], Iterable[str]]:
    """The paths that the documents over the parent edge refer to."""
    parent, shown, links = edge.parent or "", _shown(join), links_of(edge)

    def referred(row: RowDocuments) -> Iterable[str]:
        paths = [path for document in row(parent).values() for path in links(document, _ignore)]
        return [path for path in dict.fromkeys(paths) if shown(path) is not None]

    return referred


def _of_parent(edge: Reference, join: JoinedDocuments) -> _Reader:
    """A reader of the documents that a field of one document refers to, in the field's order."""
    parent, shown, links, keyed_links = edge.parent or "", _shown(join), links_of(edge), keyed_links_of(edge)
    is_map, is_by_id = edge.keyed_by == "map", edge.keyed_by == "doc_id"

    def one(row: RowDocuments) -> DomainModel | None:
        document = row.one(parent)
        if document is not None:
            for path in links(document, _ignore):
                return shown(path)
        return None

    def paths(row: RowDocuments) -> Iterable[str]:
        document = row.one(parent)
        return [] if document is None else [path for path in links(document, _ignore) if shown(path) is not None]

    def many(row: RowDocuments) -> Any:
        document = row.one(parent)
        if document is None:
            return {}
        if is_map:
            return {key: other for key, path in keyed_links(document) if (other := shown(path)) is not None}
        if not is_by_id:
            return row(edge.name)
        paths = links(document, _ignore)
        return {path[path.rfind("/") + 1 :]: other for path in paths if (other := shown(path)) is not None}

    if not edge.is_many:
        return _of_one(join, one)
    is_plain = edge.order is None and edge.only is None
    value = many if is_plain else _value(edge)
    return _Reader(join.planned.bits, join.versions.documents, paths, None, value)


class RowDocuments:
    """The documents that one row has over each edge.

    Attributes:
        row_id: The row.
        ranked: Of edges with a limit, the paths of the documents that the row has.
        read: A bit mask of the positions of the edges that were read, and of those above them.
    """

    __slots__ = ("_known", "_ones", "_readers", "ranked", "read", "row_id")

    def __init__(self, row_id: str, lookup: RowLookup) -> None:
        self.row_id, self._readers = row_id, lookup.readers
        self._known: dict[str, Documents] = {}
        self._ones: dict[str, DomainModel | None] = {}
        self.ranked: dict[str, Iterable[str]] = {}
        self.read = 0

    def __call__(self, name: str) -> Documents:
        """The documents over an edge, by path."""
        found = self._known.get(name)
        if found is None:
            documents = self._readers[name].documents
            found = self._known[name] = {path: documents[path] for path in self.paths(name)}
        return found

    def paths(self, name: str) -> Iterable[str]:
        """The paths of the documents over an edge, each once."""
        reader = self._readers[name]
        self.read |= reader.bits
        return reader.paths(self)

    def one(self, name: str) -> DomainModel | None:
        """The document over an edge to one document."""
        if name in self._ones:
            return self._ones[name]
        find = self._readers[name].one
        assert find is not None
        document = self._ones[name] = find(self)
        return document

    def has(self, name: str) -> bool:
        """Whether there is a document over an edge."""
        reader = self._readers[name]
        if reader.one is None:
            return bool(self(name))
        self.read |= reader.bits
        return self.one(name) is not None

    def value(self, name: str) -> Any:
        """What a getter reads of an edge."""
        reader = self._readers[name]
        self.read |= reader.bits
        return reader.value(self)
