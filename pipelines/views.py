"""Imports the classes of `--views package.module[:Class,...]` and `--forms`; the working folder is searched first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from boiler_beam.program.loading import load_classes
from boiler_beam.program.loading import load_views as load
from boiler_beam.views import ViewModel
from boiler_beam.writing import Form

__all__ = ["load_forms", "load_views"]


def load_views(names: Iterable[str]) -> list[type[ViewModel]]:
    """Imports view classes. A module without names means all views that it defines.

    Raises:
        UsageError: A module or class does not exist, or can't be imported.
    """
    _search_here()
    return load(names)


def load_forms(names: Iterable[str]) -> list[type[Form]]:
    """Imports form classes, as `load_views` does.

    Raises:
        UsageError: A module or class does not exist, or can't be imported.
    """
    _search_here()
    return load_classes(names, Form, "forms", "forms")


def _search_here() -> None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
