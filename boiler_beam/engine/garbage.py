"""Limits Python's search for cyclic garbage: documents have no cycles, and searching millions of them is slow."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ["rare_garbage_collection", "without_garbage_collection"]

_RARELY = (50_000, 20, 100)
"""A stream runs for ever, and users' getters may make cycles: the search continues, 70 times as rarely."""


@contextmanager
def _collecting(*thresholds: int) -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*thresholds)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def without_garbage_collection() -> AbstractContextManager[None]:
    """For backfills, of whose time the search would take a third."""
    return _collecting(0)


def rare_garbage_collection() -> AbstractContextManager[None]:
    """For streams, of whose time the search would take a sixth."""
    return _collecting(*_RARELY)
