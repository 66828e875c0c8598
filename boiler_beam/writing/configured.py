"""The configured store of documents: an environment variable, or pyproject.toml of the working folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from boiler_beam.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["configured_store"]


def configured_store(environ: Mapping[str, str], folder: str = ".") -> str:
    """Returns the URI of `BOILER_BEAM_STORE`, or of `store` in `[tool.boiler_beam]` of pyproject.toml.

    Raises:
        UsageError: There is neither, or the file can't be read.
    """
    if named := environ.get("BOILER_BEAM_STORE"):
        return named
    try:
        with open(os.path.join(folder, "pyproject.toml"), "rb") as file:
            found = tomllib.load(file).get("tool", {}).get("boiler_beam", {}).get("store")
    except FileNotFoundError:
        found = None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"pyproject.toml: expected TOML that can be read, got: {error}; fix: correct it") from None
    if not isinstance(found, str):
        raise UsageError(
            "transaction(): expected a store of documents, got none; fix: transaction('documents:PATH'), "
            "transaction('firestore:PROJECT'), or set BOILER_BEAM_STORE"
        )
    return found
