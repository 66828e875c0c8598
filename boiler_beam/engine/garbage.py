"""Python's search for cyclic garbage, tamed: documents hold no cycles, and looking for some among millions is slow."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["rare_garbage_collection", "without_garbage_collection"]

_RARELY = (50_000, 20, 100)
"""A stream runs for ever, and users' getters may make cycles: the search goes on, 70 times as rarely."""


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For what ends: a third of a backfill's time would be the search."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """For what goes on for ever: a sixth of a stream's time would be the search."""
    before = gc.get_threshold()
    gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
