"""`boiler-beam doctor`: what is installed, what is configured and where, and whether it can be used."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from boiler_beam.connectors import open_sink
from boiler_beam.errors import BoilerBeamError, DeclarationError
from boiler_beam.plan import compile_plan
from pipelines.options import KEYS, configuration
from pipelines.views import load_views

__all__ = ["examine"]

_EXTRAS = {"beam": "apache_beam", "parquet": "pyarrow"}


def examine() -> Iterator[tuple[bool, str]]:
    """What was looked at: whether it is well, and a line that says what was found."""
    yield True, f"Python {platform.python_version()}"
    for extra, module in _EXTRAS.items():
        installed = "installed" if find_spec(module) else f"not installed (pip install 'boiler_beam[{extra}]')"
        yield True, f"{extra}: {installed}"
    table = configuration()
    for key in KEYS:
        variable = f"BOILER_BEAM_{key.upper()}"
        value = os.environ.get(variable) or table.get(key)
        place = variable if os.environ.get(variable) else "pyproject.toml"
        if value is None:
            yield True, f"{key}: not set"
        else:
            names = value.split() if isinstance(value, str) else value
            yield _tried(f"{key}: {' '.join(names)} ({place})", _CHECKS.get(key), names)


def _tried(line: str, look: Callable[[list[str]], str] | None, names: list[str]) -> tuple[bool, str]:
    try:
        found = look(names) if look is not None else "not used by this version"
    except (BoilerBeamError, DeclarationError) as error:
        return False, f"{line}: {error}"
    return True, f"{line}: {found}"


def _views(names: list[str]) -> str:
    plan = compile_plan(load_views(names))
    return f"{', '.join(view.name for view in plan.views)} compile"


def _sink(names: list[str]) -> str:
    controls = open_sink(" ".join(names)).controls()
    return f"holds {', '.join(controls)}" if controls else "can be opened, and is empty"


_CHECKS: dict[str, Callable[[list[str]], str]] = {"views": _views, "sink": _sink}
