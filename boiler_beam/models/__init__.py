"""Domain models: Python classes for the documents of a collection, read and written without loss."""

from boiler_beam.models.codec import FamilyCodec, ModelCodec, family_base, wire_of
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.models.declare import DomainModel, Struct, field, stored_name

__all__ = [
    "CollectionPattern",
    "DomainModel",
    "FamilyCodec",
    "ModelCodec",
    "Struct",
    "family_base",
    "field",
    "stored_name",
    "wire_of",
]
