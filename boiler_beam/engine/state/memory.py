"""State that ends with the process: a new start every time (S18)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

from boiler_beam.engine.state.base import Entry, Progress, State, ViewState
from boiler_beam.events import Change
from boiler_beam.plan import Plan
from boiler_beam.steps.stream.cells import MemoryCells

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
        self.cells = MemoryCells()
        self._places: dict[str, int] = {}
        self._outbox: list[Entry] = []

    def open(self, plan: Plan) -> MemoryCells:
        """See `State`."""
        self._places = {view.name: place for place, view in enumerate(plan.views)}
        self.views = {view.name: ViewState(view.fingerprint, is_built=True) for view in plan.views}
        return self.cells

    def collections(self) -> set[str]:
        """See `State`."""
        return set()

    def documents(self, collection: str) -> Iterator[str]:
        """See `State`."""
        return iter(())

    def rows(self, view: str) -> Iterator[str]:
        """See `State`."""
        place = self._places[view]
        return (row_id for where, row_id in list(self.cells.rows) if where == place)

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

    def sent(self) -> None:
        """See `State`."""
        self._outbox = []

    def forget_rows(self, view: str) -> None:
        """See `State`."""
        self.cells.forget(self._places[view])
