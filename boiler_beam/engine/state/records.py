"""The records of documents and rows in a log: a transaction appends those that changed; of each the last one counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.rows import RowRecord
from boiler_beam.steps.claims import ClaimedPath
from boiler_beam.steps.emission import Emitted, is_deleted
from boiler_beam.steps.newest import DocumentRecord, DocumentVersions

__all__ = ["Batch", "StoredRow", "decode_batch", "encode_batch", "records_of", "snapshot", "without_deleted"]

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
    def kinds(self) -> tuple[dict[str, dict[str, Any]], ...]:
        """The records of documents, rows and paths."""
        return self.documents, self.rows, self.paths

    @classmethod
    def of(cls, records: Records) -> Batch:
        """The batch of some records."""
        return cls(*({key: found for key, some in kind.items() if (found := dict(some))} for kind in records))

    def update(self, later: Batch) -> None:
        """Replaces records by those of a later transaction."""
        for known, added in zip(self.kinds, later.kinds, strict=True):
            for key, records in added.items():
                known.setdefault(key, {}).update(records)


encode_batch = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode

Records = Sequence[Mapping[str, Iterable[tuple[str, Any]]]]
"""As in a `Batch`, documents, rows and paths: of each collection or view, the records by key."""


def records_of(engine: IncrementalEngine, view_keys: Iterable[str], *, only_changed: bool) -> Records:
    """The records of an engine: all, or those that changed since the last transaction."""
    documents: dict[str, Iterable[tuple[str, Any]]] = {}
    rows, claims = documents.copy(), documents.copy()
    for versions in engine.versions.types:
        paths = versions.changed if only_changed else _paths_of(versions)
        documents[versions.codec.pattern.text] = zip(paths, map(versions.record, paths), strict=True)
    for key, view in zip(view_keys, engine.views, strict=True):
        records, claimed = view.rows.records, view.rows.claimed
        row_ids = view.rows.changed if only_changed else records
        rows[key] = zip(row_ids, map(StoredRow.of, map(records.__getitem__, row_ids)), strict=True)
        paths = view.rows.changed_paths if only_changed else claimed
        claims[key] = zip(paths, map(claimed.__getitem__, paths), strict=True)
    return documents, rows, claims


def _paths_of(versions: DocumentVersions) -> dict[str, None]:
    """The paths of all documents of which something is kept."""
    paths = dict.fromkeys(versions.documents)
    for kept in (versions.deleted, versions.invalid, versions.refused):
        paths.update(dict.fromkeys(kept))
    return paths


def snapshot(records: Records) -> Iterator[Batch]:
    """All records once, in batches of a moderate size."""
    for name, kind in zip(Batch.__struct_fields__, records, strict=True):
        for key, some in kind.items():
            left = iter(some)
            while chunk := dict(islice(left, _CHUNK)):
                yield Batch(**{name: {key: chunk}})


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
