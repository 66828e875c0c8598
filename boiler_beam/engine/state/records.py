"""What a state keeps of documents and rows: a batch of records for each transaction; of each the last one counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.rows import ClaimedPath, RowRecord, ViewRows
from boiler_beam.steps.emission import Emitted, is_deleted
from boiler_beam.steps.newest import DocumentVersions, Known

__all__ = ["Batch", "PathRecord", "StoredDocument", "StoredRow", "decode_batch", "encode_batch", "snapshot"]
__all__ += ["without_deleted"]

_CHUNK = 5_000
"""Records of one batch of a snapshot."""


class StoredDocument(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that is known of one document; see `boiler_beam.steps.newest.Known`."""

    path: str
    version: int
    fields: bytes
    invalid: tuple[int, bytes] | None = None
    refused: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, path: str, versions: DocumentVersions) -> StoredDocument:
        """What is known of a document now."""
        return cls(path, *versions.known(path))

    @property
    def known(self) -> Known:
        """The same, as it is kept in memory."""
        return Known(self.version, self.fields, self.invalid, self.refused)


class StoredRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a restarted program must know of a row; see `boiler_beam.engine.rows.RowRecord`."""

    row_id: str
    version: int
    emitted: dict[str, Emitted]
    failing: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, row_id: str, rows: ViewRows) -> StoredRow:
        """What is known of a row now."""
        one = rows.records[row_id]
        return cls(row_id, one.version, one.emitted, one.failing)

    def restore(self, rows: ViewRows) -> None:
        """Brings it into memory."""
        record = rows.records[self.row_id] = RowRecord()
        record.version, record.emitted = self.version, self.emitted
        record.failing = self.failing


class PathRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a path that several rows may want; see `boiler_beam.engine.rows.ClaimedPath`."""

    path: str
    emitted: Emitted | None
    fields: dict[str, bytes]

    @classmethod
    def of(cls, path: str, rows: ViewRows) -> PathRecord:
        """What is known of a path now."""
        one = rows.claimed[path]
        return cls(path, one.emitted, one.fields)

    def restore(self, rows: ViewRows) -> None:
        """Brings it into memory."""
        claim = rows.claimed[self.path] = ClaimedPath()
        claim.emitted, claim.fields = self.emitted, self.fields


class Batch(msgspec.Struct, array_like=True):
    """What a transaction changed.

    Attributes:
        documents: By the pattern of their collection.
        rows, paths: By the name and incarnation of their view.
    """

    documents: dict[str, list[StoredDocument]] = {}
    rows: dict[str, list[StoredRow]] = {}
    paths: dict[str, list[PathRecord]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing."""
        return not (self.documents or self.rows or self.paths)

    @classmethod
    def of(cls, engine: IncrementalEngine, view_keys: Iterable[str]) -> Batch:
        """What changed in an engine since the last transaction.

        Args:
            engine: The engine.
            view_keys: Under which name each view's records go, in the plan's order.
        """
        batch = cls()
        for versions in engine.versions.types:
            if versions.changed:
                pattern = versions.codec.pattern.text
                batch.documents[pattern] = [StoredDocument.of(path, versions) for path in versions.changed]
        for key, view in zip(view_keys, engine.views, strict=True):
            if view.rows.changed:
                batch.rows[key] = [StoredRow.of(row_id, view.rows) for row_id in view.rows.changed]
            if view.rows.changed_paths:
                batch.paths[key] = [PathRecord.of(path, view.rows) for path in view.rows.changed_paths]
        return batch


encode_batch = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode


def snapshot(
    documents: Mapping[str, Iterable[StoredDocument]],
    rows: Mapping[str, Iterable[StoredRow]],
    paths: Mapping[str, Iterable[PathRecord]],
) -> Iterator[Batch]:
    """All records once, in batches of a moderate size."""
    kinds: Mapping[str, Mapping[str, Iterable[Any]]] = {"documents": documents, "rows": rows, "paths": paths}
    for attribute, of_kind in kinds.items():
        for key, records in of_kind.items():
            some: list[Any] = []
            for record in records:
                some.append(record)
                if len(some) == _CHUNK:
                    yield Batch(**{attribute: {key: some}})
                    some = []
            if some:
                yield Batch(**{attribute: {key: some}})


def without_deleted(record: Any, horizon: int) -> Any:
    """What is left of a record without what was deleted before a time (S3); None where that is nothing."""
    if isinstance(record, StoredDocument):
        is_old = record.fields == b"null" and record.invalid is None and record.version < horizon
        return None if is_old else record
    if isinstance(record, PathRecord):
        is_old = record.emitted is None or (is_deleted(record.emitted) and record.emitted.version < horizon)
        return None if is_old and not record.fields else record
    emitted = {path: one for path, one in record.emitted.items() if not is_deleted(one) or one.version >= horizon}
    if not emitted and record.version < horizon:
        return None
    return record if len(emitted) == len(record.emitted) else msgspec.structs.replace(record, emitted=emitted)
