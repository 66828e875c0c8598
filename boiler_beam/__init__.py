"""Reactive view models for Firestore backends, from one process to Dataflow.

import boiler_beam as bb

class User(bb.DomainModel, collection="users"):
    first_name: str
"""

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
    view_property,
)
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
    "aggregate",
    "array_remove",
    "array_union",
    "document",
    "field",
    "group",
    "increment",
    "reference",
    "referrers",
    "role",
    "root",
    "run_transaction",
    "transaction",
    "view_property",
]
