"""What travels between partitions: aggregates fold before they do, packs are bounded, large partitions go over the disk."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, referrers, root, view_property
from boiler_beam.plan import compile_plan
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary
from boiler_beam.steps.hash_join import HashJoinPlan, index_documents, join_level
from boiler_beam.steps.hash_join import messages as wire
from boiler_beam.steps.hash_join.messages import (
    Accumulators,
    Document,
    LookupRequest,
    Member,
    Observed,
    decode_pack,
    encode_packs,
)
from boiler_beam.steps.hash_join.spill import messages_within
from tests.helpers.executors import embedded, partitioned
from tests.helpers.histories import change, changes

USERS: list[Any] = [
    (f"users/u{n}", 1, {"firstName": "A", "lastName": "B", "organization": "all", "hearingAidRequested": n < 9})
    for n in range(5000)
]


def test_a_hot_group_sends_accumulators_and_no_members() -> None:
    plan, sent = HashJoinPlan(compile_plan([OrganizationSummary])), Counter[str]()

    def send(stage: str, message: Any) -> None:
        sent[f"{stage} {type(message).__name__}"] += 1

    observed = [Observed(one.path, one.version, bytes(one.fields)) for one in changes(USERS)]
    index_documents(plan, observed, send)
    assert sent["rows Accumulators"] == 2  # one for each aggregate over users, whatever their number
    assert sent["rows Member"] == 0
    assert sent["rows GroupKeys"] == 1


def test_a_hot_document_travels_once_to_each_partition_of_rows() -> None:
    plan = HashJoinPlan(compile_plan([MeetingSession]))
    location = change("locations/l1", 1, {"latitude": 1.0, "longitude": 2.0, "address": "x"})
    waiting: list[Any] = []
    index_documents(
        plan, [Observed(location.path, 1, bytes(location.fields))], lambda stage, message: waiting.append(message)
    )
    (number,) = [edge.index for edge in plan.edges if edge.edge.name == "location"]
    requests = [LookupRequest("locations/l1", number, [f"m{n}"]) for n in range(10_000)]
    values: list[Member] = []
    documents = [message for message in waiting if isinstance(message, Document)]
    join_level(plan, 1, [*documents, *requests], lambda stage, message: values.append(message))
    (value,) = values
    parts = list(value.parts(8))
    assert len(parts) == 8
    assert sum(len(part.rows) for _, part in parts) == 10_000  # type: ignore[attr-defined]


def test_a_hot_group_is_right_in_any_memory() -> None:
    plan = compile_plan([OrganizationSummary])
    expected = embedded(plan, changes(USERS)).rows
    assert b'"numUsers":5000' in expected["organization_summaries/all"]
    assert partitioned(plan, changes(USERS), 4, limit_bytes=2000).rows == expected


class Guest(bb.DomainModel, collection="guests"):
    name: str


class Room(bb.DomainModel, collection="rooms"):
    host: Ref[Guest]


class Comment(bb.DomainModel, collection="comments"):
    by: Ref[Guest]


class Welcome(bb.ViewModel, collection="welcomes"):
    class Store(bb.Store):
        room: Room = root(Room)
        host: Guest | None = reference("room.host", optional=True, where=lambda guest: guest.name != "Ann")
        comments: dict[str, Comment] = referrers(Comment, by="by", of="host")

    store: Store
    number = aggregate.count("comments")


def test_a_parent_that_is_hidden_or_missing_gives_a_row_no_children() -> None:
    table = [
        *((f"rooms/{name}", 1, {"host": f"guests/{name}"}) for name in ("a", "b", "c")),
        ("guests/a", 1, {"name": "Ann"}),
        ("guests/b", 1, {"name": "Bo"}),
        *((f"comments/{name}", 1, {"by": f"guests/{name}"}) for name in ("a", "b", "c")),
    ]
    rows = partitioned(compile_plan([Welcome]), changes(table)).rows
    assert rows == {f"welcomes/{name}": b'{"number":%d}' % (name == "b") for name in ("a", "b", "c")}


class Podium(bb.ViewModel, collection="podiums"):
    class Store(bb.Store):
        guests: dict[str, Guest] = group(Guest, by="name", order_by="-doc_id", limit=2)

    store: Store

    @view_property
    def first(self) -> list[str]:
        return list(self.store.guests)


def test_the_first_documents_of_a_row_are_found_in_whatever_partition_they_are() -> None:
    table = [(f"guests/{number:03}", 1, {"name": "Ann"}) for number in range(200)]
    rows = partitioned(compile_plan([Podium]), changes(table)).rows
    assert rows == {"podiums/Ann": b'{"first":["199","198"]}'}


def test_packs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_PACK_BYTES", 1000)
    messages = [Observed(f"a/{number}", number, b"x" * (number % 400)) for number in range(200)]
    packs = list(encode_packs([*messages, Observed("a/large", 1, b"y" * 5000)]))
    assert [one for pack in packs for one in decode_pack(pack)][:-1] == messages
    assert max(map(len, packs[:-1])) <= 1000
    assert len(decode_pack(packs[-1])) == 1


@pytest.mark.parametrize("limit_bytes", [1, 500, 1 << 20])
def test_what_belongs_together_comes_in_one_part(limit_bytes: int) -> None:
    messages = [Observed(f"a/{number % 50}", number, b"") for number in range(500)]
    packs = [pack for begin in range(0, 500, 20) for pack in encode_packs(messages[begin : begin + 20])]
    parts = [{one.path for one in part} for part in messages_within(packs, limit_bytes)]
    assert sum(map(len, parts)) == 50
    assert (len([part for part in parts if part]) == 1) is (limit_bytes == 1 << 20)


def test_an_accumulator_goes_to_the_partition_of_its_row() -> None:
    state = Accumulators(0, 0, {f"row{number}": [number] for number in range(100)})
    parts = dict(state.parts(4))
    assert sorted(row for part in parts.values() for row in part.by_row) == sorted(state.by_row)  # type: ignore[attr-defined]
    assert all(wire.partition_of(row, 4) == place for place, part in parts.items() for row in part.by_row)  # type: ignore[attr-defined]
