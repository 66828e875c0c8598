"""What a state is: all that an engine must find again after it was stopped, changed in transactions (S20)."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.events import Change, DeadLetter, EncodedRow

__all__ = ["Entry", "Phase", "Progress", "State", "ViewState"]

Phase = Literal["loading", "emitting", "pruning", "live"]
"""How far a view is in its generation.

* `loading`: its snapshot is not read; no row is written.
* `emitting`: its rows are right; each one is written once.
* `pruning`: rows that change are written; those of an older generation are not pruned yet.
* `live`: rows that change are written.
"""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A row or a dead letter that was committed, on its way to where it goes."""

    view: str
    row: EncodedRow | None
    dead_letter: DeadLetter | None = None


class ViewState(msgspec.Struct, array_like=True):
    """What a state knows of a view beside its rows.

    Attributes:
        fingerprint: Of the view's declaration.
        generation: The generation of its rows; 0 where none was written yet.
        epoch: Grows when what was written so far no longer says what the sink holds (S13, S14).
        phase: See there.
        floor: The read time of the last backfill of the sink that is known (S16), in microseconds.
        rows: How many rows are in the sink.
        failing: How many rows could not be rendered the last time.
        incarnation: Grows when the view was changed: what was kept of its rows before counts no longer.
    """

    fingerprint: str
    generation: int = 0
    epoch: int = 0
    phase: Phase = "loading"
    floor: int = 0
    rows: int = 0
    failing: int = 0
    incarnation: int = 0


@dataclass
class Progress:
    """What a transaction changes beside documents and rows.

    Attributes:
        entries: What goes out.
        positions: How far each source was read, by URI.
        pushed: Changes that wait for the others of their commit.
        released: The version up to which they no longer wait.
    """

    entries: list[Entry] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    pushed: list[Change] = field(default_factory=list)
    released: int | None = None


class State(abc.ABC):
    """What an engine keeps.

    Attributes:
        identity: A random name that it keeps: sinks know by it who feeds them (S18).
        is_durable: Whether a restarted program finds it again.
        is_new: Whether no transaction was committed to it, in this run or an earlier one.
        views: What is known of the views, by name.
        changed_views: The views that are new here, or were declared otherwise when it was open last.
        facts: Numbers that are few: `documents`, `newest`, `released`, `horizon`.
        dead_collections: The collections of which a document is, or may be, dead.
    """

    identity: str
    is_durable: bool
    is_new: bool
    views: dict[str, ViewState]
    changed_views: set[str]
    facts: dict[str, int]
    dead_collections: set[str]

    @abc.abstractmethod
    def open(self, engine: IncrementalEngine) -> None:
        """Brings what is known into an empty engine.

        Views that are new or changed are at the phase `loading`; those that are gone are dropped, and so are the
        documents of collections that no view reads.
        """

    @abc.abstractmethod
    def collections(self) -> set[str]:
        """The collections whose documents it has."""

    @abc.abstractmethod
    def positions(self) -> Mapping[str, str]:
        """How far each source was read, by URI."""

    @abc.abstractmethod
    def waiting(self) -> Iterable[Change]:
        """The changes that wait for the others of their commit."""

    @abc.abstractmethod
    def commit(self, progress: Progress, engine: IncrementalEngine) -> None:
        """Makes what happened since the last one durable, all of it or nothing, and ends the engine's batch.

        Raises:
            BoilerBeamError: It can't be written: nothing of it was.
        """

    @abc.abstractmethod
    def outbox(self) -> Sequence[Entry]:
        """What was committed and not yet `sent`, in order."""

    @abc.abstractmethod
    def sent(self, left: Sequence[Entry] = ()) -> None:
        """All that `outbox` gave, but what is left, is durable where it went: it leaves with the next transaction."""

    def close(self) -> None:  # noqa: B027
        """Lets go of it."""
