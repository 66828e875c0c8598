"""Reactive view models for Firestore backends, from one process to Dataflow.

import boiler_beam as bb

class User(bb.DomainModel, collection="users"):
    first_name: str
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boiler_beam.errors import BoilerBeamError, Conflict, DeclarationError, Mistake, Rejected, UsageError, WriteRefused
from boiler_beam.models import DomainModel, Struct, field
from boiler_beam.values import GeoPoint, Ref
from boiler_beam.view_model import ViewModel
from boiler_beam.views import (
    Store,
    aggregate,
    document,
    group,
    reference,
    referrers,
    role,
    root,
    route,
    seen_by,
    view_property,
)

if TYPE_CHECKING:
    from boiler_beam.program import backfill, check, diff, explain, follow, why
    from boiler_beam.writing import (
        DELETE_FIELD,
        SERVER_TIME,
        Form,
        Transaction,
        array_remove,
        array_union,
        increment,
        run_transaction,
        transaction,
    )

    __version__: str

__all__ = [
    "DELETE_FIELD",
    "SERVER_TIME",
    "BoilerBeamError",
    "Conflict",
    "DeclarationError",
    "DomainModel",
    "Form",
    "GeoPoint",
    "Mistake",
    "Ref",
    "Rejected",
    "Store",
    "Struct",
    "Transaction",
    "UsageError",
    "ViewModel",
    "WriteRefused",
    "__version__",
    "aggregate",
    "array_remove",
    "array_union",
    "backfill",
    "check",
    "diff",
    "document",
    "explain",
    "field",
    "follow",
    "group",
    "increment",
    "reference",
    "referrers",
    "role",
    "root",
    "route",
    "run_transaction",
    "seen_by",
    "transaction",
    "view_property",
    "why",
]

_OF_PROGRAM = {"backfill", "check", "diff", "explain", "follow", "why"}
_OF_WRITING = {
    "DELETE_FIELD",
    "SERVER_TIME",
    "Form",
    "Transaction",
    "array_remove",
    "array_union",
    "increment",
    "run_transaction",
    "transaction",
}
"""They need the engine or the connectors, which `import boiler_beam` does not load."""


if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version  # slow to import, and rarely needed

            return version("boiler_beam")
        if name in _OF_PROGRAM:
            import boiler_beam.program as later
        elif name in _OF_WRITING:
            import boiler_beam.writing as later
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(later, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
