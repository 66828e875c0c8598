"""What a state is: all that an engine must find again after it was stopped, changed in transactions (S20)."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from boiler_beam.events import Change, DeadLetter, Row
from boiler_beam.plan import Plan
from boiler_beam.steps.stream.cells import Cells

__all__ = ["Entry", "Progress", "Stage", "State", "ViewState"]

Stage = Literal["filling", "rebuilding", "giving", "pruning", "live"]
"""How far a view is in its generation.

* `filling`: its snapshot is not in; no row is given.
* `rebuilding`: its cells are made again of the documents that the state knows; no row is given.
* `giving`: its cells are right; each row is given once.
* `pruning`: rows that change are given; those of an older generation are not pruned yet.
* `live`: all is done but to follow.
"""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A row or a dead letter on its way out of a committed state."""

    view: str
    row: Row | None
    letter: DeadLetter | None = None


class ViewState(msgspec.Struct, array_like=True):
    """What a state knows of a view beside its cells.

    Attributes:
        fingerprint: Of the view that the cells were made by.
        generation: The generation of its rows; 0 where none was given yet.
        epoch: Grows when what was given so far no longer says what the sink holds (S13, S14).
        stage: See there.
        floor: The read time of the last backfill of the sink that is known (S16), in microseconds.
        rows: How many rows stand.
        base: The number of its first edge when its cells were made; there they go by these numbers.
        failing: How many rows could not be told when they were rendered last.
    """

    fingerprint: str
    generation: int = 0
    epoch: int = 0
    stage: Stage = "filling"
    floor: int = 0
    rows: int = 0
    base: int = 0
    failing: int = 0


@dataclass
class Progress:
    """What a transaction changes beside cells.

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
    """An engine's memory.

    Attributes:
        identity: A random name that it keeps: sinks know by it who feeds them (S18).
        is_durable: Whether a restarted program finds it again.
        is_new: Whether no transaction was committed to it, in this run or an earlier one.
        views: What is known of the views, by name.
        facts: Numbers that are few: `documents`, `newest`, `released`, `horizon`.
        dead_collections: The collections of which a document is, or may be, dead.
    """

    identity: str
    is_durable: bool
    is_new: bool
    views: dict[str, ViewState]
    facts: dict[str, int]
    dead_collections: set[str]

    @abc.abstractmethod
    def open(self, plan: Plan) -> Cells:
        """The cells of a plan.

        Of a state that is not new, views that are new, changed, or were rebuilt when the program ended start with empty
        cells, at the stage `rebuilding`; those that are gone are dropped.
        """

    @abc.abstractmethod
    def collections(self) -> set[str]:
        """The collections whose documents it watched so far."""

    @abc.abstractmethod
    def documents(self, collection: str) -> Iterator[str]:
        """The paths of all known documents of a collection."""

    @abc.abstractmethod
    def positions(self) -> Mapping[str, str]:
        """How far each source was read, by URI."""

    @abc.abstractmethod
    def waiting(self) -> Iterable[Change]:
        """The changes that wait for the others of their commit."""

    @abc.abstractmethod
    def commit(self, progress: Progress) -> None:
        """Makes what happened since the last one durable, all of it or nothing.

        Raises:
            BoilerBeamError: It can't be written: nothing of it stands.
        """

    @abc.abstractmethod
    def outbox(self) -> Sequence[Entry]:
        """What was committed and not yet `sent`, in order."""

    @abc.abstractmethod
    def sent(self, left: Sequence[Entry] = ()) -> None:
        """All that `outbox` gave, but what is left, is durable where it went: it leaves with the next transaction."""

    def roll_back(self) -> bool:
        """Undoes what happened to the cells since the last transaction; gives whether it could."""
        return False

    def close(self) -> None:  # noqa: B027
        """Lets go of it."""
