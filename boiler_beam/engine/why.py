"""Why a row is as it is: the documents and versions behind it, and what each contributed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from boiler_beam.engine.join import Join, Own, ViewJoin
from boiler_beam.errors import UsageError
from boiler_beam.events import DeadLetter
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.row import is_missing
from boiler_beam.values import encode_wire
from boiler_beam.views.fold import Count

__all__ = ["why"]


def why(plan: Plan, versions: NewestVersions, row_path: str, letters: Sequence[DeadLetter] = ()) -> Iterator[str]:
    """Lines for people: what each edge of a row reached, what was added to its aggregates, and the row itself.

    Args:
        plan: The views.
        versions: The documents.
        row_path: The row's path, `meeting_sessions/m1`.
        letters: What was refused when the documents were read.

    Raises:
        UsageError: No view has rows at such a path.
    """
    view = next((view for view in plan.views if view.target.matches(row_path)), None)
    if view is None:
        known = ", ".join(view.paths.template for view in plan.views)
        raise UsageError(f"{row_path}: expected the path of a row, got none of a view; fix: rows are at {known}")
    raised: list[DeadLetter] = []
    joined = ViewJoin(Join(plan, versions, raised.append), view)
    yield f"{row_path} of {view.name}"
    mask, is_made = view.paths.mask_of(row_path), False
    for own in joined.own():
        if view.paths.mask(own.row_id) != mask:
            continue
        copies = joined.copies(own)
        copy = next((one for one in copies if one.path == row_path), None)
        if copy is None and view.has_paths and not any(one.is_mask for one in copies):
            continue
        is_made = True
        yield from _edges(joined, own)
        if copy is not None and copy.fields is not None:
            yield f"row: {copy.fields.decode()}"
        elif copies:
            yield "row: not told, because a document or getter that it needs failed; what stands in a sink stays"
            yield from _refused(joined, own, letters)
    if not is_made:
        yield f"no document of {view.root.name} makes it"
    for letter in raised:
        if letter.path is not None and letter.stage == "render" and view.target.matches(letter.path):
            yield f"dead letter {letter.code}: {letter.message}"


def _refused(joined: ViewJoin, own: Own, letters: Sequence[DeadLetter]) -> Iterator[str]:
    """The inputs that keep a row from being told."""
    tainted_by = joined.tainted_by(own, joined.reacher(own.documents))
    for letter in letters:
        if letter.stage != "render" and letter.path in tainted_by:
            yield f"dead letter {letter.code} of {letter.path}: {letter.message}"


def _edges(joined: ViewJoin, own: Own) -> Iterator[str]:
    reach = joined.reacher(own.documents)
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
