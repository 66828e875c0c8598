"""Decides what is written at a row path: only what the sink does not hold already (S9, S13, S14).

>>> first = emit(None, 7, b"{}", epoch=1)
>>> first.version, first.seq, emit(first, 9, b"{}", epoch=1), emit(first, 9, b"{}", epoch=2).seq
(7, 7, None, 9)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from boiler_beam.plan.rowpath import RowPath
from boiler_beam.steps.row import Copy

__all__ = ["Emitted", "digest_of_fields", "emissions", "emit", "is_deleted", "is_in_sink", "uncertain"]


class Emitted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last emission at a row path.

    Attributes:
        version, seq: Those of its stamp.
        digest: The digest of its fields; None for a deletion.
        epoch: The epoch in which it was written; in a later one the sink may hold something else (S13, S14).
        is_new: Whether the path held no row of that epoch before.
        is_certain: False if the sink may hold something else: it refused the row (S14), or a backfill saw it (S16).
    """

    version: int
    seq: int
    digest: bytes | None
    epoch: int
    is_new: bool = False
    is_certain: bool = True


def digest_of_fields(fields: bytes) -> bytes:
    """A hash of a row's fields, by which emissions are compared."""
    return hashlib.blake2b(fields, digest_size=16).digest()


def emit(
    last: Emitted | None, version: int, fields: bytes | None, epoch: int, now: int | None = None
) -> Emitted | None:
    """Decides whether a row is written at a path, and under which stamp; None if the sink holds these fields already.

    Args:
        last: The last emission at the path; None if there was none.
        version: The row's version in microseconds.
        fields: The fields to write; None deletes the row.
        epoch: The current epoch.
        now: The time in microseconds, if a rollback may have lost the record of the last emission (S15): then the row
            is always written, and its sequence number is at least the time. Otherwise None.
    """
    digest = None if fields is None else digest_of_fields(fields)
    if last is None:
        return None if fields is None else Emitted(version, max(version, now or 0), digest, epoch, True)
    if now is None and last.is_certain and last.epoch == epoch and last.digest == digest:
        return None
    seq = max(version, last.seq + 1, now or 0)
    return Emitted(max(version, last.version), seq, digest, epoch, not is_in_sink(last, epoch))


def uncertain(last: Emitted | None, *, is_refused: bool = False) -> Emitted:
    """Marks what was written last as uncertain: the sink may hold something else (S14, S16).

    Args:
        last: What was written last.
        is_refused: Whether the sink refused it: where the path held no row before, it holds none now.
    """
    if last is None:
        return Emitted(0, 0, None, 0, is_certain=False)
    digest = None if is_refused and last.is_new else last.digest
    return msgspec.structs.replace(last, digest=digest, is_new=False, is_certain=False)


def is_in_sink(last: Emitted | None, epoch: int) -> bool:
    """Whether the sink holds a row of this epoch, as far as is known."""
    return last is not None and last.digest is not None and (last.epoch == epoch or not last.is_certain)


def is_deleted(last: Emitted) -> bool:
    """Whether the last write was a deletion, which the sink accepted."""
    return last.digest is None and last.is_certain


def emissions(
    emitted: dict[str, Emitted],
    paths: RowPath,
    copies: Sequence[Copy],
    version: int,
    epoch: int,
    now: int | None = None,
) -> Iterator[tuple[str, Emitted | None, Emitted, bytes | None]]:
    """Yields the emissions of a row: path, last emission, new emission, and the fields (None: the row is deleted).

    Args:
        emitted: The last emission at each path of the row; it is updated.
        paths: The view's row paths.
        copies: The row's copies. Where one is unknown, what the sink holds at its path stays (S6).
        version: The row's version.
        epoch: The current epoch.
        now: The time in microseconds, or None, as `emit` takes it.
    """
    if len(copies) == 1 and copies[0].fields is not None and emitted.keys() <= {copies[0].path}:  # as most rows are
        path, fields, _ = copies[0]
        last = emitted.get(path)
        if (new := emit(last, version, fields, epoch, now)) is not None:
            emitted[path] = new
            yield path, last, new, fields
        return
    unknown = {path for path, fields, _ in copies if fields is None}
    for path in unknown - emitted.keys():
        emitted[path] = uncertain(None)
    current = {path: fields for path, fields, _ in copies if fields is not None}
    removed: dict[str, None] = {}
    for path in [path for path in emitted if path not in current and path not in unknown]:
        if Copy(path, None).is_wildcard:  # it represented unknown copies
            del emitted[path]
        elif paths.wildcard_of(path) not in unknown:
            removed[path] = None
    for path, fields in (current | removed).items():
        last = emitted.get(path)
        new = emit(last, version, fields, epoch, now)
        if new is not None:
            emitted[path] = new
            yield path, last, new, fields
