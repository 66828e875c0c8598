"""View models: classes that declare which documents a row is made of, and what is computed from them.

| module | holds |
| --- | --- |
| `view` | `ViewModel` and `view_property` |
| `store`, `edges` | the store of a view and its edges |
| `aggregate` | the aggregates that users declare |
| `fold` | how aggregates are computed: accumulators that values are added to and retracted from |
| `route` | methods that servers answer at a path of their own |
| `visibility` | `viewers()`, `editors()`, `role` and `seen_by` |
"""

from boiler_beam.views import aggregate
from boiler_beam.views.edges import EdgeDeclaration, document, group, reference, referrers, root
from boiler_beam.views.route import route
from boiler_beam.views.store import Store
from boiler_beam.views.view import ViewModel, view_property
from boiler_beam.views.visibility import role, seen_by

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
    "route",
    "seen_by",
    "view_property",
]
