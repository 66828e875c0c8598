"""Domain models: Python classes for the documents of a collection, decoded and encoded without loss.

| module | holds |
| --- | --- |
| `declare` | `DomainModel`, `Struct` and `field`: what users write |
| `collection` | collection patterns, such as `rooms/{room}/messages` |
| `pathfield` | fields that are read from a document's path |
| `shapes` | what an annotation means for stored values |
| `typed` | fields of references and times |
| `codec` | JSON bytes to models and back |
| `narrow` | documents with only some of their fields |
"""

from boiler_beam.models.codec import STORED_AS_THEY_ARE, DocumentType, ModelCodec, base_model, wire_of, wire_of_document
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.models.declare import DomainModel, Struct, field, name_problem, stored_name
from boiler_beam.models.narrow import Narrowed, Partial, narrow_fields
from boiler_beam.models.pathfield import PathField, path_fields
from boiler_beam.models.shapes import mistakes_in, written_annotation
from boiler_beam.models.typed import stored_value

__all__ = [
    "STORED_AS_THEY_ARE",
    "CollectionPattern",
    "DocumentType",
    "DomainModel",
    "ModelCodec",
    "Narrowed",
    "Partial",
    "PathField",
    "Struct",
    "base_model",
    "field",
    "mistakes_in",
    "name_problem",
    "narrow_fields",
    "path_fields",
    "stored_name",
    "stored_value",
    "wire_of",
    "wire_of_document",
    "written_annotation",
]
