"""For a user's own tests: the rows of a view over a list of documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import Change
from boiler_beam.models import DomainModel, wire_of
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from boiler_beam.values import decode_fields
from boiler_beam.views import ViewModel

__all__ = ["render"]


def render(view: type[ViewModel], documents: Iterable[DomainModel | Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows of a view, by path.

    Args:
        view: The view class.
        documents: Models with a `path`, or what a line of a document file holds:
            `{"path": "users/u1", "fields": {...}}` (`version` may be left out).

    Returns:
        The fields of each row as Firestore values, by the row's path.

    Raises:
        DeclarationError: The classes can't be compiled.
        BoilerBeamError: A document is invalid, or a getter raised.
    """
    plan = compile_plan([view])
    truth = compute(plan, [_change(document, version) for version, document in enumerate(documents, start=1)])
    for letter in truth.dead_letters:
        raise BoilerBeamError(f"{letter.path}: {letter.code}: {letter.message}")
    return {path: decode_fields(fields) for path, fields in truth.rows.items()}


def _change(document: DomainModel | Mapping[str, Any], version: int) -> Change:
    if isinstance(document, DomainModel):
        path, fields = document.path, wire_of(document)
    else:
        path, fields, version = document["path"], document["fields"], document.get("version", version)
    return Change(path, version, msgspec.Raw(msgspec.json.encode(fields)))
