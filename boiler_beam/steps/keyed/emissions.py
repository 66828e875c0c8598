"""What is emitted of a row: the copies that changed, and deletions of those that are no longer there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from boiler_beam.plan.rowpath import RowPath
from boiler_beam.steps.emission import Emitted, emit, uncertain
from boiler_beam.steps.row import Copy

__all__ = ["EPOCH", "emissions", "is_deleted"]

EPOCH = 0
"""A stream on Beam begins a new generation instead of an epoch (S13)."""


def is_deleted(last: Emitted) -> bool:
    """Whether the sink holds nothing there."""
    return last.digest is None and last.is_certain


def emissions(
    emitted: dict[str, Emitted], paths: RowPath, copies: Sequence[Copy], version: int, now: int | None
) -> Iterator[tuple[str, Emitted, bytes | None]]:
    """The emissions that a row needs: path, stamp, and fields or None of a deletion.

    Args:
        emitted: What was emitted last for each path of the row; it is brought up to date.
        paths: The view's row paths.
        copies: The row's copies. Where one is unknown, what the sink holds at its path stays (S6).
        version: The row's version.
        now: The time in microseconds, or None, as `emit` takes it.
    """
    unknown = {path for path, fields, _ in copies if fields is None}
    for path in unknown - emitted.keys():
        emitted[path] = uncertain(None)
    current = {path: fields for path, fields, _ in copies if fields is not None}
    removed: dict[str, None] = {}
    for path in [path for path in emitted if path not in current and path not in unknown]:
        if Copy(path, None).is_mask:  # it stood for copies that were unknown
            del emitted[path]
        elif paths.mask_of(path) not in unknown:
            removed[path] = None
    for path, fields in (current | removed).items():
        new = emit(emitted.get(path), version, fields, EPOCH, now)
        if new is not None:
            emitted[path] = new
            yield path, new, fields
