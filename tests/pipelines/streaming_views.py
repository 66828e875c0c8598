"""Views for the tests of running programs."""

from __future__ import annotations

import boiler_beam as bb
from boiler_beam import Ref, aggregate, reference, referrers, root, view_property


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
