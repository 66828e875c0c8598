"""Odd values through every executor: what is stored decides (S5a), and references elsewhere are never joined."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, root, view_property
from boiler_beam.oracle import compute
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.values import Database
from tests.helpers.histories import Event, changes
from tests.helpers.proofs import EVERYWHERE


class Match(bb.DomainModel, collection="matches"):
    league: str
    score: Any = None


class League(bb.ViewModel, collection="leagues"):
    """Nothing but aggregates: a stream tells its rows of a match only where what it adds changes."""

    class Store(bb.Store):
        matches: dict[str, Match] = group(Match, by="league")

    store: Store

    scores = aggregate.collect("matches", of="score")
    ranked = aggregate.collect("matches", of=lambda match: match.doc_id, order_by="-score")
    different = aggregate.count_distinct("matches", of="score")
    lowest = aggregate.min("matches", of="score")
    highest = aggregate.max("matches", of="score")
    best = aggregate.top("matches", n=1, by="score", of="score")


class Town(bb.DomainModel, collection="towns"):
    name: str


class Trip(bb.DomainModel, collection="trips"):
    start: Ref[Town]
    stops: list[Ref[Town]] = bb.field(default_factory=list)
    note: Any = None


class TripCard(bb.ViewModel, collection="trip_cards"):
    class Store(bb.Store):
        trip: Trip = root(Trip)
        start: Town | None = reference("trip.start", optional=True)
        stops: dict[str, Town] = reference("trip.stops")

    store: Store

    @view_property
    def names(self) -> list[str | None]:
        return [self.store.start.name if self.store.start else None, *(town.name for town in self.store.stops.values())]

    @view_property
    def links(self) -> list[Any]:
        return [self.store.trip.start, *self.store.trip.stops, self.store.trip.note]


def rows(executor: str, plan: Plan, table: list[Event]) -> dict[str, Any]:
    """The rows that an executor gives; they are the oracle's."""
    found = EVERYWHERE[executor](plan, table, random.Random(7)).rows
    assert found == compute(plan, changes(table)).rows
    return {path: json.loads(fields) for path, fields in found.items()}


everywhere = pytest.mark.parametrize(
    "executor", [pytest.param(name, marks=[pytest.mark.beam] if "beam" in name else []) for name in EVERYWHERE]
)
NAN = {"doubleValue": "NaN"}
TWINS: list[tuple[str, list[Any]]] = [
    # what a match's score was, and then what it became, which looks alike; beside one that stays
    ("an int becomes its double", [1, 1.0, 1]),
    ("a number becomes true", [1, True, 0]),
    ("zero changes its sign", [0.0, -0.0, 0.0]),
    ("in a map", [{"done": 0}, {"done": False}, {"done": 1}]),
    ("in an array in a map", [{"all": [1]}, {"all": [1.0]}, {"all": []}]),
    ("a large int becomes its double", [2**53, float(2**53), 2**53 + 1]),
    ("NaN stays", [NAN, NAN, 0]),
    ("null becomes empty text", [None, "", {}]),
]


@cache
def leagues_of_twins(executor: str) -> dict[str, Any]:
    """The rows of all cases, each in a league of its own."""
    table: list[Event] = []
    for number, (_, (before, after, other)) in enumerate(TWINS):
        league = f"l{number}"
        table += [
            (f"matches/{league}a", 1, {"league": league, "score": before}),
            (f"matches/{league}b", 2, {"league": league, "score": other}),
            (f"matches/{league}a", 3, {"league": league, "score": after}),
        ]
    return rows(executor, compile_plan([League]), table)


@everywhere
@pytest.mark.parametrize("number", range(len(TWINS)), ids=[name for name, _ in TWINS])
def test_s5a_a_value_that_looks_alike_is_another_one(executor: str, number: int) -> None:
    _, (_, after, other) = TWINS[number]
    found = leagues_of_twins(executor)[f"leagues/l{number}"]
    assert repr(found["scores"]) == repr([one for one in (after, other) if one is not None])


@everywhere
def test_s5a_the_equal_value_of_a_deleted_document_goes(executor: str) -> None:
    table: list[Event] = [
        ("matches/a", 1, {"league": "l", "score": 1}),
        ("matches/b", 2, {"league": "l", "score": 1.0}),
        ("matches/a", 3, None),
    ]
    found = rows(executor, compile_plan([League]), table)["leagues/l"]
    assert [repr(found[name]) for name in ("lowest", "highest", "best")] == ["1.0", "1.0", "[1.0]"]


@everywhere
def test_s5a_firestores_order_and_equality(executor: str) -> None:
    scores = [
        7, True, "x", None, 7.0, NAN, {"__type__": "__vector__", "value": [1.0]}, {}, [1], {"referenceValue": "t/__id9__"},
        {"referenceValue": "t/__id10__"}, {"referenceValue": "t/1"}, {"bytesValue": ""}, -0.0, 0,
    ]  # fmt: skip
    table: list[Event] = [
        (f"matches/m{number:02}", 1, {"league": "l", "score": one}) for number, one in enumerate(scores)
    ]
    found = rows(executor, compile_plan([League]), table)["leagues/l"]
    ranked = [scores[int(one.removeprefix("m"))] for one in found["ranked"]]
    assert repr(ranked) == repr([
        {}, scores[6], [1], scores[11], scores[10], scores[9], scores[12], "x", 7.0, 7, -0.0, 0, NAN, True, None,
    ])  # fmt: skip
    assert found["different"] == len(scores) - 1 - 2, "null is skipped; 7 and 7.0, and the zeros, are equal"


ELSEWHERE = "projects/p/databases/archive/documents/towns/t1"
ABROAD = "projects/other/databases/(default)/documents/towns/t1"
HERE = "projects/p/databases/(default)/documents/towns/t1"
TRIPS: list[Event] = [
    ("towns/t1", 1, {"name": "Ulm"}),
    ("trips/a", 1, {"start": {"referenceValue": HERE}, "stops": [HERE], "note": {"referenceValue": HERE}}),
    (
        "trips/b",
        1,
        {"start": {"referenceValue": ELSEWHERE}, "stops": [ELSEWHERE, "t1"], "note": {"referenceValue": ELSEWHERE}},
    ),
    ("trips/c", 1, {"start": ABROAD, "stops": [], "note": {"a": {"referenceValue": ABROAD}}}),
]
LOCAL = {"referenceValue": "towns/t1"}


@everywhere
@pytest.mark.parametrize("project", ["p", None])
def test_references_into_another_database_are_kept_and_not_joined(executor: str, project: str | None) -> None:
    found = rows(executor, compile_plan([TripCard], Database(project)), TRIPS)
    assert found["trip_cards/a"] == {"names": ["Ulm", "Ulm"], "links": [LOCAL, LOCAL, LOCAL]}
    away = {"referenceValue": ELSEWHERE}
    assert found["trip_cards/b"] == {"names": [None, "Ulm"], "links": [away, away, LOCAL, away]}
    abroad = (
        {"referenceValue": ABROAD} if project else LOCAL
    )  # any project's default database is local where none is named
    assert found["trip_cards/c"] == {"names": [None if project else "Ulm"], "links": [abroad, {"a": abroad}]}


class Column(bb.DomainModel, collection="projects/{project}/databases/{database}/documents"):
    title: str


class Use(bb.DomainModel, collection="uses"):
    column: Ref[Column]


class UseCard(bb.ViewModel, collection="use_cards"):
    class Store(bb.Store):
        use: Use = root(Use)
        column: Column = reference("use.column")

    store: Store

    @view_property
    def title(self) -> str:
        return self.store.column.title


@everywhere
def test_collections_may_be_called_as_resource_names_are(executor: str) -> None:
    relative = "projects/p1/databases/d1/documents/x"
    table: list[Event] = [
        (relative, 1, {"title": "X"}),
        ("uses/a", 1, {"column": {"referenceValue": relative}}),
        ("uses/b", 1, {"column": f"projects/p/databases/(default)/documents/{relative}"}),
        ("uses/c", 1, {"column": f"projects/p/databases/other/documents/{relative}"}),
    ]
    found = rows(executor, compile_plan([UseCard]), table)
    assert found == {"use_cards/a": {"title": "X"}, "use_cards/b": {"title": "X"}}
