"""State that ends with the process: a new start every time (S18)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence

from typing_extensions import override

from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.state.base import OutboxEntry, State, StateUpdate, ViewState
from boiler_beam.events import Change

__all__ = ["MemoryState"]


class MemoryState(State):
    """Keeps everything in this process."""

    is_durable = False

    def __init__(self) -> None:
        self.identity = uuid.uuid4().hex
        self.is_new = True
        self.views: dict[str, ViewState] = {}
        self.changed_views: set[str] = set()
        self.facts: dict[str, int] = {}
        self.dead_collections: set[str] = set()
        self._outbox: list[OutboxEntry] = []

    @override
    def open(self, engine: IncrementalEngine) -> None:
        self.views = {view.name: ViewState(view.fingerprint) for view in engine.plan.views}
        self.changed_views = set(self.views)

    @override
    def collections(self) -> set[str]:
        return set()

    @override
    def positions(self) -> Mapping[str, str]:
        return {}

    @override
    def waiting(self) -> Iterable[Change]:
        return ()

    @override
    def commit(self, update: StateUpdate, engine: IncrementalEngine) -> None:
        engine.end_batch()
        self.is_new = False
        self._outbox += update.entries

    @override
    def outbox(self) -> Sequence[OutboxEntry]:
        return self._outbox

    @override
    def sent(self, left: Sequence[OutboxEntry] = ()) -> None:
        self._outbox = list(left)
