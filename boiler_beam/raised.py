"""What a user's code raised, and where: every message about it says file, line and source line.

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
    """What was raised, for a message: the exception, and the last line of the user's code that ran.

    Args:
        error: What was caught in boiler_beam.
        function: What was called. Where none of the user's code is in the traceback, because what it gave was refused
            later, its definition is named instead.
    """
    try:
        text = str(error)
    except Exception:  # an exception class of the user's whose text can't be made
        text = ""
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return what + place(error, function)


def place(error: BaseException, function: Any = None) -> str:
    """File, line and source line of what `raised` names, ` (views.py:2: return 1 / number)`, or nothing."""
    found = _last_line(error.__traceback__) or _definition(function)
    return "" if found is None else f" ({shown_place(*found)})"


def _last_line(begin: TracebackType | None) -> tuple[str, int] | None:
    """File and line of the last frame that is the user's: libraries that were called from there are passed over."""
    package, found = None, None
    for frame, line in traceback.walk_tb(begin):
        file = os.path.abspath(frame.f_code.co_filename)
        if not _may_be_users(file):
            continue
        is_installed = file.startswith(_libraries()[1])
        name = frame.f_globals.get("__name__", "").partition(".")[0]
        package = package or name  # what boiler_beam called: on a worker the user's package is an installed one
        if not is_installed or name == package:
            found = frame.f_code.co_filename, line
    return found


def is_of_user(file: str, module: str, packages: Collection[str]) -> bool:
    """Whether code is the user's: neither boiler_beam's nor Python's, and of an installed package only one of these."""
    path = os.path.abspath(file)
    return _may_be_users(path) and (not path.startswith(_libraries()[1]) or module.partition(".")[0] in packages)


def _may_be_users(file: str) -> bool:
    """Whether a file is neither boiler_beam's nor Python's own."""
    if file.startswith(_OURS):
        return file.startswith(_SAMPLES)
    python, installed = _libraries()
    return file.startswith(installed) or not file.startswith(python)


@functools.cache
def _libraries() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where Python's own modules are, and where installed packages are."""
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
    """`views.py:17: return 1 / 0`; the file as seen from the working folder where it lies there."""
    text = linecache.getline(file, line).strip()
    cut = text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 3]}..."
    here = os.path.join(os.getcwd(), "")
    shown = file.removeprefix(here) if os.path.isabs(file) else file
    return f"{shown}:{line}: {cut}" if cut else f"{shown}:{line}"
