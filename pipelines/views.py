"""Imports the view classes of `--views package.module[:Class,...]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from boiler_beam.program.loading import load_views as load
from boiler_beam.views import ViewModel

__all__ = ["load_views"]


def load_views(names: Iterable[str]) -> list[type[ViewModel]]:
    """Imports classes; the working folder is searched first. A module without names means all views that it defines.

    Raises:
        UsageError: A module or class does not exist, or can't be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return load(names)
