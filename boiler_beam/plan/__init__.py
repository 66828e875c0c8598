"""Plans: the compiled form of declared classes, which every executor reads and none changes.

| module | holds |
| --- | --- |
| `compile` | `compile_plan`: views to a plan, with all mistakes |
| `tree` | the plan: views, their edges and aggregates |
| `planned` | numbered views and edges, for executors |
| `edges`, `aggregates`, `rowpath`, `fieldpath`, `ordering` | the parts of a view, compiled |
| `reads` | which edges and properties a getter reads |
| `impure` | warnings of getters that read a clock, random numbers or the environment |
| `fingerprint` | the hash that changes when a view changes |
| `explain` | a plan as text |
"""

from boiler_beam.plan.compile import compile_plan, load_plan, refuse_main
from boiler_beam.plan.planned import Plan, PlanName, PlannedEdge, PlannedView
from boiler_beam.plan.tree import Aggregate, Edge, Fixed, Group, Reference, Referrers, Root, ViewPlan

__all__ = [
    "Aggregate",
    "Edge",
    "Fixed",
    "Group",
    "Plan",
    "PlanName",
    "PlannedEdge",
    "PlannedView",
    "Reference",
    "Referrers",
    "Root",
    "ViewPlan",
    "compile_plan",
    "load_plan",
    "refuse_main",
]
