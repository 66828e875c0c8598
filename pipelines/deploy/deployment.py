"""`boiler-beam deploy`: writes everything that is sent for some views, checks it, and runs the commands that send it.

deployment = Deployment(views=("shop.views",), project="p", region="europe-west1", ...)
write(deployment, folder)     image/ *.json commands.sh
commands(deployment, folder)  build the image, upload the templates, start or update the job, schedule the backfill
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from boiler_beam.errors import UsageError
from pipelines.deploy import files
from pipelines.deploy.commands import Command, gcloud, joined, output_of
from pipelines.deploy.compatibility import Verdict
from pipelines.deploy.graph import graph_of
from pipelines.deploy.parameters import KINDS, Kind, checked, metadata
from pipelines.deploy.schedule import cron_of
from pipelines.views import load_views

__all__ = ["Deployment", "commands", "launch_body", "read_running", "running_command", "updating", "write"]

_JOB = re.compile(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?")


@dataclass(frozen=True)
class Deployment:
    """What is deployed, and where.

    Attributes:
        views: The views, as for `--views`.
        project: The project of jobs, topics and templates.
        region: The region of the jobs.
        name: The name of the streaming job; the backfill's is `NAME-backfill`.
        bucket: The bucket of templates and of Dataflow's temporary files.
        repository: Of images: `REGION-docker.pkg.dev/PROJECT/REPOSITORY`.
        parameters: Values of parameters, by their names, for both templates where both have them.
        subscription: `projects/P/subscriptions/S`, which the job follows.
        topic: Its topic, `projects/P/topics/T`.
        every: How often a backfill runs, `1d`; empty: never.
        environment: Dataflow's options of both jobs: `maxWorkers`, `serviceAccountEmail`, ...
        scheduler_account: The account by which Cloud Scheduler starts the backfill.
        action: `start` a job; `update` the running one; start one `beside` it, to drain the old one later; `none`: only
            image and templates, for those who start jobs by Terraform.
        is_classic: Whether classic templates are made, too.
        running_job: The name of the job that an update replaces; empty: `name`.
        running_subscription: Its subscription; empty: `subscription`.
        more_requirements: Further pinned requirements of the views.
    """

    views: tuple[str, ...]
    project: str
    region: str
    name: str
    bucket: str
    repository: str
    parameters: Mapping[str, str]
    subscription: str
    topic: str
    every: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    scheduler_account: str = ""
    action: str = "start"
    is_classic: bool = False
    running_job: str = ""
    running_subscription: str = ""
    more_requirements: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if _JOB.fullmatch(self.name) is None:
            raise UsageError(
                f"--name {self.name}: expected lower-case letters, digits and hyphens, at most 52; fix: rename it"
            )

    @cached_property
    def modules(self) -> tuple[Path, ...]:
        """The top-level modules and packages of the views that are not part of this program."""
        found = []
        load_views(self.views)
        for name in self.views:
            top = name.partition(":")[0].partition(".")[0]
            if top == "boiler_beam":
                continue
            module = sys.modules[top]
            if module.__file__ is None:
                raise UsageError(
                    f"--views {name}: expected a package with __init__.py, got a folder; fix: add the file"
                )
            path = Path(module.__file__)
            found.append(path.parent if path.name == "__init__.py" else path)
        return tuple(dict.fromkeys(found))

    @cached_property
    def version(self) -> str:
        """The version of the image and of the templates: a digest of what they hold."""
        return files.digest_of(self.modules, self.more_requirements)

    @property
    def image(self) -> str:
        """The image's name with its tag."""
        return f"{self.repository}/{self.name}:{self.version}"

    @property
    def templates(self) -> str:
        """The folder of the templates of this version."""
        return f"gs://{self.bucket}/templates/{self.name}/{self.version}"

    @property
    def running(self) -> str:
        """The object that describes the running job."""
        return f"gs://{self.bucket}/templates/{self.name}/running.json"

    @property
    def job(self) -> str:
        """The name of the streaming job; another one beside the running job has a version in its name."""
        return f"{self.name}-{self.version}" if self.action == "beside" else self.running_job or self.name

    @property
    def job_subscription(self) -> str:
        """The subscription of the job: each job needs its own, because a message goes to one of its readers."""
        own = self.running_subscription or self.subscription
        return f"{self.subscription}-{self.version}" if self.action == "beside" else own

    def parameters_of(self, kind: Kind) -> dict[str, str]:
        """Returns the values of a template's parameters.

        Raises:
            UsageError: One is malformed.
        """
        given = {"source": f"firestore:{self.project}", "sink": f"firestore:{self.project}", **self.parameters}
        if kind == "streaming":
            given["source"] += f",pubsub:{self.job_subscription}"
        given.setdefault("dead_letter", given["sink"] if given["sink"].startswith("firestore:") else "")
        known = {one["name"] for one in metadata(kind, self.name)["parameters"]}
        other = {one["name"] for each in KINDS for one in metadata(each, self.name)["parameters"]}
        return checked(kind, {name: value for name, value in given.items() if name in known or name not in other})

    def environment_of(self, kind: Kind) -> dict[str, Any]:
        """Returns Dataflow's options of a template's jobs."""
        found: dict[str, Any] = {
            "tempLocation": f"gs://{self.bucket}/temp",
            "stagingLocation": f"gs://{self.bucket}/staging",
        }
        found |= {**self.environment, "sdkContainerImage": self.image}
        if kind == "streaming":
            found["enableStreamingEngine"] = True
        return found

    def command_line(self, kind: Kind) -> list[str]:
        """Returns the command line of the run that a launch makes."""
        from pipelines.deploy.parameters import command_line

        given = [f"--{name}={value}" for name, value in self.parameters_of(kind).items()]
        return [*(f"--views={name}" for name in self.views), *command_line(given)]


def write(deployment: Deployment, folder: Path) -> dict[str, Any]:
    """Writes all that is sent; returns the description of the streaming job.

    Raises:
        UsageError: An option is wrong; nothing was sent.
    """
    description = graph_of(deployment.command_line("streaming"))
    description["job"] = {"name": deployment.job, "subscription": deployment.job_subscription}
    files.write_image(
        folder / "image", deployment.image, deployment.views, deployment.modules, deployment.more_requirements
    )
    for kind in KINDS:
        spec = files.container_spec(kind, deployment.name, deployment.image, deployment.environment_of(kind))
        files.write_json(folder / f"{kind}.json", spec)
        files.write_json(folder / f"{kind}_metadata.json", spec["metadata"])
        files.write_json(folder / f"launch_{kind}.json", launch_body(deployment, kind))
    files.write_json(folder / "compatibility.json", description)
    return description


def launch_body(deployment: Deployment, kind: Kind, verdict: Verdict | None = None) -> dict[str, Any]:
    """Returns the body of the request `projects.locations.flexTemplates.launch`, as Cloud Scheduler sends it."""
    is_update = kind == "streaming" and deployment.action == "update"
    found: dict[str, Any] = {
        "jobName": deployment.job if kind == "streaming" else f"{deployment.name}-backfill",
        "containerSpecGcsPath": f"{deployment.templates}/{kind}.json",
        "parameters": deployment.parameters_of(kind),
        "environment": deployment.environment_of(kind),
    }
    if is_update:
        found["update"] = True
        if verdict is not None and verdict.mapping:
            found["transformNameMappings"] = verdict.mapping
    return {"launchParameter": found}


def running_command(deployment: Deployment) -> Command:
    """Returns the command that prints the description of the running job."""
    about = (
        f"name the description of the running job by --running, or deploy without --update if {deployment.name} is new"
    )
    return gcloud(about, "storage", "cat", deployment.running, project=deployment.project)


def read_running(deployment: Deployment, path: str | None) -> dict[str, Any]:
    """Returns the description of the running job.

    Args:
        deployment: The deployment.
        path: The file that holds it; None: it is read from the bucket.

    Raises:
        UsageError: There is no description.
    """
    text = output_of(running_command(deployment)) if path is None else _read(path)
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--running {path or deployment.running}: expected JSON, got: {error}; fix: correct it"
        ) from None
    return found


def updating(deployment: Deployment, running: Mapping[str, Any]) -> Deployment:
    """Returns a deployment that replaces the running job, which may have been deployed beside an older one."""
    job = running.get("job", {})
    return replace(
        deployment, action="update", running_job=job.get("name", ""), running_subscription=job.get("subscription", "")
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise UsageError(f"--running {path}: expected a file that can be read, got: {error}; fix: correct it") from None


def commands(deployment: Deployment, folder: Path, verdict: Verdict | None = None) -> list[Command]:
    """Returns the commands that deploy what was written to a folder."""
    where: dict[str, Any] = {"project": deployment.project, "region": deployment.region}
    found = [
        gcloud("Builds the image of launcher and workers, and stores it.", "builds", "submit", str(folder / "image"),
               tag=deployment.image, **where),
        *(_upload(deployment, folder, f"{kind}.json", f"Makes the {kind} template.") for kind in KINDS),
        _upload(deployment, folder, "compatibility.json", "Keeps beside them what an update is compared with."),
    ]  # fmt: skip
    if deployment.action == "none":
        return [*found, *(_classic(deployment) if deployment.is_classic else [])]
    if deployment.action == "beside":
        found.append(
            gcloud(
                "Gives the new job its own subscription, before its snapshot.", "pubsub", "subscriptions", "create",
                deployment.job_subscription.rpartition("/")[2], topic=deployment.topic, ack_deadline="60",
                message_retention_duration="7d", project=deployment.project,
            )
        )  # fmt: skip
    found.append(_launch(deployment, "streaming", verdict))
    running = gcloud("Notes which version runs.", "storage", "cp", f"{deployment.templates}/compatibility.json",
                     deployment.running, project=deployment.project)  # fmt: skip
    found.append(running)
    if verdict is not None and verdict.rebuilt:
        about = f"When the update is done: rewrites the rows of {', '.join(verdict.rebuilt)}, whose code changed."
        found.append(_launch(deployment, "backfill", None, about))
    if deployment.every:
        found.append(_schedule(deployment, folder))
    if deployment.is_classic:
        found += _classic(deployment)
    return [*found, *_later(deployment)]


def _upload(deployment: Deployment, folder: Path, name: str, about: str) -> Command:
    target = f"{deployment.templates}/{name}"
    return gcloud(about, "storage", "cp", str(folder / name), target, project=deployment.project)


def _launch(deployment: Deployment, kind: Kind, verdict: Verdict | None, about: str = "") -> Command:
    body = launch_body(deployment, kind, verdict)["launchParameter"]
    environment = body["environment"]
    is_update = bool(body.get("update"))
    done = {"start": "Starts", "update": "Updates", "beside": "Starts beside the running one"}.get(
        deployment.action, ""
    )
    mapping = body.get("transformNameMappings")
    return gcloud(
        about or f"{done} the job of the stream." if kind == "streaming" else about,
        "dataflow", "flex-template", "run", body["jobName"],
        is_later=kind == "backfill",
        template_file_gcs_location=body["containerSpecGcsPath"],
        parameters=joined(body["parameters"]),
        temp_location=environment["tempLocation"],
        staging_location=environment["stagingLocation"],
        max_workers=_text(environment.get("maxWorkers")),
        num_workers=_text(environment.get("numWorkers")),
        worker_machine_type=_text(environment.get("machineType")),
        service_account_email=_text(environment.get("serviceAccountEmail")),
        enable_streaming_engine=kind == "streaming",
        update=is_update,
        transform_name_mappings=joined(mapping) if mapping else None,
        project=deployment.project,
        region=deployment.region,
    )  # fmt: skip


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _schedule(deployment: Deployment, folder: Path) -> Command:
    url = (
        f"https://dataflow.googleapis.com/v1b3/projects/{deployment.project}/locations/{deployment.region}"
        "/flexTemplates:launch"
    )
    verb = "create" if deployment.action == "start" else "update"
    json_headers: dict[str, Any] = {
        "headers" if verb == "create" else "update_headers": "Content-Type=application/json"
    }
    account = deployment.scheduler_account or f"scheduler@{deployment.project}.iam.gserviceaccount.com"
    return gcloud(
        f"Runs a backfill every {deployment.every}.",
        "scheduler", "jobs", verb, "http", f"{deployment.name}-backfill",
        schedule=cron_of(deployment.every, deployment.name), uri=url, http_method="POST",
        **json_headers, message_body_from_file=str(folder / "launch_backfill.json"),
        oauth_service_account_email=account, time_zone="Etc/UTC",
        location=deployment.region, project=deployment.project,
    )  # fmt: skip


def _classic(deployment: Deployment) -> list[Command]:
    """Returns the commands of classic templates, whose parameters are fixed when they are made."""
    found = []
    for kind in KINDS:
        target = f"{deployment.templates}/classic/{kind}"
        beam = [
            "--runner=DataflowRunner", f"--project={deployment.project}", f"--region={deployment.region}",
            f"--template_location={target}", f"--sdk_container_image={deployment.image}",
            f"--temp_location=gs://{deployment.bucket}/temp", f"--staging_location=gs://{deployment.bucket}/staging",
            *(["--enable_streaming_engine"] if kind == "streaming" else []),
        ]  # fmt: skip
        words = ("boiler-beam", "run", *deployment.command_line(kind), *beam)
        found.append(Command(f"Makes the classic template of the {kind}.", words))
        found.append(
            gcloud(f"Runs the classic template of the {kind}.", "dataflow", "jobs", "run", f"{deployment.name}-classic",
                   is_later=True, gcs_location=target, region=deployment.region, project=deployment.project)
        )  # fmt: skip
    return found


def _later(deployment: Deployment) -> list[Command]:
    where = {"region": deployment.region, "project": deployment.project}
    found = [
        gcloud("Lists the jobs, with their ids.", "dataflow", "jobs", "list", is_later=True, status="active", **where),
        gcloud("Runs a backfill now.", *_launch(deployment, "backfill", None).words[1:], is_later=True),
        gcloud("Takes a snapshot of a job's state, before a risky update.", "dataflow", "snapshots", "create",
               is_later=True, job_id="JOB_ID", snapshot_ttl="7d", snapshot_sources="true", **where),
        gcloud("Drains a job: it ends when what it read is written.", "dataflow", "jobs", "drain", "JOB_ID",
               is_later=True, **where),
    ]  # fmt: skip
    if deployment.action == "beside":
        found.append(
            gcloud("When the old job is drained: deletes its subscription.", "pubsub", "subscriptions", "delete",
                   deployment.subscription.rpartition("/")[2], is_later=True, project=deployment.project)
        )  # fmt: skip
    return found
