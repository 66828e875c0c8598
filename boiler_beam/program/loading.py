"""From classes, or their names as `package.module[:Class,...]`, to a plan."""

from __future__ import annotations

import importlib
import logging
import os
import traceback
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TypeVar

from boiler_beam.connectors.base import Source
from boiler_beam.connectors.registry import database_of
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.plan.impure import warnings_of
from boiler_beam.views import ViewModel

__all__ = ["Views", "load_classes", "load_views", "plan_of"]

T = TypeVar("T")

Views = type[ViewModel] | str | Plan | Sequence[type[ViewModel] | str]
"""View classes, names of them (`package.module:Class`, or a module for all that it defines), or a compiled plan."""

_log = logging.getLogger("boiler_beam")

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def plan_of(
    views: Views,
    sources: Iterable[Source] = (),
    *,
    project: str | None = None,
    database: str | None = None,
    is_logged: bool = False,
) -> Plan:
    """Compiles the plan of some views over the documents of some sources.

    Args:
        views: The views; a plan is returned as it is.
        sources: References into the first database that one of them names are local.
        project: The project of that database, if no source names one; None: any.
        database: The name of that database, if no source names one; None: `(default)`.
        is_logged: Whether getters and functions that read a clock, random numbers or the environment are logged.

    Raises:
        UsageError: A name is not one of a view.
        DeclarationError: The classes can't be compiled.
    """
    if isinstance(views, Plan):
        return views
    given = [views] if isinstance(views, (str, type)) else views
    classes = [view for one in given for view in (load_views([one]) if isinstance(one, str) else [one])]
    plan = compile_plan(list(dict.fromkeys(classes)), database_of(sources, project, database))
    for warning in warnings_of(plan) if is_logged else ():
        _log.warning("%s", warning)
    return plan


def load_views(names: Iterable[str]) -> list[type[ViewModel]]:
    """Imports classes. A module without names means all views that it defines.

    Args:
        names: `package.module` or `package.module:Class,...`, as Python imports them.

    Raises:
        UsageError: A module or class does not exist, or can't be imported.
    """
    return load_classes(names, ViewModel, "views", "view models")


def load_classes(names: Iterable[str], kind: type[T], option: str, word: str) -> list[type[T]]:
    """Imports classes of one kind. A module without names means all of them that it defines.

    Args:
        names: `package.module` or `package.module:Class,...`, as Python imports them.
        kind: Their base.
        option: The option of the command line that names them, for messages.
        word: What they are called, for messages.

    Raises:
        UsageError: A module or class does not exist, or can't be imported.
    """
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
        raise UsageError(
            f"{name}: expected package.module[:Class,...], got {module_name or 'no module'}; "
            "fix: write it as Python imports it, without .py and with points for slashes"
        )
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
        where = f"{error.filename}:{error.lineno}"
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        own = [
            frame for frame in frames if not frame.filename.startswith(_PACKAGE)
        ]  # where the user's code called ours
        where = "{0.filename}:{0.lineno}".format((own or frames)[-1])
    return UsageError(
        f"{name}: expected a module that can be imported, got {type(error).__name__}: {error}; fix: correct {where}"
    )
