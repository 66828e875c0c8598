"""Firestore as a sink: rows are read as they were written; generations (S13), touches (S16) and the lease (S18)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import grpc
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boiler_beam.connectors import Control, open_sink, open_source
from boiler_beam.connectors.firestore import sink as module
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.control import read_controls
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.firestore.protos import RunQueryRequest
from boiler_beam.connectors.firestore.sink import FirestoreSink, guarded
from boiler_beam.connectors.firestore.values import wire_of_fields
from boiler_beam.engine import backfill
from boiler_beam.engine.follow import Settings, follow
from boiler_beam.engine.state import SqliteState
from boiler_beam.errors import UsageError
from boiler_beam.events import DeadLetter, EncodedRow, Stamp, Touch, View
from boiler_beam.plan import compile_plan
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary
from boiler_beam.values import INT64_MAX, decode_wire, encode_wire
from tests.helpers.faults import Fault, Proxy
from tests.helpers.firestore_rows import row, rows, tombstones
from tests.helpers.pubsub import Channel
from tests.helpers.servers import wait_until

ONE = View("One", "ones/{id}", ("a", "b"))
CONTROL = Control(generation=1, fingerprint="f")
STREAMED = Control(generation=1, fingerprint="f", holder="s1")


@pytest.fixture(name="proxy")
def _proxy(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(firestore_emulator) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        yield proxy


def opened(project: str) -> FirestoreSink:
    sink = open_sink(f"firestore:{project}")
    assert isinstance(sink, FirestoreSink)
    sink.options = replace(sink.options, pace_seconds=0.0)
    return sink


def put(
    sink: FirestoreSink,
    some: Sequence[EncodedRow],
    deleted: Sequence[EncodedRow] = (),
    controls: Mapping[str, Control] | None = None,
    view: View = ONE,
) -> tuple[int, Sequence[DeadLetter]]:
    with sink.backfill([view]) as writer:
        for one in some:
            writer.write(view, one)
        for one in deleted:
            writer.delete(view, one.path, one.stamp)
        letters = writer.commit({"One": CONTROL} if controls is None else controls)
    return writer.touched, letters or []


def touches(sink: FirestoreSink, view: str) -> list[dict[str, Any]]:
    client = sink.client
    request = RunQueryRequest(parent=f"{client.root}_boiler/{view}")
    request.structured_query.from_.add(collection_id="touches")
    answers = client.call("RunQuery", request)
    found = [wire_of_fields(one.document.fields, client.root) for one in answers if one.HasField("document")]
    return sorted(found, key=lambda one: one["path"])


def test_a_new_sink_is_empty(proxy: Proxy, project: str) -> None:
    sink = opened(project)
    assert sink.controls() == {}
    assert list(sink.current_rows(ONE)) == []


def test_a_backfill_stands_after_its_commit(proxy: Proxy, project: str) -> None:
    """Rows carry their stamps (S13), and each write has a precondition (S17)."""
    sink = opened(project)
    put(sink, [row("ones/1", 1, a=1), row("ones/2", 1, a=None, b=[1.5])])
    with sink.backfill([ONE]) as writer:
        writer.write(ONE, row("ones/3", 1, a=1))
    assert sorted(opened(project).current_rows(ONE)) == [row("ones/1", 1, a=1), row("ones/2", 1, a=None, b=[1.5])]
    put(sink, [row("ones/1", 5, a=9)], deleted=[row("ones/2", 5)])
    assert list(opened(project).current_rows(ONE)) == [row("ones/1", 5, a=9)]
    assert set(tombstones(sink.client, "ones/2")) == {"ones/2"}
    assert sink.controls() == {"One": CONTROL}


_names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6).map(lambda name: f"p{name}")
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-INT64_MAX, INT64_MAX), st.floats(), st.binary(max_size=6), _names
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(_scalars, max_size=3), st.dictionaries(_names, inner, max_size=3)),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(some=st.lists(st.dictionaries(_names, _values, max_size=4), min_size=1, max_size=8))
def test_fields_come_back_as_they_were(proxy: Proxy, project: str, some: list[dict[str, Any]]) -> None:
    version = len(proxy.calls) + sum(proxy.calls.values())
    given_rows = [EncodedRow(f"ones/{place}", Stamp(1, version, 0), encode_wire(one)) for place, one in enumerate(some)]
    sink = opened(project)
    assert put(sink, given_rows) == (0, [])
    client = Client(project)
    found = rows(client, *[one.path for one in given_rows])
    client.close()
    assert [found[one.path] for one in given_rows] == given_rows
    assert all(decode_wire(one.fields or b"") is not None for one in found.values())


@pytest.mark.parametrize(
    ("template", "paths", "others"),
    [
        ("ones/{id}", ["ones/1", "ones/2"], ["ones/1/ones/3", "twos/4"]),
        ("users/{user}/inbox/{id}", ["users/u1/inbox/1", "users/u2/inbox/1"], ["inbox/1", "orgs/o/inbox/1"]),
        ("users/{user}/screens/home", ["users/u1/screens/home"], ["users/u1/screens/other"]),
        ("shops/s1/shelves/{id}", ["shops/s1/shelves/1"], ["shops/s2/shelves/1"]),
        ("a/{x}/b/{y}/c/{z}", ["a/1/b/2/c/3"], ["a/1/c/3", "b/2/c/3"]),
    ],
)
def test_the_rows_of_a_template(proxy: Proxy, project: str, template: str, paths: list[str], others: list[str]) -> None:
    view = View("One", template, ("x",))
    sink = opened(project)
    put(sink, [row(path, 1, x=1) for path in paths + others], view=view)
    assert sorted(one.path for one in sink.current_rows(view)) == paths


def test_many_rows_are_read_in_pages_that_may_break(
    proxy: Proxy, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 100)
    sink = opened(project)
    sink.wait = lambda seconds: None
    put(sink, [row(f"ones/{place}", 1, a=place) for place in range(450)])
    fault = Fault(grpc.StatusCode.UNAVAILABLE, answers=30)
    proxy.policy = lambda call: fault if call.method == "RunQuery" and call.number % 3 == 1 else None
    found = list(sink.current_rows(ONE))
    assert len(found) == len({one.path for one in found}) == 450


def test_rows_that_cannot_be_read_are_told(proxy: Proxy, project: str) -> None:
    proxy.policy = lambda call: Fault(grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(UsageError, match=r"to read the rows of One, .* fix: grant the role"):
        list(opened(project).current_rows(ONE))


def test_a_row_that_is_refused_is_a_dead_letter(proxy: Proxy, project: str) -> None:
    touched, letters = put(opened(project), [row("ones/1", 1, a=1), row("ones/2", 1, **{"": 1})])
    assert touched == 0
    assert [(letter.path, letter.stage) for letter in letters] == [("ones/2", "write")]
    with opened(project).stream([ONE]) as writer:
        found = writer.write([(ONE, row("ones/3", 1, a=1)), (ONE, row("ones/4", 1, **{"": 1}))])
    assert [letter.path for letter in found or []] == ["ones/4"]
    assert [one.path for one in opened(project).current_rows(ONE)] == ["ones/1", "ones/3"]


# Streams --------------------------------------------------------------------------------------------------------------


def test_a_stream_holds_the_lease_until_its_end(proxy: Proxy, project: str) -> None:
    """One program feeds a sink in one generation, by a lease (S18)."""
    first, second = opened(project), opened(project)
    first.options = replace(first.options, renew_seconds=0.05)
    second.options = replace(second.options, lapse_seconds=600)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        before = renewed(first)
        wait_until(lambda: renewed(first) != before, "a renewal")

    second.wait = wait
    with first.stream([ONE]) as writer:
        writer.control({"One": STREAMED})
        writer.write([(ONE, row("ones/1", 1, a=1))])
        with pytest.raises(UsageError, match="only writer of One"), second.stream([ONE]) as late:
            late.control({"One": fed_by("s2", 2)})
        writer.write([(ONE, row("ones/1", 2, a=2))])
    with second.stream([ONE]) as late:
        late.control({"One": fed_by("s2", 2)})
    assert len(waits) == 1
    assert second.controls()["One"].holder == "s2"


def renewed(sink: FirestoreSink) -> int:
    return read_controls(sink.client)["One"].updated


def fed_by(holder: str, generation: int) -> Control:
    return Control(generation=generation, fingerprint="f", holder=holder)


def test_what_a_stream_holds_back_is_told(proxy: Proxy, project: str) -> None:
    """A path is written at most once a second; the skipped rows are in `held` (S17)."""
    sink = opened(project)
    sink.options = replace(sink.options, pace_seconds=3600.0)
    with sink.stream([ONE]) as writer:
        writer.may_hold = True
        writer.write([(ONE, row("ones/1", 1, a=1))])
        assert writer.held == frozenset()
        writer.write([(ONE, row("ones/1", 2, a=2)), (ONE, row("ones/2", 2, a=2))])
        assert writer.held == {"ones/1"}
    assert {one.path: one.stamp.version for one in sink.current_rows(ONE)} == {"ones/1": 1, "ones/2": 2}


def test_a_backfill_beside_a_stream_touches(proxy: Proxy, project: str) -> None:
    """The stream writes one of the rows as the backfill computed it, and not the other one, which is drift (S16)."""
    sink = opened(project)
    two = View("Two", "twos/{id}", ("a",))
    with opened(project).stream([ONE]) as writer:
        writer.control({"One": STREAMED})
        writer.write([(ONE, row("ones/1", 3, a=1)), (ONE, row("ones/2", 3, a=1))])
        asked: list[Touch] = []

        def look(seconds: float) -> None:
            assert touches(sink, "One") == [{"path": "ones/1", "readTime": 9}, {"path": "ones/2", "readTime": 9}]
            standing = {one.path: one.stamp.version for one in sink.current_rows(ONE)}
            assert standing == {"ones/1": 3, "ones/2": 3}, "a backfill writes no rows of a stream"
            asked.extend(writer.touches())
            writer.write([(ONE, row("ones/1", 9, a=5))])
            writer.touched()

        sink.wait = look
        with sink.backfill([ONE, two]) as back:
            back.write(ONE, row("ones/1", 9, a=5))
            back.delete(ONE, "ones/2", Stamp(1, 9, 0))
            back.write(two, row("twos/1", 9, a=5))
            back.commit({"One": CONTROL, "Two": CONTROL})
        assert sorted(asked, key=lambda one: one.path) == [Touch("One", "ones/1", 9), Touch("One", "ones/2", 9)]
        assert (back.touched, back.drift, touches(sink, "One")) == (2, 1, [])
        assert list(sink.current_rows(two)) == [row("twos/1", 9, a=5)]
        assert sink.controls() == {"One": STREAMED, "Two": CONTROL}
    touched, _ = put(sink, [row("ones/1", 9, a=5)], controls={"One": backfilled_at(9)})
    assert touched == 0
    assert sink.controls()["One"] == backfilled_at(9)
    assert rows(sink.client, "ones/1")["ones/1"].stamp == Stamp(1, 9, 0)


def test_s16_a_backfill_beside_a_stream_on_many_machines_asks_by_its_topic(
    proxy: Proxy, pubsub_emulator: str, channel: Channel, project: str
) -> None:
    """A stream on Beam renews no lease. It writes one row as computed, newer rows from its state, and not the last one."""
    sink, stream = opened(project), guarded(opened(project).client, replace(WriteOptions(), pace_seconds=0.0))
    fed = replace_control(STREAMED, topic=channel.topic)
    with sink.stream([ONE]) as writer:  # a job's start: it leaves at once
        writer.control({"One": fed})
    stream.write([row(f"ones/{one}", 3, a=1) for one in "123"])
    source = open_source(channel.source)
    source.prepare([])
    batches = source.follow(None)
    asked: list[Any] = []

    def look(seconds: float) -> None:
        while len(asked) < 3:
            events, position = next(batches)
            asked.extend(events)
        source.acknowledge(position)
        stream.write([row("ones/1", 9, a=5), row("ones/2", 10, a=7), row("ones/3", 9, a=1)])

    sink.wait = look
    with sink.backfill([ONE]) as back:
        for one in "123":
            back.write(ONE, row(f"ones/{one}", 9, a=5))
        back.commit({"One": CONTROL})
    assert sorted(asked, key=lambda one: one.path) == [Touch("One", f"ones/{one}", 9) for one in "123"]
    assert (back.touched, back.drift, touches(sink, "One"), sink.controls()["One"]) == (3, 1, [], fed)
    batches.close()  # type: ignore[attr-defined]

    sink.options = replace(sink.options, asks_topics=False)  # it ended for good
    assert put(sink, [row("ones/3", 11, a=5)]) == (0, [])
    assert (rows(sink.client, "ones/3")["ones/3"].stamp, sink.controls()) == (Stamp(1, 11, 0), {"One": CONTROL})


def replace_control(control: Control, **changed: Any) -> Control:
    return msgspec.structs.replace(control, **changed)


def backfilled_at(read_time: int) -> Control:
    return replace_control(STREAMED, backfilled=read_time)


def test_a_backfill_of_another_version_of_the_view_is_refused_beside_a_stream(proxy: Proxy, project: str) -> None:
    with opened(project).stream([ONE]) as writer:
        writer.control({"One": STREAMED})
        with pytest.raises(UsageError, match=r"expected the stream that writes One to run the same view .* fix: stop"):
            put(opened(project), [row("ones/1", 1, a=1)], controls={"One": Control(generation=2, fingerprint="g")})
    assert list(opened(project).current_rows(ONE)) == []


def test_a_stream_beside_a_backfill_is_refused(proxy: Proxy, project: str) -> None:
    """Of two programs that feed one sink the second refuses, by the lease (S18)."""
    sink = opened(project)
    stream = opened(project)
    refused = []

    def policy(call: Any) -> Fault | None:
        if call.method == "BatchGetDocuments" and not refused:
            refused.append(True)
            return Fault(before=lambda: refused.append(begin()))
        return None

    def begin() -> bool:
        proxy.policy = lambda call: None
        stream.wait = lambda seconds: backfill_lease[0].renew()
        with pytest.raises(UsageError, match="got a backfill that writes it"), stream.stream([ONE]) as writer:
            writer.control({"One": fed_by("s1", 2)})
        return False

    backfill_lease: list[Any] = []
    made = sink._lease
    sink._lease = lambda: backfill_lease.append(made()) or backfill_lease[0]  # type: ignore[method-assign]
    proxy.policy = policy
    put(sink, [row("ones/1", 1, a=1)])
    assert refused == [True, False]
    assert list(sink.current_rows(ONE)) == [row("ones/1", 1, a=1)]


# Engines --------------------------------------------------------------------------------------------------------------


def meeting(sink: FirestoreSink) -> dict[str, Any]:
    plan = compile_plan([MeetingSession, OrganizationSummary])
    return {
        one.path: (one.stamp.generation, decode_wire(one.fields or b""))
        for view in plan.views
        for one in sink.current_rows(view.target)
    }


def test_backfills_and_streams_of_the_meeting_room(proxy: Proxy, project: str, tmp_path: Any) -> None:
    """Every executor writes the same rows; the second time, in the same generation (S13), nothing is written (S14)."""
    plan, letters = compile_plan([MeetingSession, OrganizationSummary]), []
    source = [open_source("sample:")]
    sink = opened(project)
    report = backfill(plan, source, sink, letters.append)
    computed = meeting(sink)
    assert report.rows == len(computed) > 3
    before = replace(sink.counts)
    backfill(plan, source, sink, letters.append)
    assert (sink.counts.writes, sink.counts.deletes) == (before.writes, before.deletes)
    for runs in range(2):
        streamed = opened(project)
        with closing(SqliteState(str(tmp_path / "state.db"))) as state:
            follow(plan, source, streamed, None, state, Settings(coalesce_seconds=0.0))
        assert meeting(streamed) == {path: (2, fields) for path, (_, fields) in computed.items()}
        assert bool(streamed.counts.writes) == (runs == 0)
    assert letters == []
