"""The commands `boiler-beam deploy`, `boiler-beam schedule` and `boiler-beam once`."""

from __future__ import annotations

import os
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from boiler_beam.errors import UsageError

__all__ = ["deploy_command", "once_command", "schedule_command"]

_SKIPPED = 75
"""The exit code when another program holds the lock: EX_TEMPFAIL, try again later."""


@click.command("deploy")
@click.option(
    "--views",
    metavar="MODULE[:CLASS,...]",
    multiple=True,
    envvar="BOILER_BEAM_VIEWS",
    required=True,
    help="The views: all in a module, or the named ones. Their top-level packages are copied into the image.",
)
@click.option(
    "--project", metavar="PROJECT", required=True, help="The Google Cloud project of job, topic and templates."
)
@click.option("--region", metavar="REGION", required=True, help="The region of the job: that of the database.")
@click.option("--name", metavar="NAME", help="The job's name.  [default: from the first module's name]")
@click.option("--bucket", metavar="BUCKET", help="For templates and temporary files.  [default: PROJECT-boiler-beam]")
@click.option(
    "--repository",
    metavar="HOST/PROJECT/REPOSITORY",
    help="The repository of images.  [default: REGION-docker.pkg.dev/PROJECT/boiler-beam]",
)
@click.option(
    "--topic", metavar="projects/P/topics/T", help="The topic of the changes.  [default: changes, in the project]"
)
@click.option(
    "--subscription",
    metavar="projects/P/subscriptions/S",
    help="The subscription that the job follows.  [default: named as the job, in the project]",
)
@click.option(
    "--parameter",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value of the templates' parameters: source (without the subscription), sink, consistency, ... "
    "[default of source, sink and dead_letter: firestore:PROJECT]",
)
@click.option("--every", metavar="1d", default="", help="Run a backfill that often, by Cloud Scheduler.")
@click.option("--max_workers", type=click.IntRange(min=1), help="The most workers of each job.")
@click.option("--machine_type", metavar="TYPE", help="The workers' machines: n2-standard-2, ...")
@click.option("--service_account", metavar="EMAIL", help="The account of the workers.")
@click.option("--scheduler_account", metavar="EMAIL", help="The account by which Cloud Scheduler starts the backfill.")
@click.option("--subnetwork", metavar="URL", help="The subnetwork of the workers.")
@click.option("--update", is_flag=True, help="Replace the running job, which keeps its state, if that is possible.")
@click.option("--beside", is_flag=True, help="Start a job beside the running one, as the next generation of rows.")
@click.option("--templates_only", is_flag=True, help="Build the image and the templates; Terraform starts the jobs.")
@click.option(
    "--running", metavar="PATH", help="The compatibility.json of the running job.  [default: from the bucket]"
)
@click.option("--map", "mapped", metavar="OLD=NEW", multiple=True, help="With --update: a stage whose label changed.")
@click.option("--requirements", metavar="PATH", help="Further pinned packages that the views need.")
@click.option("--classic", is_flag=True, help="Make classic templates, too.")
@click.option("--folder", metavar="PATH", help="Where everything is written.  [default: build/deploy/NAME]")
@click.option("--dry_run", is_flag=True, help="Write what would be sent, print the commands, and run none.")
def deploy_command(
    views: tuple[str, ...],
    project: str,
    region: str,
    name: str | None,
    folder: str | None,
    update: bool,
    beside: bool,
    templates_only: bool,
    running: str | None,
    mapped: tuple[str, ...],
    dry_run: bool,
    **given: Any,
) -> int:
    """Deploy views to Dataflow.

    Makes an image, two templates, the job of the stream, and a scheduled backfill.

    Everything is written to --folder first and checked: with --update a job that can't take the state of the running
    one is refused before anything is sent.
    """  # fmt: skip
    from pipelines.deploy.commands import run, script
    from pipelines.deploy.compatibility import compare
    from pipelines.deploy.deployment import commands, launch_body, read_running, running_command, updating, write
    from pipelines.deploy.files import write_json

    if update + beside + templates_only > 1:
        raise click.UsageError("expected one of --update, --beside and --templates_only, got more")
    action = "none" if templates_only else "beside" if beside else "start"
    deployment = _deployment(views, project, region, name, action, given)
    target = Path(folder or f"build/deploy/{deployment.name}")
    known = None
    if update and (running is not None or not dry_run):
        known = read_running(deployment, running)
        deployment = updating(deployment, known)
    elif update:
        deployment = updating(deployment, {})
        print(
            f"not compared with the running job; fix: --running FILE, from {running_command(deployment)}",
            file=sys.stderr,
        )
    description = write(deployment, target)
    verdict = None
    if known is not None:
        verdict = compare(known, description, dict(_pair("--map", one) for one in mapped))
        verdict.refuse()
        for note in [
            *verdict.notes,
            *(f"{one}: its code changed; its rows take the next generation" for one in verdict.rebuilt),
        ]:
            print(note, file=sys.stderr)
    if verdict is not None:
        write_json(target / "launch_streaming.json", launch_body(deployment, "streaming", verdict))
    found = commands(deployment, target, verdict)
    (target / "commands.sh").write_text(script(found))
    print(script(found) if dry_run else f"wrote {target}", flush=True)
    if not dry_run:
        run(found)
        for one in found:
            if one.is_later:
                print(f"{one.about}\n  {one}")
    return 0


def _deployment(
    views: tuple[str, ...], project: str, region: str, name: str | None, action: str, given: dict[str, Any]
) -> Any:
    from pipelines.deploy.deployment import Deployment

    short = name or re.sub(r"[^a-z0-9]+", "-", views[0].partition(":")[0].removesuffix(".views").lower()).strip("-")
    environment = {
        "maxWorkers": given["max_workers"], "machineType": given["machine_type"], "subnetwork": given["subnetwork"],
        "serviceAccountEmail": given["service_account"],
    }  # fmt: skip
    lines: list[str] = []
    if given["requirements"]:
        try:
            lines = Path(given["requirements"]).read_text().splitlines()
        except OSError as error:
            raise UsageError(
                f"--requirements: expected a file that can be read, got: {error}; fix: correct it"
            ) from None
    return Deployment(
        views=views,
        project=project,
        region=region,
        name=short,
        bucket=(given["bucket"] or f"{project}-boiler-beam").removeprefix("gs://"),
        repository=given["repository"] or f"{region}-docker.pkg.dev/{project}/boiler-beam",
        parameters=dict(_pair("--parameter", one) for one in given["parameter"]),
        subscription=given["subscription"] or f"projects/{project}/subscriptions/{short}",
        topic=given["topic"] or f"projects/{project}/topics/changes",
        every=given["every"],
        environment={key: value for key, value in environment.items() if value is not None},
        scheduler_account=given["scheduler_account"] or "",
        action=action,
        is_classic=given["classic"],
        more_requirements=tuple(lines),
    )


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{option} {text}: expected NAME=VALUE; fix: write it with =")
    return name, value


@click.command("schedule", context_settings={"ignore_unknown_options": True})
@click.option("--every", metavar="1d", required=True, help="How often: 15m, 6h, 1d, 1w.")
@click.option("--at", metavar="HH:MM", default="", help="When, in UTC.  [default: a time derived from --name]")
@click.option(
    "--form",
    type=click.Choice(["systemd", "cron", "kubernetes"]),
    default="systemd",
    show_default=True,
    help="A systemd timer, a line for crontab, or a Kubernetes CronJob.",
)
@click.option(
    "--name", metavar="NAME", default="boiler-beam-backfill", show_default=True, help="The name of the units."
)
@click.option("--lock", metavar="PATH", help="The lock.  [default: NAME in the working folder]")
@click.option("--image", metavar="IMAGE", default="", help="Kubernetes: the image with boiler-beam and the views.")
@click.option("--folder", metavar="PATH", help="systemd: write the units there.  [default: print them]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="OPTIONS OF boiler-beam run")
def schedule_command(
    every: str,
    at: str,
    form: str,
    name: str,
    lock: str | None,
    image: str,
    folder: str | None,
    arguments: tuple[str, ...],
) -> int:
    """Print a timer that runs a backfill, without Beam.

    The other options are those of `boiler-beam run`. A lock lets one backfill run at a time.
    """
    from pipelines.deploy.schedule import Schedule, cron_job, cron_line, systemd_units
    from pipelines.main import run_command

    run_command.make_context("run", list(arguments))  # an unknown option is refused now, not at night
    is_inside = form == "kubernetes"
    working = "" if is_inside else os.getcwd()
    program = "boiler-beam" if is_inside else _program()
    path = lock or (f"/tmp/{name}" if is_inside else os.path.join(working, name))
    schedule = Schedule(every, at, name, ("run", *arguments), path, program, image, working)
    if form == "systemd":
        units = systemd_units(schedule)
        for file, text in units.items():
            if folder:
                Path(folder, file).write_text(text)
            else:
                print(f"# {file}\n{text}")
        print(f"{'' if folder else '# '}systemctl enable --now {name}.timer")
    else:
        print(cron_line(schedule) if form == "cron" else cron_job(schedule))
    return 0


def _program() -> str:
    """Returns the path of the console script of this Python, because schedulers have a short PATH."""
    found = Path(sys.executable).with_name("boiler-beam")
    return str(found) if found.exists() else "boiler-beam"


@click.command("once", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("lock", metavar="LOCK")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_context
def once_command(context: click.Context, lock: str, command: tuple[str, ...]) -> int:
    """Run a command while no other program holds a lock.

    COMMAND is one of boiler-beam. If another program holds the lock, it is not run, and the exit code is 75.

    The lock is the file LOCK.lock; the operating system releases it when the program ends, however that happens.
    """
    from boiler_beam.connectors.locks import Lock, LockedError
    from pipelines.command import execute

    group: Any = context.find_root().command
    try:
        held = Lock(lock, lock)
    except LockedError:
        print(f"{lock}: skipped, because another program still runs with this lock", file=sys.stderr)
        return _SKIPPED
    with closing(held):
        return execute(group, command)
