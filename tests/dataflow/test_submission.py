"""What is sent to Dataflow, taken by a local endpoint and checked against its discovery document."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = [pytest.mark.beam, pytest.mark.slow]

from pipelines.deploy import files  # noqa: E402
from pipelines.deploy.deployment import Deployment, launch_body  # noqa: E402
from tests.dataflow.conftest import BUCKET, PROJECT, ROOT  # noqa: E402
from tests.helpers import programs  # noqa: E402
from tests.helpers.dataflow import LocalDataflow  # noqa: E402
from tests.helpers.discovery import problems  # noqa: E402

STREAM = f"pubsub:projects/{PROJECT}/subscriptions/meeting"
BEAM = [
    "--runner=DataflowRunner", f"--project={PROJECT}", "--region=us-central1", f"--temp_location=gs://{BUCKET}/temp",
    f"--staging_location=gs://{BUCKET}/staging", "--no_save_main_session",
]  # fmt: skip


def run(folder: Path, local: LocalDataflow, *arguments: str) -> str:
    command = [sys.executable, "-m", "pipelines.meeting", "--sink", f"firestore:{PROJECT}", *BEAM, *arguments]
    done = programs.run(command, folder, {**os.environ, **local.cloud(), "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return done.stderr


def post(local: LocalDataflow, path: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        local.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_submitted_job_is_as_the_api_describes_it(tmp_path: Path, local: LocalDataflow, cloud: object) -> None:
    arguments = ["--source", "sample:", "--source", STREAM, "--max_num_workers=3", "--enable_streaming_engine"]
    said = run(tmp_path, local, *arguments, f"--dataflow_endpoint={local.address}", "--job_name=meeting")
    assert "DataflowRunner: submitted the job job-1" in said
    (job,) = local.jobs
    assert local.problems == []
    assert (job["name"], job["type"]) == ("meeting", 2), "JOB_TYPE_STREAMING, by its number"
    (pool,) = job["environment"]["workerPools"]
    assert int(pool["autoscalingSettings"]["maxNumWorkers"]) == 3
    staged = [one["location"] for one in pool.get("packages", [])]
    assert any(one.endswith("pipeline.pb") for one in staged) or any(
        "pipeline.pb" in one for one in local.storage.names(BUCKET)
    )


def test_a_classic_template_is_written(tmp_path: Path, local: LocalDataflow, cloud: object) -> None:
    for kind, sources in (
        ("streaming", ["--source", "sample:", "--source", STREAM]),
        ("backfill", ["--source", "sample:"]),
    ):
        run(tmp_path, local, *sources, f"--template_location=gs://{BUCKET}/templates/meeting/classic/{kind}")
        job = json.loads(local.storage.read(BUCKET, f"templates/meeting/classic/{kind}"))
        assert problems("dataflow.v1b3", "Job", job) == []
        assert job["type"] == {"streaming": "JOB_TYPE_STREAMING", "backfill": "JOB_TYPE_BATCH"}[kind]


def deployed(local: LocalDataflow, folder: Path, **given: Any) -> Deployment:
    """The meeting example's image and templates, uploaded."""
    deployment = Deployment(
        views=("boiler_beam.samples.meeting",), project=PROJECT, region="us-central1", name="meeting", bucket=BUCKET,
        repository="us-central1-docker.pkg.dev/my-project/boiler-beam", parameters={"source": "sample:"},
        subscription=f"projects/{PROJECT}/subscriptions/meeting", topic=f"projects/{PROJECT}/topics/changes", **given,
    )  # fmt: skip
    files.write_image(folder, deployment.image, deployment.views, deployment.modules, ())
    local.images[deployment.image] = folder
    local.environment["PYTHONPATH"] = str(ROOT)
    for kind in ("streaming", "backfill"):
        spec = files.container_spec(kind, "meeting", deployment.image, deployment.environment_of(kind))  # type: ignore[arg-type]
        name = f"{deployment.templates}/{kind}.json".removeprefix(f"gs://{BUCKET}/")
        local.storage.write(BUCKET, name, json.dumps(spec).encode())
    return deployment


def test_the_schedulers_request_starts_the_backfill(tmp_path: Path, local: LocalDataflow, cloud: object) -> None:
    """The body that Cloud Scheduler sends, over HTTP; wrong values are refused before a launcher starts."""
    deployment = deployed(local, tmp_path / "image")
    path = f"/v1b3/projects/{PROJECT}/locations/us-central1/flexTemplates:launch"
    body = launch_body(deployment, "backfill")
    code, answer = post(local, path, body)
    assert code == 200, answer
    assert answer["job"]["name"] == "meeting-backfill"
    assert [one["type"] for one in local.jobs] == ["JOB_TYPE_BATCH"]
    assert local.problems == []
    body["launchParameter"]["parameters"]["sink"] = "sqlite:rows.db"
    code, answer = post(local, path, body)
    assert (code, len(local.launches)) == (400, 1)
    assert "sink: sqlite:rows.db does not match" in answer["error"]["message"]
    body["launchParameter"]["typo"] = "x"
    post(local, path, body)
    assert local.problems == ["LaunchFlexTemplateRequest.launchParameter.typo: unknown"]


def test_a_launcher_says_why_it_failed(tmp_path: Path, local: LocalDataflow, cloud: object) -> None:
    deployment = deployed(local, tmp_path / "image")
    body = launch_body(deployment, "streaming")
    body["launchParameter"]["parameters"]["source"] = f"sample:,pubsub:projects/{PROJECT}/subscriptions/gone"
    code, answer = post(local, f"/v1b3/projects/{PROJECT}/locations/us-central1/flexTemplates:launch", body)
    assert code == 400
    assert "fix: gcloud pubsub subscriptions create gone" in answer["error"]["message"]
    assert local.jobs == []
