"""The views of a transform, given as classes or by name."""

from __future__ import annotations

from collections.abc import Sequence

from boiler_beam.errors import UsageError
from boiler_beam.plan import PlanName, load_plan, refuse_main
from boiler_beam.values import Database
from boiler_beam.views import ViewModel

__all__ = ["ViewLike", "plan_name"]

ViewLike = type[ViewModel] | str
"""A view: its class, or `"module:Class"`."""


def plan_name(
    transform: str, views: Sequence[ViewLike], database: Database, fix: str = "pass a view model"
) -> PlanName:
    """Returns the name by which workers make the plan of some views.

    Args:
        transform: The name of the transform, for messages.
        views: The views.
        database: The database of their documents.
        fix: What messages say to do.

    Raises:
        UsageError: There are none, one is no view, or workers can't import it.
        DeclarationError: The views can't be compiled.
    """
    names = []
    for view in views:
        if isinstance(view, type) and issubclass(view, ViewModel):
            names.append(f"{view.__module__}:{view.__qualname__}")
        elif isinstance(view, str) and all(view.partition(":")):
            names.append(view)
        else:
            raise UsageError(f"{transform}: expected views as classes or as 'module:Class', got {view!r}; fix: {fix}")
    if not names:
        raise UsageError(f"{transform}: expected at least one view, got none; fix: {fix}")
    name = PlanName(tuple(names), database)
    refuse_main(load_plan(name))
    return name
