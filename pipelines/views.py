"""Imports the classes of `--views package.module[:Class,...]` and `--forms`."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TypeVar

from boiler_beam.connectors import database_of, open_source
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.views import ViewModel
from boiler_beam.writing import Form

__all__ = ["load_forms", "load_views", "plan_of"]

T = TypeVar("T")


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
    """Imports view classes; the working folder is searched first. A module without names means all that it defines.

    Raises:
        UsageError: A module or class does not exist, or can't be imported.
    """
    return _loaded(names, ViewModel, "views", "view models")


def load_forms(names: Iterable[str]) -> list[type[Form]]:
    """Imports form classes, as `load_views` does.

    Raises:
        UsageError: A module or class does not exist, or can't be imported.
    """
    return _loaded(names, Form, "forms", "forms")


def _loaded(names: Iterable[str], kind: type[T], option: str, word: str) -> list[type[T]]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: list[type[T]] = []
    for name in names:
        found += _classes_of(name, kind, option, word)
    return list(dict.fromkeys(found))


def _classes_of(name: str, kind: type[T], option: str, word: str) -> list[type[T]]:
    module_name, _, classes = name.partition(":")
    module = _imported(f"--{option} {name}", module_name)
    defined = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, kind) and value.__module__ == module.__name__
    }
    if not classes:
        if not defined:
            raise UsageError(f"--{option} {name}: expected {word} defined in it, got none; fix: name another module")
        return list(defined.values())
    found = []
    for wanted in classes.split(","):
        one = getattr(module, wanted, None)
        if not (isinstance(one, type) and issubclass(one, kind)):
            known = ", ".join(defined) or "none"
            raise UsageError(f"--{option} {name}: expected {word}, got {wanted!r}; fix: the module defines {known}")
        found.append(one)
    return found


def _imported(name: str, module_name: str) -> ModuleType:
    if not module_name or module_name.endswith(".py") or "/" in module_name:
        raise UsageError(f"{name}: expected package.module[:Class,...]; fix: write it as Python imports it")
    try:
        return importlib.import_module(module_name)
    except BoilerBeamError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UsageError(
                f"{name}: expected a module in {os.getcwd()}, on PYTHONPATH or installed, got no {error.name}; "
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
        f"{name}: expected a module that can be imported, got {type(error).__name__}: {error}; fix: {place}"
    )
