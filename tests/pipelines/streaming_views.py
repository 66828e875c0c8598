"""Views for the tests of running programs, and a source without an end: `tail:PATH` follows a document file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

import boiler_beam as bb
from boiler_beam import Ref, aggregate, reference, referrers, root, view_property
from boiler_beam.connectors import Source, register
from boiler_beam.connectors.files import changes_of_lines
from boiler_beam.events import Change, DeadLetter


class Team(bb.DomainModel, collection="teams"):
    name: str


class Player(bb.DomainModel, collection="players"):
    team: Ref[Team]
    points: int


class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        player: Player = root(Player)
        team: Team = reference("player.team")

    store: Store

    @view_property
    def label(self) -> str:
        return f"{self.store.team.name} {100 // (self.store.player.points + 1)}"


class Table(bb.ViewModel, collection="tables"):
    class Store(bb.Store):
        team: Team = root(Team)
        players: dict[str, Player] = referrers(Player, by="team")

    store: Store

    points = aggregate.sum("players", of="points")
    best = aggregate.max("players", of="points")


@register
class Tail(Source):
    scheme: ClassVar[str] = "tail"
    is_bounded: ClassVar[bool] = False

    def splits(self) -> Sequence[str]:
        return [self.rest]

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        raise NotImplementedError("it has no end")

    def follow(self, position: str | None) -> Iterator[tuple[list[Change | DeadLetter], str]]:
        offset = int(position or 0)
        while True:
            lines = b""
            if os.path.exists(self.rest):
                with open(self.rest, "rb") as file:
                    file.seek(offset)
                    lines = file.read(1 << 16)
            lines = lines[: lines.rfind(b"\n") + 1]
            offset += len(lines)
            yield list(changes_of_lines(lines, self.uri)) if lines else [], str(offset)
            if not lines:
                time.sleep(0.01)  # as a poll of a server would wait
