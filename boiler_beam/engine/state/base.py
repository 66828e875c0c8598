"""State: what an engine needs again after a restart, changed in transactions (S20)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.events import Change, DeadLetter, EncodedRow
from boiler_beam.plan import ViewPlan

__all__ = ["OutboxEntry", "Phase", "State", "StateUpdate", "ViewState"]

Phase = Literal["loading", "emitting", "pruning", "live"]
"""How far a view is in its generation.

* `loading`: its snapshot is not read; no row is written.
* `emitting`: its documents are read; each row is written once.
* `pruning`: rows that change are written; those of an older generation are not pruned yet.
* `live`: rows that change are written.
"""


class OutboxEntry(msgspec.Struct, frozen=True, array_like=True):
    """A row or a dead letter that was committed, and not yet sent."""

    view: str
    row: EncodedRow | None
    dead_letter: DeadLetter | None = None


class ViewState(msgspec.Struct, array_like=True):
    """What a state knows of a view beside its rows.

    Attributes:
        fingerprint: The view's fingerprint.
        generation: The generation of its rows; 0 where none was written yet.
        epoch: Grows when it is no longer known what the sink holds (S13, S14).
        phase: How far the view is in its generation.
        floor: The read time of the last backfill of the sink that is known (S16), in microseconds.
        rows: How many rows are in the sink.
        failing_rows: How many rows could not be rendered the last time.
        incarnation: Grows when the view was changed: older records of its rows no longer count.
    """

    fingerprint: str
    generation: int = 0
    epoch: int = 0
    phase: Phase = "loading"
    floor: int = 0
    rows: int = 0
    failing_rows: int = 0
    incarnation: int = 0


@dataclass
class StateUpdate:
    """What a transaction changes beside documents and rows.

    Attributes:
        entries: What is added to the outbox.
        positions: How far each source was read, by URI.
        pushed: The new changes that wait for others of their commit.
        released: The version up to which changes no longer wait; None: as before.
    """

    entries: list[OutboxEntry] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    pushed: list[Change] = field(default_factory=list)
    released: int | None = None


class State:
    """What an engine keeps. This class keeps it in the process: it begins anew every time (S18).

    Attributes:
        identity: A random name that never changes, by which a sink knows which program feeds it (S18).
        is_durable: Whether it outlives the process.
        is_new: Whether no transaction was committed to it, in this run or an earlier one.
        views: What is known of the views, by name.
        changed_views: The views that are new, or have changed since the state was last open.
        collections: The collections whose documents it has, and whether a document of each could not be read.
        positions: How far each source was read, by URI.
        facts: Single numbers: `documents`, `newest`, `released`, `horizon` and others.
    """

    is_durable = False

    def __init__(self) -> None:
        self.identity, self.is_new = uuid.uuid4().hex, True
        self.views: dict[str, ViewState] = {}
        self.changed_views: set[str] = set()
        self.collections: dict[str, bool] = {}
        self.positions: dict[str, str] = {}
        self.facts: dict[str, int] = {}
        self._outbox: list[OutboxEntry] = []

    def open(self, engine: IncrementalEngine) -> None:
        """Loads what is kept into an empty engine.

        Views that are new or changed are at the phase `loading`; those that are gone are dropped, and so are the
        documents of collections that no view reads.
        """
        self.views = {view.name: self._state_of(view) for view in engine.plan.views}
        self.collections = {pattern: self.collections.get(pattern, False) for pattern in engine.plan.collections}

    def _state_of(self, view: ViewPlan) -> ViewState:
        known = self.views.get(view.name)
        if known is not None and known.fingerprint == view.fingerprint:
            return known
        self.changed_views.add(view.name)
        before, fact = known or ViewState("", incarnation=-1), f"incarnation {view.name}"
        # a number that no earlier declaration of the view had: their records no longer count
        self.facts[fact] = max(self.facts.get(fact, -1), before.incarnation) + 1
        return ViewState(
            view.fingerprint, before.generation, before.epoch, floor=before.floor, incarnation=self.facts[fact]
        )

    def waiting(self) -> Iterable[Change]:
        """The changes that wait for the others of their commit."""
        return ()

    def commit(self, update: StateUpdate, engine: IncrementalEngine) -> None:
        """Makes what changed since the last transaction durable, all of it or nothing, and ends the engine's batch.

        Raises:
            BoilerBeamError: It can't be written: nothing of it was.
        """
        engine.end_batch()
        self.is_new = False
        self.positions.update(update.positions)
        self._outbox += update.entries

    def outbox(self) -> Sequence[OutboxEntry]:
        """What was committed and not yet `sent`, in order."""
        return self._outbox

    def sent(self, left: Sequence[OutboxEntry] = ()) -> None:
        """Notes that the outbox was sent, except what is left; the next transaction removes it from the file."""
        self._outbox = list(left)

    def close(self) -> None:
        """Closes it."""
