"""Imports the view classes of `--views package.module[:Class,...]`."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from types import ModuleType

from boiler_beam.connectors import database_of, open_source
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.views import ViewModel

__all__ = ["load_views", "plan_of"]


def plan_of(
    views: Sequence[type[ViewModel]], sources: Iterable[str], project: str | None = None, database: str | None = None
) -> Plan:
    """Compiles the plan of some views over the documents of some sources.

    Args:
        views: The classes.
        sources: URIs; references into the first database that one of them names are local.
        project: The project of that database, if no source names one; None: any.
        database: The name of that database, if no source names one; None: `(default)`.

    Raises:
        UsageError: A URI is malformed, or its scheme is not one of a source.
        DeclarationError: The classes can't be compiled.
    """
    return compile_plan(views, database_of(map(open_source, sources), project, database))


def load_views(names: Iterable[str]) -> list[type[ViewModel]]:
    """Imports classes; the working folder is searched first. A module without names means all views that it defines.

    Raises:
        UsageError: A module or class does not exist, or can't be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: list[type[ViewModel]] = []
    for name in names:
        found += _views_of(name)
    return list(dict.fromkeys(found))


def _views_of(name: str) -> list[type[ViewModel]]:
    module_name, _, classes = name.partition(":")
    module = _imported(name, module_name)
    defined = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, ViewModel) and value.__module__ == module.__name__
    }
    if not classes:
        if not defined:
            raise UsageError(f"--views {name}: expected view models defined in it, got none; fix: name another module")
        return list(defined.values())
    views = []
    for wanted in classes.split(","):
        view = getattr(module, wanted, None)
        if not (isinstance(view, type) and issubclass(view, ViewModel)):
            known = ", ".join(defined) or "none"
            raise UsageError(f"--views {name}: expected view models, got {wanted!r}; fix: the module defines {known}")
        views.append(view)
    return views


def _imported(name: str, module_name: str) -> ModuleType:
    if not module_name or module_name.endswith(".py") or "/" in module_name:
        raise UsageError(f"--views {name}: expected package.module[:Class,...]; fix: write it as Python imports it")
    try:
        return importlib.import_module(module_name)
    except BoilerBeamError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UsageError(
                f"--views {name}: expected a module in {os.getcwd()}, on PYTHONPATH or installed, got no {error.name}; "
                "fix: check the name, or set PYTHONPATH"
            ) from None
        raise _refused(name, error) from error
    except Exception as error:  # any error of the user's module is reported with file and line
        raise _refused(name, error) from error


def _refused(name: str, error: Exception) -> UsageError:
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
    return UsageError(
        f"--views {name}: expected a module that can be imported, got {type(error).__name__}: {error}; fix: {place}"
    )
