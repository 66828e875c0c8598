"""Keyed steps, part by part: the documents of rows, logs and tiers, bytes of another version."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.events import Change, DeadLetter, Row, Touch
from boiler_beam.plan import compile_plan
from boiler_beam.samples.meeting import MeetingSession
from boiler_beam.steps.distributed import WireContribution
from boiler_beam.steps.keyed import KeyedView, logs, tiers
from boiler_beam.steps.keyed.cells import HeadCodec, ListLog
from boiler_beam.steps.keyed.logs import Sizes, WeightedLog
from boiler_beam.steps.keyed.messages import (
    CandidateDelta,
    Claim,
    DistinctDelta,
    DocumentDelta,
    DocumentState,
    FirstValues,
    MembershipDelta,
    RankedValuesDelta,
    SubscriptionDelta,
    ValueCountDelta,
)
from boiler_beam.steps.keyed.routing import SHARDS, Key, address, addresses_of_change, is_removal
from boiler_beam.steps.keyed.rows import DocumentKey, KeptDocuments, RowStep, log_of_documents
from boiler_beam.steps.keyed.tiers import TIERS, Bounds, Ranking
from boiler_beam.steps.keyed.wire import decode, encode
from tests.helpers import town
from tests.helpers.histories import changes
from tests.helpers.network import CountedLog, StoredCell, ViewNetwork
from tests.helpers.random_views import view_of

VIEW = KeyedView(compile_plan([MeetingSession]))
EDGES = {edge.edge.name: edge.index for edge in VIEW.edges}
MEETING = b'{"location": "locations/l1", "users": [], "tickets": {}, "status": "closed"}'
LOCATION = b'{"latitude": 0.0, "longitude": 0.0, "address": "one"}'


Entry = tuple[DocumentKey, tuple[int, DocumentState | None]]


def document(sequence: int, fields: bytes | None, *links: tuple[str, ...]) -> DocumentState:
    """A document as rows keep it; None: it is missing."""
    return DocumentState(sequence, None if fields is None else WireContribution(links=links), fields, sequence)


def kept(
    edge: str, path: str, fields: bytes | None, *links: tuple[str, ...], weight: int = 1, sequence: int = 1
) -> Entry:
    return (EDGES[edge], path, sequence), (weight, document(sequence, fields, *links))


ROOT = kept("meeting", "meetings/m1", MEETING, ("locations/l1",), (), ())
PLACE = kept("location", "locations/l1", LOCATION)


def test_s8_a_row_holds_what_it_wants_and_no_more() -> None:
    documents = KeptDocuments(VIEW, dict([ROOT, PLACE, kept("location", "locations/l2", LOCATION)]))
    assert not documents.is_waiting
    assert [one.address for one in documents("location").values()] == ["one"]
    assert list(documents("location")) == ["locations/l1"], "the other one is about to leave"
    assert documents.read == 1 << EDGES["location"] | 1 << EDGES["meeting"], "what says that it is wanted"


@pytest.mark.parametrize(
    ("what", "entries"),
    [
        ("a document in two states", [ROOT, PLACE, kept("location", "locations/l1", LOCATION, sequence=2)]),
        ("less than once", [ROOT, kept("location", "locations/l1", LOCATION, weight=-1)]),
        ("taken away and not yet put", [ROOT, PLACE, ((EDGES["users"], "users/u1", 1), (-1, None))]),
        ("put so often, and not yet what", [ROOT, ((EDGES["location"], "locations/l1", 1), (1, None))]),
        ("wanted, and not answered", [ROOT]),
    ],
)
def test_s8_what_is_on_its_way_is_waited_for(what: str, entries: list[Entry]) -> None:
    assert KeptDocuments(VIEW, dict(entries)).is_waiting, what
    assert KeptDocuments(VIEW, dict(entries[::-1])).is_waiting, what


CHAIN = """
class View(bb.ViewModel, path='out/{room}/to/{id}'):
    class Store(bb.Store):
        e0 = root(Message)
        e1 = reference('e0.room', optional=True)
        e2 = reference('e1.members')
    p_e2 = getter('e2', ('name',))
"""


def test_s8_what_is_about_to_leave_wants_nothing() -> None:
    message, (room, left) = "rooms/1/messages/1", ("rooms/1", "rooms/2")
    kept: dict[DocumentKey, tuple[int, DocumentState | None]] = {
        (0, message, 1): (1, document(1, b'{"author":"guests/1"}', (room,))),
        (1, room, 1): (1, document(1, b"{}", ())),
        (1, left, 1): (1, document(1, b"{}", ("guests/9",))),
    }
    view = KeyedView(compile_plan([view_of(CHAIN)]))
    assert not KeptDocuments(view, kept).is_waiting
    kept[0, message, 1] = 1, document(1, b'{"author":"guests/1"}', (left,))
    assert KeptDocuments(view, kept).is_waiting


def test_s8_that_a_document_is_missing_is_an_answer() -> None:
    documents = KeptDocuments(VIEW, dict([ROOT, kept("location", "locations/l1", None)]))
    assert not documents.is_waiting
    assert documents("location") == {}


# Logs ---------------------------------------------------------------------------------------------------------------

keys = st.integers(0, 40).map(lambda number: bytes([number]))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), keys, st.sampled_from([1, 1, 1, -1, -2, 2])),
        st.tuples(st.just("put"), st.integers(1, 40), st.integers(0, 99)),
        st.tuples(st.just("take the first"), st.integers(1, 20), st.just(0)),
        st.tuples(st.just("first"), st.sampled_from([1, 2, 3, None]), st.just(0)),
    ),
    max_size=60,
)


@given(operations)
def test_s12_tiers_are_a_sorted_list(operations: list[Any]) -> None:
    """Small tiers, so that they run dry, overflow and are refilled; everything is read again from bytes each time."""
    entries, bounds, model = [ListLog() for _ in range(TIERS)], Bounds(), dict[bytes, int]()
    with pytest.MonkeyPatch.context() as small:
        small.setattr(tiers, "_TIMES", 2)
        small.setattr(logs, "_LEAST", 3)
        for kind, one, other in operations:
            ranking = Ranking(entries, bounds, tuple[str], least=3)
            if kind == "first":
                expected = [(key.hex(),) for key in sorted(model) if model[key] > 0][:one]
                found = list(ranking.first(one))
                is_settled = all(weight >= 0 for weight in model.values())  # else fewer may be found until it comes
                assert found == (expected if is_settled else expected[: len(found)])
            several = [(one, other)] if kind == "add" else []
            if kind == "take the first":
                several = [(key, -model[key]) for key in sorted(model) if model[key] > 0][:one]
            if kind == "put":  # many at once
                several = [(bytes([number]), 1) for number in random.Random(other).sample(range(41), one)]
            for key, weight in several:
                ranking.add(key, weight, (key.hex(),))
                model[key] = model.get(key, 0) + weight
            bounds = msgspec.msgpack.decode(msgspec.msgpack.encode(bounds), type=Bounds)


def test_s12_the_first_ones_of_many_are_read_from_the_first_tier() -> None:
    entries, bounds = [ListLog() for _ in range(TIERS)], Bounds()
    ranking = Ranking(entries, bounds, int, least=4)
    for number in range(2_000):
        ranking.add(number.to_bytes(2, "big"), 1, number)
    assert list(ranking.first(2)) == [0, 1]
    assert len(entries[0].entries) == 8
    for number in range(300):
        assert list(ranking.first(2)) == [number, number + 1]
        ranking.add(number.to_bytes(2, "big"), -1, number)
        assert len(entries[0].entries) <= 130, "what is gone is not kept for ever"
    assert list(ranking.first(None)) == list(range(300, 2_000))


WEIGHTS = tuple[str, int, None]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([-1, 1])), max_size=40))
def test_s12_a_log_of_weights_adds_up_and_stays_small(changes: list[tuple[str, int]]) -> None:
    log, sizes, model = ListLog(), Sizes(), dict[str, int]()
    with pytest.MonkeyPatch.context() as small:
        small.setattr(logs, "_LEAST", 4)
        for row, weight in changes:
            WeightedLog(log, sizes, WEIGHTS).add(row, weight, None)
            model[row] = model.get(row, 0) + weight
            assert len(log.entries) == sizes.kept + sizes.added
            assert len(log.entries) <= 4 + 2 * 3
    assert WeightedLog(log, sizes, WEIGHTS).sum() == {row: (weight, None) for row, weight in model.items() if weight}


def test_s12_a_log_is_read_and_rewritten_seldom() -> None:
    log, sizes = CountedLog(), Sizes()
    weights = WeightedLog(log, sizes, WEIGHTS)
    for number in range(4_000):
        weights.add(f"r{number}", 1, None)
    assert log.entries_read <= 2 * 4_000, "it is looked at again when it is twice as long"
    assert log.entries_written == 4_000, "nothing in it is gone: it is not rewritten"
    for number in range(3_000):
        weights.add(f"r{number}", -1, None)
    assert len(weights.sum()) == 1_000
    assert len(log.entries) == 1_000
    assert log.entries_written <= 7_000 + 2 * 1_000


def test_s12_rows_that_subscribe_to_one_document_are_spread() -> None:
    view = KeyedView(compile_plan([town.MessageCard]))
    edge = view.by_name["config"].index
    found = {address(view, SubscriptionDelta(edge, "config/board", f"r{number}", 1, 1)) for number in range(200)}
    assert len(found) == SHARDS
    assert found == set(addresses_of_change(view, "config/board"))


def test_keys_are_told_apart_by_their_parts() -> None:
    keys = [Key("a"), Key("a", "b"), Key("a", b"b"), Key("a", 0), Key("a\0b"), Key("a", "\0b"), Key("a\0", "b")]
    assert len({key.encode() for key in keys}) == len(keys)
    assert [Key.decode(key.encode()) for key in keys] == keys


def test_documents_may_leave_before_they_come() -> None:
    network = ViewNetwork(compile_plan([MeetingSession]).views[0], compile_plan([MeetingSession]))
    cell = network.cell("Row", Key("m1"))
    rows, one, key = log_of_documents(cell, Sizes()), document(1, b"{}"), (0, "a/1", 1)
    rows.add(key, -1, None)
    assert rows.sum() == {key: (-1, None)}
    rows.add(key, 2, one)
    assert rows.sum()[key][0] == 1
    rows.add(key, 1, one)
    rows.add(key, -1, None)
    ((weight, state),) = rows.sum().values()
    assert state is not None
    assert (weight, state.fields) == (1, b"{}"), "one path of two is left"
    rows.add(key, -1, None)
    assert rows.sum() == {}
    bare = msgspec.structs.replace(one, fields=None)
    for first, second in ((one, bare), (bare, one)):
        rows.add(key, 1, first)
        rows.add(key, 1, second)
        ((weight, state),) = rows.sum().values()
        assert state is not None
        assert (weight, state.fields) == (2, b"{}"), "one was sent without fields, before they came"
        rows.add(key, -2, None)
    missing = document(2, None)
    rows.add((0, "a/2", 2), -1, None)
    rows.add((0, "a/2", 2), 2, missing)
    assert rows.sum()[0, "a/2", 2][1] is not None, "that a document is missing is an answer"


def test_a_row_is_dirty_until_it_is_rendered_and_documents_are_counted() -> None:
    """Who renders it is told by each message: it may have lost the timer of the one before."""
    network, known = ViewNetwork(compile_plan([MeetingSession]).views[0], compile_plan([MeetingSession])), []
    network.count_documents = lambda path, number: known.append((path, number))  # type: ignore[method-assign]
    meeting = {"location": "locations/l1", "users": [], "tickets": {}, "status": "closed"}
    place = {"latitude": 0.0, "longitude": 0.0, "address": "one"}
    history = [("meetings/m", 1, meeting), ("locations/l1", 2, place), ("locations/l1", 3, {**place, "address": "two"})]
    step, cell = network.steps["Row"], network.cell("Row", Key("m"))
    assert isinstance(step, RowStep)
    told, real = [], step.take
    step.take = lambda cell, key, message: told.append(real(cell, key, message))  # type: ignore[method-assign, func-returns-value]
    for change in changes(history):
        network.observe(change)
        network.settle()
    assert (all(told), len(told) > 3) == (True, True)
    assert step.render(cell, "m")
    network.observe(changes([("locations/l1", 4, None)])[0])
    network.settle()
    assert told[-1] is True
    assert known == [("meetings/m", 1), ("locations/l1", 1), ("locations/l1", -1)]


def test_s11_of_two_claims_of_a_row_the_later_one_stands_in_whatever_order_they_come() -> None:
    network = ViewNetwork(compile_plan([town.Profile]).views[0], compile_plan([town.Profile]))
    step, path = network.steps["Claim"], "nicks/a/about/profile"
    for sequence, fields in ((7, b'{"new":1}'), (5, b'{"old":1}'), (9, None), (8, b'{"gone":1}')):
        step.take(network.cell("Claim", Key(path)), Key(path), Claim(path, "1", sequence, fields, sequence))
    assert [(row.fields, row.stamp.version) for row in network.emitted] == [(b'{"new":1}', 7), (None, 9)]


def test_s2_s3_what_is_gone_is_forgotten_and_an_invalid_version_is_not() -> None:
    network = ViewNetwork(compile_plan([MeetingSession]).views[0], compile_plan([MeetingSession]))
    meeting = {"location": "locations/l1", "users": [], "tickets": {}, "status": "closed"}
    history = changes([
        ("meetings/m", 1, meeting), ("meetings/m", 4, None),
        ("locations/l1", 5, None), ("locations/l2", 5, None), ("locations/l2", 6, {"latitude": "x"}),
    ])  # fmt: skip
    for change in history:
        network.observe(change)
        network.settle()
    network.render()

    def left(horizon: int) -> set[str]:
        network.expire(horizon)
        assert all(not any(log.entries for log in cell.logs) for cell in network.cells.values() if cell.head is None)
        return {key.name for (_, key), cell in network.cells.items() if cell.head is not None}

    assert left(4) == {"meetings/m", "m", "locations/l1", "locations/l2"}
    assert left(5) == {"locations/l1", "locations/l2"}, "a change of the time itself is not too old"
    assert left(6) == {"locations/l2"}


def test_s3_where_something_is_removed_the_cell_is_looked_at_again() -> None:
    there = DocumentState(1, WireContribution(), None, 1)
    removing = [
        changes([("a/1", 1, None)])[0],
        SubscriptionDelta(0, "k", "r", -1, 1),
        CandidateDelta(0, "r", "a/1", -1, there, 1),
        ValueCountDelta(0, "r", b"1", -2, 1),
        DistinctDelta(0, "r", -1, 1),
        RankedValuesDelta(0, "r", "a/1", [(1, 1), (2, -1)], 1),
        MembershipDelta(0, "r", "a/1", 1, 1, None, [], None, 1),
        Claim("p/1", "r", 1, None, 1),
        DocumentDelta(0, "k", "a/1", there, None, 1),
        FirstValues(0, "r", [], 1, 1),
    ]
    adding = [
        changes([("a/1", 1, {})])[0],
        SubscriptionDelta(0, "k", "r", 1, 1),
        CandidateDelta(0, "r", "a/1", 1, there, 1),
        ValueCountDelta(0, "r", b"1", 2, 1),
        DistinctDelta(0, "r", 1, 1),
        RankedValuesDelta(0, "r", "a/1", [(1, 1)], 1),
        MembershipDelta(0, "r", "a/1", 1, None, document(1, b"{}"), [], None, 1),
        Claim("p/1", "r", 1, b"{}", 1),
        DocumentDelta(0, "k", "a/1", None, there, 1),
        FirstValues(0, "r", [7], 1, 1),
    ]
    assert [is_removal(message) for message in removing] == [True] * len(removing)
    assert [is_removal(message) for message in adding] == [False] * len(adding)


# Bytes --------------------------------------------------------------------------------------------------------------


def test_state_of_another_version_is_refused() -> None:
    cell, codec = StoredCell(0), HeadCodec(Sizes)
    assert codec.read(cell) == Sizes()
    codec.write(cell, Sizes(3, 1))
    assert codec.read(cell) == Sizes(3, 1)
    assert cell.head is not None
    cell.head = b"\x09" + cell.head[1:]
    with pytest.raises(ValueError, match="expected state of format 5, got 9: it was made by another version"):
        codec.read(cell)


def test_messages_of_another_version_are_refused() -> None:
    elements = [
        Change("a/1", 7, msgspec.Raw(b'{"a":1}')),
        SubscriptionDelta(0, "k", "r", 1, 3),
        Touch("View", "rows/1", 7),
        Row("View", "rows/1", 1, 2, 3, b"{}"),
        Row("View", "rows/1", 1, 2, 3, None),
        DeadLetter(stage="s", code="c", message="m"),
    ]
    for element in elements:
        data = encode(element)
        assert decode(data) == element
        with pytest.raises(ValueError, match="expected a message of format 3, got 9: another version sent it"):
            decode(b"\x09" + data[1:])
