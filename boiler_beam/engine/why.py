"""Why a row is as it is: the documents and versions behind it, and what each contributed."""

from __future__ import annotations

from collections.abc import Iterator

from boiler_beam.engine.join import Computed, Join, ViewJoin
from boiler_beam.errors import UsageError
from boiler_beam.events import DeadLetter
from boiler_beam.plan import Plan, ViewPlan
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.row import is_missing
from boiler_beam.values import encode_wire
from boiler_beam.views.fold import Count

__all__ = ["why"]


def why(plan: Plan, versions: NewestVersions, row_path: str) -> Iterator[str]:
    """Lines for people: what each edge of a row reached, what was added to its aggregates, and the row itself.

    Args:
        plan: The views.
        versions: The documents.
        row_path: The row's path, `meeting_sessions/m1`.

    Raises:
        UsageError: No view has rows at such a path.
    """
    view = next((view for view in plan.views if view.target.matches(row_path)), None)
    if view is None:
        known = ", ".join(view.template for view in plan.views)
        raise UsageError(f"{row_path}: expected the path of a row, got none of a view; mend: rows are at {known}")
    letters: list[DeadLetter] = []
    join = Join(plan, versions, letters.append)
    yield f"{row_path} of {view.name}"
    yield from _edges(ViewJoin(join, view), row_path)
    yield from _row(join, view, row_path)
    for letter in letters:
        if letter.path == row_path:
            yield f"dead letter {letter.code}: {letter.message}"


def _edges(joined: ViewJoin, row_path: str) -> Iterator[str]:
    own = joined.own_documents(row_path)
    if not own:
        yield f"no document of {joined.view.root.name} makes it"
        return
    reach = joined.reacher(own)
    for edge in joined.view.edges:
        found = reach(edge.name)
        lack = ": required, so there is no row" if is_missing(edge, found) else ""
        yield f"{edge.name}: {len(found):,} document{'' if len(found) == 1 else 's'}{lack}"
        for path, document in sorted(found.items()):
            yield f"  {path} at version {document.version}"
            for place, aggregate in joined.view.aggregates_of[edge.name]:
                if path in joined.contributions[place]:
                    value = encode_wire(joined.contributions[place][path]).decode()
                    is_count = isinstance(aggregate.fold, Count)
                    yield f"    counts in {aggregate.name}" if is_count else f"    adds {value} to {aggregate.name}"


def _row(join: Join, view: ViewPlan, row_path: str) -> Iterator[str]:
    for row in join.rows(view):
        if isinstance(row, Computed) and row.path == row_path:
            yield f"row: {row.fields.decode()}"
        elif row == row_path:
            yield "row: not told, because a document or getter that it needs failed; what stands in a sink stays"
