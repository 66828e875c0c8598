"""Reactive view models for Firestore backends, from one process to Dataflow.

import boiler_beam as bb

class User(bb.DomainModel, collection="users"):
    first_name: str
"""

from boiler_beam.errors import BoilerBeamError, DeclarationError, Mistake, UsageError
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
    view_property,
)

__all__ = [
    "BoilerBeamError",
    "DeclarationError",
    "DomainModel",
    "GeoPoint",
    "Mistake",
    "Ref",
    "Store",
    "Struct",
    "UsageError",
    "ViewModel",
    "aggregate",
    "document",
    "field",
    "group",
    "reference",
    "referrers",
    "role",
    "root",
    "view_property",
]
