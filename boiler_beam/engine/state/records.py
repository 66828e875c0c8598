"""The records of documents and rows in a log: a transaction appends those that changed; of each the last one counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.rows import ClaimedPath, RowRecord
from boiler_beam.steps.emission import Emitted, is_deleted
from boiler_beam.steps.newest import DocumentRecord

__all__ = ["Batch", "StoredRow", "decode_batch", "encode_batch", "snapshot", "without_deleted"]

_CHUNK = 5_000
"""Records of one batch of a snapshot."""


class StoredRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of a `RowRecord` that can't be computed from documents."""

    version: int
    emitted: dict[str, Emitted]
    failing: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, record: RowRecord) -> StoredRow:
        """What is stored of a row."""
        return cls(record.version, record.emitted, record.failing)

    def record(self) -> RowRecord:
        """The row without its documents."""
        record = RowRecord()
        record.version, record.emitted, record.failing = self.version, self.emitted, self.failing
        return record


class Batch(msgspec.Struct, array_like=True):
    """The records that a transaction changed.

    Attributes:
        documents: By the pattern of their collection, then by path.
        rows: By the view's name and incarnation (`MeetingSession#0`), then by row id.
        paths: By the same, then by row path; of views in which several rows may claim a path.
    """

    documents: dict[str, dict[str, DocumentRecord]] = {}
    rows: dict[str, dict[str, StoredRow]] = {}
    paths: dict[str, dict[str, ClaimedPath]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed."""
        return not any(self.kinds)

    @property
    def kinds(self) -> tuple[dict[str, dict[str, Any]], ...]:
        """The records of documents, rows and paths."""
        return self.documents, self.rows, self.paths

    @classmethod
    def of(cls, engine: IncrementalEngine, view_keys: Iterable[str]) -> Batch:
        """What changed in an engine since the last transaction."""
        batch = cls()
        for versions in engine.versions.types:
            if versions.changed:
                records = {path: versions.record(path) for path in versions.changed}
                batch.documents[versions.codec.pattern.text] = records
        for key, view in zip(view_keys, engine.views, strict=True):
            rows = view.rows
            if rows.changed:
                batch.rows[key] = {row_id: StoredRow.of(rows.records[row_id]) for row_id in rows.changed}
            if rows.changed_paths:
                batch.paths[key] = {path: rows.claimed[path] for path in rows.changed_paths}
        return batch

    def update(self, later: Batch) -> None:
        """Replaces records by those of a later transaction."""
        for known, added in zip(self.kinds, later.kinds, strict=True):
            for key, records in added.items():
                known.setdefault(key, {}).update(records)


encode_batch = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode

Records = Mapping[str, Iterable[tuple[str, Any]]]
"""Of each collection or view, the records, each with the key of its document, row or path."""


def snapshot(documents: Records, rows: Records, paths: Records) -> Iterator[Batch]:
    """All records once, in batches of a moderate size."""
    for name, kind in (("documents", documents), ("rows", rows), ("paths", paths)):
        for key, records in kind.items():
            left = iter(records)
            while some := dict(islice(left, _CHUNK)):
                yield Batch(**{name: {key: some}})


def without_deleted(record: Any, horizon: int) -> Any:
    """A record without what was deleted before a time (S3); None where nothing is left of it."""
    if isinstance(record, DocumentRecord):
        is_old = record.is_deletion and record.invalid is None and record.version < horizon
        return None if is_old else record
    if isinstance(record, ClaimedPath):
        is_old = record.emitted is None or (is_deleted(record.emitted) and record.emitted.version < horizon)
        return None if is_old and not record.fields else record
    emitted = {path: one for path, one in record.emitted.items() if not is_deleted(one) or one.version >= horizon}
    if not emitted and record.version < horizon:
        return None
    return record if len(emitted) == len(record.emitted) else msgspec.structs.replace(record, emitted=emitted)
