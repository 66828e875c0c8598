"""The command that installs an extra of boiler_beam, for messages."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

__all__ = ["PACKAGE", "install_command", "is_installed"]

PACKAGE = "boiler_beam"
"""The name on PyPI. Until it is there, messages name the checkout, file or repository that this copy came from."""


def install_command(extra: str) -> str:
    """Returns the command that installs an extra, from where this copy of boiler_beam came."""
    return f"pip install '{_requirement(extra, Path(__file__).resolve().parent.parent)}'"


def _requirement(extra: str, folder: Path) -> str:
    """Returns what pip takes, for a copy of the package in some folder."""
    if (folder / "pyproject.toml").exists():  # a checkout
        return f"{folder}[{extra}]"
    url = _installed_from()
    return f"{PACKAGE}[{extra}] @ {url}" if url else f"{PACKAGE}[{extra}]"


def _installed_from() -> str:
    """Returns the URL that the package was installed from; empty if that was an index (PEP 610)."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import, and rarely needed

    try:
        text = distribution(PACKAGE).read_text("direct_url.json")
    except PackageNotFoundError:  # it is only on the path
        return ""
    found = json.loads(text or "{}")
    system = found.get("vcs_info", {}).get("vcs")
    return f"{system}+{found['url']}" if system else str(found.get("url", ""))


def is_installed(module: str) -> bool:
    """Returns whether a module can be imported; it is not imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would contain the module is missing
        return False
