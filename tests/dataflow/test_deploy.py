"""`boiler-beam deploy` of a package outside the project: what it writes, what it runs, what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = [pytest.mark.beam, pytest.mark.slow]

from tests.dataflow.conftest import BUCKET, PROJECT, ROOT, Gcloud, deploy  # noqa: E402
from tests.helpers.dataflow import LocalDataflow, image_of  # noqa: E402

TAG = r"[0-9a-f]{12}"


def commands(text: str) -> list[list[str]]:
    """The commands of a script that are run, and those for later."""
    return [
        shlex.split(line.removeprefix("# "))
        for line in text.splitlines()
        if re.match("(# )?(gcloud|boiler-beam) ", line)
    ]


def test_everything_that_is_sent_is_written(package: Path) -> None:
    done = deploy(package, "--every", "1d", "--max_workers", "4", "--classic", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert (package / "out" / "commands.sh").read_text() == done.stdout.removesuffix("\n")
    image = image_of(package / "out" / "image")
    assert image.environment["BOILER_BEAM_VIEWS"] == "shopping.views"
    assert re.fullmatch(
        rf"us-central1-docker.pkg.dev/{PROJECT}/boiler-beam/shop:{TAG}", image.environment["BOILER_BEAM_IMAGE"]
    )
    assert (image.folder / "views" / "shopping" / "views.py").exists()
    lines = (image.folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines)
    assert any(line.startswith("msgspec==") for line in lines)
    assert not any(line.startswith(("apache-beam", "protobuf", "grpcio")) for line in lines), "Beam's image has them"
    (wheel,) = (image.folder / "wheels").glob("*.whl")
    assert wheel.name.startswith("boiler_beam-")
    for line in (image.folder / "Dockerfile").read_text().splitlines():
        if line.startswith("FROM") or "--from=" in line:
            assert re.search(r":\d[\w.]+", line), f"not pinned: {line}"
    body = json.loads((package / "out" / "launch_streaming.json").read_text())["launchParameter"]
    assert body["parameters"]["source"] == f"firestore:{PROJECT},pubsub:projects/{PROJECT}/subscriptions/shop"
    assert body["environment"]["maxWorkers"] == 4


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="needs the Google Cloud SDK (gcloud)")
def test_the_spec_is_the_one_that_gcloud_builds(package: Path) -> None:
    assert deploy(package, "--dry_run").returncode == 0
    spec = json.loads((package / "out" / "streaming.json").read_text())
    built = subprocess.run(
        ["gcloud", "dataflow", "flex-template", "build", "gs://b/t.json", f"--image={spec['image']}", "--sdk-language=PYTHON",
         f"--metadata-file={package}/out/streaming_metadata.json", "--print-only"],
        env={**os.environ, "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    found = json.loads(built.stdout.removeprefix("|-"))
    assert (found["image"], found["sdkInfo"]) == (spec["image"], spec["sdkInfo"])
    assert found["metadata"]["parameters"] == spec["metadata"]["parameters"]


KNOWN = [
    "builds submit", "storage cp", "storage cat", "storage buckets create", "storage buckets add-iam-policy-binding",
    "dataflow flex-template run", "dataflow jobs list", "dataflow jobs drain", "dataflow jobs run",
    "dataflow jobs update-options", "dataflow snapshots create", "scheduler jobs create http", "scheduler jobs update http",
    "scheduler jobs run", "scheduler jobs delete", "pubsub subscriptions create", "pubsub subscriptions delete",
    "pubsub subscriptions pull", "pubsub topics create", "pubsub topics add-iam-policy-binding",
    "pubsub subscriptions add-iam-policy-binding", "services enable", "artifacts repositories create",
    "artifacts repositories add-iam-policy-binding", "firestore fields ttls update", "firestore bulk-delete",
    "iam service-accounts create", "iam service-accounts add-iam-policy-binding", "projects add-iam-policy-binding",
    "functions deploy", "functions logs read", "run services add-iam-policy-binding", "logging read",
]  # fmt: skip


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="needs the Google Cloud SDK (gcloud)")
def test_gcloud_has_every_command_and_flag(package: Path) -> None:
    """Of the deployment's commands, of setup.sh, and of the page."""
    from dataflow.graph import DEPLOYMENT
    from pipelines.deploy.compatibility import Verdict
    from pipelines.deploy.deployment import commands as of_deployment
    from pipelines.deploy.deployment import updating

    update = of_deployment(updating(DEPLOYMENT, {}), package, Verdict(mapping={"a": "b"}, rebuilt=["V"]))
    beside = of_deployment(replace(DEPLOYMENT, action="beside", is_classic=True), package)
    given = {**os.environ, "PROJECT": "p", "REGION": "r", "LOCATION": "l", "NAME": "n", "CONSISTENCY": "commit"}
    setup = subprocess.run(
        ["sh", ROOT / "dataflow/setup.sh", "--print"], env=given, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "dataflow.md").read_text().replace("\\\n", " ")
    lines = (
        [str(one) for one in [*update, *beside]] + setup.stdout.splitlines() + re.findall(r"gcloud [a-z][^`\n]*", page)
    )
    flags: dict[str, set[str]] = {}
    for line in lines:
        if not line.startswith("gcloud ") or re.match(
            "gcloud (auth|config|compute|firestore databases|dataflow flex-template build)", line
        ):
            continue
        found = [one for one in KNOWN if line.startswith(f"gcloud {one}")]
        assert found, line
        flags.setdefault(max(found, key=len), set()).update(re.findall(r" '?(--[a-z][a-z-]+)", line))
    for command, names in flags.items():
        done = subprocess.run(["gcloud", *command.split(), "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"gcloud {command}: {done.stderr}"
        unknown = names - set(re.findall(r"--(?:\[no-\])?[a-z][a-z-]+", done.stdout.replace("[no-]", "")))
        assert unknown <= {"--project"}, f"gcloud {command}: {unknown}"


def test_it_runs_its_commands_in_order(package: Path, gcloud: Gcloud) -> None:
    done = deploy(package, "--every", "1d", gcloud=gcloud)
    assert done.returncode == 0, done.stderr
    begun = [" ".join(line.split()[:3]) for line in gcloud.called()]
    assert begun == [
        "builds submit out/image", "storage cp out/streaming.json", "storage cp out/backfill.json",
        "storage cp out/compatibility.json", "dataflow flex-template run",
        f"storage cp gs://{BUCKET}/templates/shop/{begun and gcloud.called()[1].split('/')[-2]}/compatibility.json",
        "scheduler jobs create",
    ]  # fmt: skip
    assert "Drains a job" in done.stdout, "what a person runs later is said"


def test_an_update_that_cannot_be_is_refused_before_anything_is_sent(package: Path, gcloud: Gcloud) -> None:
    assert deploy(package, "--dry_run").returncode == 0
    running = package / "running.json"
    shutil.copy(package / "out" / "compatibility.json", running)
    views = package / "shopping" / "views.py"
    text = views.read_text()
    views.write_text(
        text.replace(
            'reference("order.product")',
            'reference("order.product")\n        stock: Product | None = reference("order.product", optional=True)',
        )
    )
    refused = deploy(package, "--update", "--running", str(running), gcloud=gcloud)
    assert refused.returncode == 2
    assert (
        "Follow/OrderCard/stock/Join/ParDo(Step): the stage is new; its state would begin with nothing"
        in refused.stderr
    )
    assert "fix: deploy it beside the running job (--beside)" in refused.stderr
    assert gcloud.called() == []
    views.write_text(text.replace("return shown(", 'return "now " + shown('))
    updated = deploy(package, "--update", "--running", str(running), gcloud=gcloud)
    assert updated.returncode == 0, updated.stderr
    assert "OrderCard: its code changed; its rows take the next generation" in updated.stderr
    (run,) = [line for line in gcloud.called() if line.startswith("dataflow flex-template run")]
    assert " --update " in run
    assert "rewrites the rows of OrderCard, whose code changed" in updated.stdout


def test_a_job_beside_the_running_one_has_its_own_subscription(package: Path, gcloud: Gcloud) -> None:
    done = deploy(package, "--beside", gcloud=gcloud)
    assert done.returncode == 0, done.stderr
    create, run = (
        line for line in gcloud.called() if line.startswith(("pubsub subscriptions create", "dataflow flex"))
    )
    name = re.search(rf"create (shop-{TAG}) ", create)
    assert name is not None
    assert f"flex-template run {name[1]} " in run
    assert f"subscriptions/{name[1]}" in run
    running = json.loads((package / "out" / "compatibility.json").read_text())
    assert running["job"]["name"] == name[1]
    later = deploy(package, "--update", "--running", "out/compatibility.json", "--dry_run", "--folder", "later")
    assert f"gcloud dataflow flex-template run {name[1]} " in later.stdout, "an update is one of the job that runs"


def test_a_template_of_a_package_outside_the_project_runs(
    package: Path, local: LocalDataflow, cloud: object, tmp_path: Path
) -> None:
    """The image's files alone: its wheel, its views and its launcher, in a process that sees no checkout."""
    assert deploy(package, "--every", "1d", "--dry_run").returncode == 0
    out = package / "out"
    (wheel,) = (out / "image" / "wheels").glob("*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    program = "import sys, runpy; sys.path.insert(0, sys.argv.pop(1)); sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    local.python = [sys.executable, "-c", program, str(site)]
    for kind in ("streaming", "backfill"):
        spec = json.loads((out / f"{kind}.json").read_text())
        local.images[spec["image"]] = out / "image"
        body = json.loads((out / f"launch_{kind}.json").read_text())
        bucket, _, name = body["launchParameter"]["containerSpecGcsPath"].removeprefix("gs://").partition("/")
        local.storage.write(bucket, name, (out / f"{kind}.json").read_bytes())
        code, answer = local.post("flexTemplates:launch", PROJECT, "us-central1", body)
        assert code == 200, answer
    assert local.problems == []
    stream, backfill = local.jobs
    assert [(one["name"], one["type"]) for one in local.jobs] == [
        ("shop", "JOB_TYPE_STREAMING"), ("shop-backfill", "JOB_TYPE_BATCH"),
    ]  # fmt: skip
    image = spec["image"]
    for one in (stream, backfill):
        assert {
            each["containerImage"] for each in one["environment"]["workerPools"][0]["sdkHarnessContainerImages"]
        } == {image}
