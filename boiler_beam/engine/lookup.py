"""What a row has over each edge, looked up where somebody asks: from the row's own documents on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import assert_never

from boiler_beam.models import DomainModel
from boiler_beam.plan import Edge, Fixed, Group, PlannedView, Reference, Referrers, Root
from boiler_beam.steps.functions import known_references
from boiler_beam.steps.row import store_value

if TYPE_CHECKING:
    from boiler_beam.engine.joins import EdgeJoin

__all__ = ["RowDocuments", "RowLookup"]

Documents = dict[str, DomainModel]


class _Reader(NamedTuple):
    """How the rows of a view read one edge.

    Attributes:
        bits: The edge and those above it, as bits by their positions.
        documents: The documents that a row has, by path.
        value: What getters read, where that is faster than to make it of `documents`; else None.
    """

    bits: int
    documents: Callable[[RowDocuments], Documents]
    value: Callable[[RowDocuments], Any] | None


class RowLookup:
    """How the rows of a view read its edges.

    Args:
        planned: The view.
        joins: The joins of its edges.
        collection: The collection of its root's documents.
    """

    def __init__(self, planned: PlannedView, joins: Sequence[EdgeJoin], collection: str) -> None:
        self._planned = planned
        self._prefix = "" if planned.view.paths.root is not None else f"{collection}/"
        self.readers = {join.edge.name: self._reader(join) for join in joins}

    def _reader(self, join: EdgeJoin) -> _Reader:
        edge, bits = join.edge, join.planned.bits
        value = self._value(join)
        if edge.limit is not None:
            return _Reader(bits, lambda row: _those(join, join.first_of(row.row_id)), value)
        match edge:
            case Root():
                prefix = self._prefix

                def own(row: RowDocuments) -> Documents:
                    document = join.shown(prefix + row.row_id)
                    return {} if document is None else {document.path: document}

                return _Reader(bits, own, value)
            case Group():
                return _Reader(bits, lambda row: _those(join, join.documents_at.get(row.row_id, ())), value)
            case Reference():
                return _Reader(bits, _referred(edge, join), value)
            case Referrers():
                parent = edge.parent or ""

                def referring(row: RowDocuments) -> Documents:
                    return _those(join, (path for key in row(parent) for path in join.documents_at.get(key, ())))

                return _Reader(bits, referring, value)
            case Fixed():
                path = edge.path

                def fixed(row: RowDocuments) -> Documents:
                    document = join.shown(path)
                    return {} if document is None else {path: document}

                return _Reader(bits, fixed, value)
            case _:
                assert_never(edge)

    def _value(self, join: EdgeJoin) -> Callable[[RowDocuments], Any] | None:
        """What a getter reads of the documents that a field of one document refers to, in its order."""
        edge, parent = join.edge, join.planned.parent
        is_plain = edge.limit is None and edge.order is None and edge.only is None
        if isinstance(edge, Root) and edge.only is None:
            prefix = self._prefix
            return lambda row: join.shown(prefix + row.row_id)
        if not (isinstance(edge, Reference) and is_plain and parent is not None and not parent.edge.is_many):
            return None
        above, shown = parent.edge.name, join.shown
        is_map, is_by_id, reference = edge.keyed_by == "map", edge.keyed_by == "doc_id", edge

        def one(row: RowDocuments) -> Any:
            for document in row(above).values():
                for _, path in known_references(reference, document):
                    return shown(path)
            return None

        def many(row: RowDocuments) -> Any:
            found: dict[str | None, DomainModel] = {}
            for document in row(above).values():
                for key, path in known_references(reference, document):
                    if (other := shown(path)) is not None:
                        found[key if is_map else path[path.rfind("/") + 1 :] if is_by_id else path] = other
            return found

        return many if edge.is_many else one


def _those(join: EdgeJoin, paths: Iterable[str]) -> Documents:
    documents = join.versions.documents
    return {path: documents[path] for path in paths}


def _referred(edge: Reference, join: EdgeJoin) -> Callable[[RowDocuments], Documents]:
    parent, shown = edge.parent or "", join.shown

    def referred(row: RowDocuments) -> Documents:
        found: Documents = {}
        for document in row(parent).values():
            for _, path in known_references(edge, document):
                if (other := shown(path)) is not None:
                    found[path] = other
        return found

    return referred


class RowDocuments:
    """What one row has over each edge.

    Attributes:
        row_id: The row.
        read: The edges that were asked for, as bits by their positions.
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

    def value(self, edge: Edge) -> Any:
        """What a getter reads of an edge."""
        reader = self._readers[edge.name]
        if reader.value is not None:
            self.read |= reader.bits
            return reader.value(self)
        return store_value(edge, self(edge.name), lambda: self(edge.parent) if edge.parent else {})
