"""Describes an exception of a user's code, with file, line and source line, for messages.

>>> def half(number):
...     return 1 / number
>>> try:
...     half(0)
... except ZeroDivisionError as error:
...     print(raised(error))  # doctest: +ELLIPSIS
ZeroDivisionError: division by zero (<doctest boiler_beam.raised[0]>:2: return 1 / number)
"""

from __future__ import annotations

import functools
import linecache
import os
import sysconfig
import traceback
from collections.abc import Collection
from types import TracebackType
from typing import Any

__all__ = ["is_of_user", "place", "raised", "shown_place"]

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SAMPLES = os.path.join(_OURS, "samples", "")
_LONGEST_LINE = 160


def raised(error: BaseException, function: Any = None) -> str:
    """Describes an exception: its type and text, and the last line of the user's code that ran.

    Args:
        error: The exception.
        function: The user's function that was called. If the traceback contains none of the user's code, because the
            returned value was refused later, the message names the function's definition.
    """
    try:
        text = str(error)
    except Exception:  # the user's exception class may raise in __str__
        text = ""
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return what + place(error, function)


def place(error: BaseException, function: Any = None) -> str:
    """Returns file, line and source line for `raised`, ` (views.py:2: return 1 / number)`, or empty text."""
    found = _last_line(error.__traceback__) or _definition(function)
    return "" if found is None else f" ({shown_place(*found)})"


def _last_line(begin: TracebackType | None) -> tuple[str, int] | None:
    """Returns file and line of the last frame of the user's code; frames of libraries that it called are skipped."""
    package, found = None, None
    for frame, line in traceback.walk_tb(begin):
        file = os.path.abspath(frame.f_code.co_filename)
        if not _may_be_users(file):
            continue
        is_installed = file.startswith(_libraries()[1])
        name = frame.f_globals.get("__name__", "").partition(".")[0]
        package = (
            package or name
        )  # the package that boiler_beam called: on a worker the user's package is installed like a library
        if not is_installed or name == package:
            found = frame.f_code.co_filename, line
    return found


def is_of_user(file: str, module: str, packages: Collection[str]) -> bool:
    """Returns whether code is the user's: not boiler_beam's, not Python's, and not of another installed package."""
    path = os.path.abspath(file)
    return _may_be_users(path) and (not path.startswith(_libraries()[1]) or module.partition(".")[0] in packages)


def _may_be_users(file: str) -> bool:
    """Returns whether a file belongs neither to boiler_beam nor to Python."""
    if file.startswith(_OURS):
        return file.startswith(_SAMPLES)
    python, installed = _libraries()
    return file.startswith(installed) or not file.startswith(python)


@functools.cache
def _libraries() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the folders of Python's own modules, and those of installed packages."""
    paths = sysconfig.get_paths()

    def folders(*names: str) -> tuple[str, ...]:
        return tuple({os.path.join(os.path.abspath(paths[name]), "") for name in names})

    return folders("stdlib", "platstdlib"), folders("purelib", "platlib")


def _definition(function: Any) -> tuple[str, int] | None:
    code = getattr(function, "__code__", None)
    if code is None or not _may_be_users(os.path.abspath(code.co_filename)):
        return None
    line: int = code.co_firstlineno
    while linecache.getline(code.co_filename, line).lstrip().startswith("@"):
        line += 1
    return code.co_filename, line


def shown_place(file: str, line: int) -> str:
    """Returns `views.py:17: return 1 / 0`; the file is relative to the working folder if it is below it."""
    text = linecache.getline(file, line).strip()
    cut = text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 3]}..."
    here = os.path.join(os.getcwd(), "")
    shown = file.removeprefix(here) if os.path.isabs(file) else file
    return f"{shown}:{line}: {cut}" if cut else f"{shown}:{line}"
