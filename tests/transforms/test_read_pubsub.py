"""Change events of Pub/Sub on Beam: what becomes of messages, and what Dataflow is told to read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.beam
beam = pytest.importorskip("apache_beam")

from apache_beam.io.gcp.pubsub import PubsubMessage  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402

from boiler_beam.events import Change, DeadLetter, Touch  # noqa: E402
from boiler_beam.samples.meeting import MeetingSession  # noqa: E402
from tests.helpers import programs  # noqa: E402
from transforms import ComputeRows, DecodeChanges, ReadChangesFromPubSub  # noqa: E402

MESSAGES = [
    b'{"boiler_beam": 1, "path": "users/u1", "version": 7, "fields": {"name": "Ann"}}',
    b'{"boiler_beam": 1, "path": "others/o1", "version": 8, "fields": {}}',
    b'{"boiler_beam": 1, "touch": {"view": "MeetingSession", "path": "meeting_sessions/m1", "read_time": 9}}',
    b"nonsense",
]


@pytest.mark.parametrize("is_bytes", [False, True])
def test_messages_become_events_and_dead_letters(is_bytes: bool) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        messages = pipeline | beam.Create(MESSAGES if is_bytes else [PubsubMessage(data, {}) for data in MESSAGES])
        found = messages | DecodeChanges()
        assert [one.element_type for one in found] == [Change, DeadLetter, Touch]
        letters = found.dead_letters | "Letters" >> beam.Map(lambda letter: (letter.code, letter.source))
        assert_that(letters, equal_to([("malformed_message", "pubsub")]), label="dead letters")
        expected = [Change("users/u1", 7, b'{"name": "Ann"}'), Change("others/o1", 8, {})]
        assert_that(found.changes, equal_to(expected), label="changes")
        touches = [Touch("MeetingSession", "meeting_sessions/m1", 9)]
        assert_that(found.touches, equal_to(touches), label="touches")


def test_other_elements_are_refused() -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    pipeline | beam.Create([{"path": "users/u1"}]) | DecodeChanges()
    with pytest.raises(Exception, match="expected bytes or PubsubMessage, got dict; fix: map the elements"):
        pipeline.run()


@pytest.mark.parametrize("is_timed", [False, True])
def test_dataflow_reads_by_its_own_service(is_timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    arguments = [
        "--runner=DataflowRunner",
        "--dry_run=True",
        "--project=project",
        "--region=r",
        "--streaming",
        "--no_auth",
    ]
    pipeline = beam.Pipeline(options=PipelineOptions([*arguments, "--temp_location=gs://bucket/temp"]))
    changes = pipeline | "Live" >> ReadChangesFromPubSub(
        "projects/project/subscriptions/views", timestamp_attribute="event_time" if is_timed else None
    )
    changes | ComputeRows(MeetingSession)
    parts: Any = pipeline.run()
    reads = [
        one
        for one in parts.job.proto_pipeline.components.transforms.values()
        if one.spec.urn == "beam:transform:pubsub_read:v1"
    ]
    from apache_beam.portability.api import beam_runner_api_pb2

    (payload,) = [beam_runner_api_pb2.PubSubReadPayload.FromString(one.spec.payload) for one in reads]
    assert (payload.subscription, payload.id_attribute) == ("projects/project/subscriptions/views", "event_id")
    assert (payload.timestamp_attribute, payload.with_attributes) == ("event_time" if is_timed else "", True)


def test_a_dry_run_makes_the_job_of_a_stream(
    pubsub_emulator: str, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.cloud import pubsub_v1

    topic, subscription = f"projects/{project}/topics/changes", f"projects/{project}/subscriptions/views"
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        publisher.create_topic(name=topic)
        subscriber.create_subscription(name=subscription, topic=topic)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    (tmp_path / "snapshot.jsonl").write_text("")
    given = ["--source", "file:snapshot.jsonl", "--source", f"pubsub:{subscription}", "--sink", f"pubsub:{topic}"]
    letters = ["--dead_letter", f"pubsub:{topic}"]
    cloud = ["--project=project", "--region=r", "--temp_location=gs://bucket/temp", "--no_auth"]
    command = [sys.executable, "-m", "pipelines.meeting", *given, "--runner", "DataflowRunner", "--dry_run", *cloud]
    done = programs.run([*command, *letters], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "DataflowRunner: built the job; nothing was submitted" in done.stderr
    refused = programs.run(command, tmp_path)
    assert refused.returncode == 2
    assert "--dead_letter jsonl:dead_letters.jsonl: expected a target that many workers write to" in refused.stderr
