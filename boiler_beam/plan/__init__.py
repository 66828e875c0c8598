"""Plans: what the declared classes compile to."""

from boiler_beam.plan.compile import compile_plan, load_plan, refuse_main
from boiler_beam.plan.tree import Aggregate, Edge, Fixed, Group, Plan, PlanName, Reference, Referrers, Root, ViewPlan

__all__ = [
    "Aggregate",
    "Edge",
    "Fixed",
    "Group",
    "Plan",
    "PlanName",
    "Reference",
    "Referrers",
    "Root",
    "ViewPlan",
    "compile_plan",
    "load_plan",
    "refuse_main",
]
