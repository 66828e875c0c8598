"""State that ends with the process: a new start every time (S18)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

from boiler_beam.engine.state.base import Entry, Progress, State, ViewState
from boiler_beam.events import Change
from boiler_beam.plan import Plan
from boiler_beam.steps.stream import MemoryCells, StreamPlan

__all__ = ["MemoryState"]


class MemoryState(State):
    """Keeps everything in this process."""

    is_durable = False

    def __init__(self) -> None:
        self.identity = uuid.uuid4().hex
        self.is_new = True
        self.views: dict[str, ViewState] = {}
        self.facts: dict[str, int] = {}
        self.dead_collections: set[str] = set()
        self._outbox: list[Entry] = []

    def open(self, plan: Plan) -> MemoryCells:
        """See `State`."""
        self.views = {view.name: ViewState(view.fingerprint) for view in plan.views}
        return MemoryCells(StreamPlan(plan, is_local=True))

    def collections(self) -> set[str]:
        """See `State`."""
        return set()

    def documents(self, collection: str) -> Iterator[str]:
        """See `State`."""
        return iter(())

    def positions(self) -> Mapping[str, str]:
        """See `State`."""
        return {}

    def waiting(self) -> Iterable[Change]:
        """See `State`."""
        return ()

    def commit(self, progress: Progress) -> None:
        """See `State`."""
        self.is_new = False
        self._outbox += progress.entries

    def outbox(self) -> Sequence[Entry]:
        """See `State`."""
        return self._outbox

    def sent(self, left: Sequence[Entry] = ()) -> None:
        """See `State`."""
        self._outbox = list(left)
