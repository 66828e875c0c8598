"""Plans: what the declared classes compile to."""

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
