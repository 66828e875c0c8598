"""A topic as a sink: the rows of a stream as messages, which other programs and other views can read."""

from __future__ import annotations

from contextlib import closing

import msgspec
import pytest

import boiler_beam as bb
from boiler_beam import root, view_property
from boiler_beam.connectors import open_sink, open_source
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.connectors.pubsub.publisher import publish_touches
from boiler_beam.engine.follow import Settings, follow
from boiler_beam.engine.state import State
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, Stamp, Touch, View
from boiler_beam.plan import compile_plan
from boiler_beam.samples.meeting import MeetingSession
from boiler_beam.values import decode_fields
from tests.helpers.pubsub import Channel
from tests.helpers.servers import patience

VIEW = View("Session", "sessions/{id}", ("name",))


class Session(bb.DomainModel, collection="meeting_sessions"):
    address: str


class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        session: Session = root(Session)

    store: Store

    @view_property
    def where(self) -> str:
        return self.store.session.address.upper()


def test_rows_are_messages_once_write_is_back(channel: Channel) -> None:
    rows = [EncodedRow(f"sessions/{one}", Stamp(2, 7, 8), b'{"name":"x"}') for one in range(1500)]
    rows.append(EncodedRow("sessions/gone", Stamp(2, 9, 9), None))
    sink = open_sink(channel.sink)
    with sink.stream([VIEW]) as writer:
        writer.control({})
        writer.write([(VIEW, row) for row in rows])
        found = {msgspec.json.decode(message.data)["path"]: message for message in channel.pulled(1501)}
    assert sorted(found) == sorted(row.path for row in rows)
    message = msgspec.json.decode(found["sessions/7"].data)
    assert message == {
        "boiler_beam": 1,
        "path": "sessions/7",
        "version": 7,
        "fields": {"name": "x"},
        "view": "Session",
        "generation": 2,
        "seq": 8,
        "event_id": message["event_id"],
        "event_time": "1970-01-01T00:00:00.000007Z",
    }
    assert found["sessions/7"].attributes["event_id"] == message["event_id"]
    assert found["sessions/7"].attributes["collection"] == "sessions"
    assert msgspec.json.decode(found["sessions/gone"].data)["fields"] is None
    assert (sink.controls(), list(sink.current_rows(VIEW)), sink.keeps_controls) == ({}, [], False)


def test_a_view_of_the_rows_of_a_view(channel: Channel) -> None:
    first = compile_plan([MeetingSession])
    follow(first, [open_source("sample:")], open_sink(channel.sink), None, State(), Settings())
    second, sink = compile_plan([Card]), MemorySink()
    rows = open_source(channel.source)
    settings, waiting = Settings(coalesce_seconds=0, from_empty=True), patience("the row")

    def is_there() -> bool:
        next(waiting)
        return "cards/m1" in sink.written

    follow(second, [rows], sink, None, State(), settings, should_stop=is_there)
    row = sink.written["cards/m1"]
    assert row.fields is not None
    assert decode_fields(row.fields)["where"].isupper()


def test_s16_touches_come_to_the_source(channel: Channel) -> None:
    touches = [Touch("Session", f"sessions/{one}", 7) for one in range(3)]
    opened = open_source(channel.source)
    opened.prepare([])
    assert publish_touches(channel.topic, touches) == 3
    found: set[object] = set()
    with closing(opened.follow(None)) as following:  # type: ignore[type-var]
        for (events, position), _ in zip(following, patience("the touches"), strict=False):
            opened.acknowledge(position)
            found.update(map(repr, events))
            if len(found) >= 3:
                break
    assert found == set(map(repr, touches))


def test_a_backfill_is_refused(channel: Channel) -> None:
    with pytest.raises(UsageError, match="expected a sink that stores rows, got a topic; fix: --mode stream"):
        open_sink(channel.sink).backfill([VIEW])


def test_a_topic_that_is_not_there(pubsub_emulator: str, project: str) -> None:
    topic = f"projects/{project}/topics/none"
    create = f"gcloud pubsub topics create none --project={project}"
    override = f"gcloud needs CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=http://{pubsub_emulator}/"
    said = rf"got NOT_FOUND: .*; fix: {create} \({override}\)"
    with pytest.raises(UsageError, match=said), open_sink(f"pubsub:{topic}").stream([VIEW]):
        pass
    with pytest.raises(UsageError, match=said):
        publish_touches(topic, [Touch("Session", "sessions/1", 7)])


@pytest.mark.parametrize("rest", ["", "topic", "projects/p/subscriptions/some", "projects/p/topics/x"])
def test_addresses_that_are_none(rest: str) -> None:
    with pytest.raises(UsageError, match="expected pubsub:projects/PROJECT/topics/NAME, got"):
        open_sink(f"pubsub:{rest}")
