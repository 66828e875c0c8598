"""The levels of the edges of a plan: which join finds the rows of their documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from typing_extensions import assert_never

from boiler_beam.plan import Fixed, Group, Plan, PlannedEdge, Reference, Referrers, Root
from boiler_beam.steps.distributed import DistributedEdge, DistributedPlan
from boiler_beam.steps.hash_join.messages import Rows

__all__ = ["CLAIMS", "OBSERVED", "ROWS", "WRITE", "HashJoinPlan", "JoinedEdge", "Send", "join_stage"]

OBSERVED, ROWS, CLAIMS, WRITE = "observed", "rows", "claims", "write"
"""The stages that are no joins: at documents (observed versions), at rows, at row paths (claims), at the sink."""

Send = Callable[[str, Any], None]
"""Takes the stage that a message goes to, and the message."""


def join_stage(level: int) -> str:
    """The stage of a join, from level 1."""
    return f"level{level}"


class JoinedEdge(DistributedEdge):
    """An edge with its levels.

    Attributes:
        match_level: The level of the join that finds the rows that match its documents; 0 if a document names them.
        level: The level of the join that finds the rows that have its documents: with a limit, one more.
        meets_children: Whether its join is at its documents' paths, where the documents of its referrers come, too.
        announces_rows: Whether its rows must be sent to its documents' paths, so that its referrers meet them there.
        repeats: Whether a document can come to one row from several partitions.
    """

    parent: JoinedEdge | None

    def __init__(self, plan: Plan, planned: PlannedEdge, parent: JoinedEdge | None) -> None:
        super().__init__(plan, planned, parent)
        edge = planned.edge
        self.match_level = self._match_level()
        self.level = self.match_level + (edge.limit is not None)
        self.meets_children = isinstance(edge, Reference) and edge.limit is None
        has_referrers = any(isinstance(child.edge, Referrers) for child in planned.children)
        self.announces_rows = has_referrers and not (self.meets_children or isinstance(edge, Root))
        self.repeats = isinstance(edge, Referrers) and edge.by.is_many and self.level > 0 and edge.limit is None

    def _match_level(self) -> int:
        match self.edge:
            case Root() | Group() | Fixed():
                return 0
            case Reference():
                assert self.parent is not None
                return self.parent.level + 1
            case Referrers():
                assert self.parent is not None
                if isinstance(self.parent.edge, Root):
                    return 0  # a root's path says which row it makes
                return self.parent.level + (0 if self.parent.meets_children else 1)
            case _:
                assert_never(self.edge)

    def rows_of(self, keys: Iterable[str]) -> Rows:
        """The rows that match a document with some keys, where it names them itself: at level 0."""
        match self.edge:
            case Root() | Group():
                return list(keys)
            case Fixed():
                return None
            case Referrers():
                return list(map(self.planned.view.row_id, keys))
            case Reference():
                raise AssertionError(f"{self}: its documents do not name their rows")
            case _:
                assert_never(self.edge)


class HashJoinPlan(DistributedPlan[JoinedEdge]):
    """A plan with the levels of its edges.

    Attributes:
        depth: How many joins there are.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, JoinedEdge)
        self.depth = max(edge.level for edge in self.edges)
