"""`boiler-beam doctor`: checks that what is installed and configured can be used."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Iterator

from boiler_beam.connectors import open_sink, open_store
from boiler_beam.errors import BoilerBeamError, DeclarationError, UsageError
from boiler_beam.install import install_command, is_installed
from boiler_beam.plan import compile_plan
from pipelines.options import configuration
from pipelines.views import load_views

__all__ = ["examine"]

_EXTRAS = {
    "firestore": "google.cloud.firestore",
    "beam": "apache_beam",
    "parquet": "pyarrow",
    "metrics": "prometheus_client",
}
_EMULATORS = ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST")
_SECONDS = 2.0
"""The seconds within which an emulator has to answer."""


def examine() -> Iterator[tuple[bool, str]]:
    """The result of a check: whether it passed, and a line that describes it."""
    yield True, f"Python {platform.python_version()}"
    for extra, module in _EXTRAS.items():
        installed = "installed" if is_installed(module) else f"not installed ({install_command(extra)})"
        yield True, f"{extra}: {installed}"
    yield from _emulators()
    table = configuration()
    for key in _CHECKS:
        variable = f"BOILER_BEAM_{key.upper()}"
        value = os.environ.get(variable) or table.get(key)
        place = variable if os.environ.get(variable) else "pyproject.toml"
        if value is None:
            yield True, f"{key}: not set"
        else:
            names = value.split() if isinstance(value, str) else value
            yield _tried(f"{key}: {' '.join(names)} ({place})", _CHECKS[key], names)


def _emulators() -> Iterator[tuple[bool, str]]:
    for variable in _EMULATORS:
        address = os.environ.get(variable)
        if address:
            answers = _answers(address)
            found = "answers" if answers else "does not answer; fix: start the emulator, or unset it"
            yield answers, f"{variable}={address}: {found}"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _tried(line: str, look: Callable[[list[str]], str], names: list[str]) -> tuple[bool, str]:
    try:
        found = look(names)
    except (BoilerBeamError, DeclarationError) as error:
        return False, f"{line}: {error}"
    return True, f"{line}: {found}"


def _views(names: list[str]) -> str:
    plan = compile_plan(load_views(names))
    return f"{', '.join(view.name for view in plan.views)} compile"


def _sink(names: list[str]) -> str:
    controls = open_sink(" ".join(names)).controls()
    return f"holds {', '.join(controls)}" if controls else "can be opened, and is empty"


def _state(names: list[str]) -> str:
    scheme, _, path = " ".join(names).partition(":")
    if scheme not in ("memory", "sqlite") or bool(path) != (scheme == "sqlite"):
        raise UsageError("expected memory: or sqlite:PATH; fix: write one of the two")
    return "is there" if path and os.path.exists(path) else "will be made" if path else "nothing is kept"


def _store(names: list[str]) -> str:
    store = open_store(" ".join(names))
    store.close()
    return "is a store of documents"


_CHECKS: dict[str, Callable[[list[str]], str]] = {"views": _views, "sink": _sink, "state": _state, "store": _store}
