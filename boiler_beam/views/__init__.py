"""View models: classes that say which documents a row is made of, and what is computed of them."""

from boiler_beam.views import aggregate
from boiler_beam.views.edges import EdgeDeclaration, document, group, reference, referrers, root
from boiler_beam.views.store import Store
from boiler_beam.views.view import ViewModel, view_property
from boiler_beam.views.visibility import role

__all__ = [
    "EdgeDeclaration",
    "Store",
    "ViewModel",
    "aggregate",
    "document",
    "group",
    "reference",
    "referrers",
    "role",
    "root",
    "view_property",
]
