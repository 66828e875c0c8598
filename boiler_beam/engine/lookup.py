"""Looks up the documents that a row has over an edge when they are read, starting at its root or its members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from typing_extensions import assert_never

from boiler_beam.models import DomainModel
from boiler_beam.plan import Edge, Fixed, Group, PlannedEdge, PlannedView, Reference, Referrers, Root
from boiler_beam.steps.contributions import Contribution, links_of
from boiler_beam.steps.functions import FunctionRaised, known_references
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

    def first_documents(self, row_id: str) -> Iterable[str]:
        """The paths of the documents that a row has over an edge with a limit."""


class _Reader(NamedTuple):
    """How the rows of a view read one edge.

    Attributes:
        bits: `PlannedEdge.bits`.
        documents: The documents that a row has, by path.
        one: The document that a row has, of an edge to one document; else None.
        value: What getters read, where there is a faster way than through `documents`; else None.
    """

    bits: int
    documents: Callable[[RowDocuments], Documents]
    one: Callable[[RowDocuments], DomainModel | None] | None = None
    value: Callable[[RowDocuments], Any] | None = None


class RowLookup:
    """How the rows of a view read its edges.

    Args:
        planned: The view.
        joins: The joins of its edges.
        collection: The collection of its root's documents.
    """

    def __init__(self, planned: PlannedView, joins: Sequence[JoinedDocuments], collection: str) -> None:
        self._planned = planned
        self._prefix = "" if planned.view.paths.root is not None else f"{collection}/"
        self.readers: dict[str, _Reader] = {}
        for join in joins:  # parents first
            self.readers[join.edge.name] = self._reader(join)

    def _reader(self, join: JoinedDocuments) -> _Reader:
        edge, bits = join.edge, join.planned.bits
        if edge.limit is not None:
            return _Reader(bits, lambda row: _those(join, join.first_documents(row.row_id)))
        match edge:
            case Root():
                prefix, shown = self._prefix, _shown(join)
                return _of_one(join, lambda row: shown(prefix + row.row_id))
            case Fixed():
                path, shown = edge.path, _shown(join)
                return _of_one(join, lambda row: shown(path))
            case Group():
                return _Reader(bits, lambda row: _those(join, join.documents_at.get(row.row_id, ())))
            case Referrers():
                parent = edge.parent or ""

                def referring(row: RowDocuments) -> Documents:
                    return _those(join, (path for key in row(parent) for path in join.documents_at.get(key, ())))

                return _Reader(bits, referring)
            case Reference():
                above = self.readers[edge.parent or ""].one
                if above is None:
                    return _Reader(bits, _referred(edge, join))
                return _of_parent(edge, join, above)
            case _:
                assert_never(edge)


def _ignore(error: FunctionRaised) -> None:
    """What a property raises was reported when the document was joined."""


def _shown(join: JoinedDocuments) -> Callable[[str], DomainModel | None]:
    """The document at a path, where the edge shows it."""
    return join.versions.documents.get if join.planned.shows_all else join.shown


def _those(join: JoinedDocuments, paths: Iterable[str]) -> Documents:
    documents = join.versions.documents
    return {path: documents[path] for path in paths}


def _of_one(join: JoinedDocuments, one: Callable[[RowDocuments], DomainModel | None]) -> _Reader:
    """A reader of an edge to one document."""

    def documents(row: RowDocuments) -> Documents:
        document = one(row)
        return {} if document is None else {document.path: document}

    return _Reader(join.planned.bits, documents, one, one if join.edge.only is None else None)


def _referred(edge: Reference, join: JoinedDocuments) -> Callable[[RowDocuments], Documents]:
    """The documents that the documents over the parent edge refer to."""
    parent, shown, links = edge.parent or "", _shown(join), links_of(edge)

    def referred(row: RowDocuments) -> Documents:
        found: Documents = {}
        for document in row(parent).values():
            for path in links(document, _ignore):
                if (other := shown(path)) is not None:
                    found[path] = other
        return found

    return referred


def _of_parent(edge: Reference, join: JoinedDocuments, above: Callable[[RowDocuments], DomainModel | None]) -> _Reader:
    """A reader of the documents that a field of one document refers to, in the field's order."""
    shown, links = _shown(join), links_of(edge)
    is_map, is_by_id = edge.keyed_by == "map", edge.keyed_by == "doc_id"

    def one(row: RowDocuments) -> DomainModel | None:
        parent = above(row)
        if parent is not None:
            for path in links(parent, _ignore):
                return shown(path)
        return None

    def documents(row: RowDocuments) -> Documents:
        parent = above(row)
        if parent is None:
            return {}
        return {path: other for path in links(parent, _ignore) if (other := shown(path)) is not None}

    def many(row: RowDocuments) -> Any:
        parent = above(row)
        if parent is None:
            return {}
        if is_map:
            found = known_references(edge, parent)
            return {key: other for key, path in found if (other := shown(path)) is not None}
        if not is_by_id:
            return documents(row)
        paths = links(parent, _ignore)
        return {path[path.rfind("/") + 1 :]: other for path in paths if (other := shown(path)) is not None}

    if not edge.is_many:
        return _of_one(join, one)
    is_plain = edge.order is None and edge.only is None
    return _Reader(join.planned.bits, documents, None, many if is_plain else None)


class RowDocuments:
    """The documents that one row has over each edge.

    Attributes:
        row_id: The row.
        read: A bit mask of the positions of the edges that were read, and of those above them.
    """

    __slots__ = ("_known", "_readers", "read", "row_id")

    def __init__(self, row_id: str, lookup: RowLookup) -> None:
        self.row_id, self._readers = row_id, lookup.readers
        self._known: dict[str, Documents] = {}
        self.read = 0

    def __call__(self, name: str) -> Documents:
        """The documents over an edge, by path."""
        found = self._known.get(name)
        if found is None:
            reader = self._readers[name]
            self.read |= reader.bits
            found = self._known[name] = reader.documents(self)
        return found

    def has(self, name: str) -> bool:
        """Whether there is a document over an edge."""
        reader = self._readers[name]
        if reader.one is None:
            return bool(self(name))
        self.read |= reader.bits
        return reader.one(self) is not None

    def value(self, edge: Edge) -> Any:
        """What a getter reads of an edge."""
        reader = self._readers[edge.name]
        if reader.value is not None:
            self.read |= reader.bits
            return reader.value(self)
        return store_value(edge, self(edge.name), lambda: self(edge.parent) if edge.parent else {})
