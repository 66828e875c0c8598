"""What `boiler-beam deploy` makes for the meeting example, kept here so that a change of it is seen in a review.

    python -m dataflow.graph             compares; exits with 1 if something differs
    python -m dataflow.graph --update    writes what it is now

`meeting/` holds the parameters of both templates, the Dockerfile, the commands, and the stages of both jobs. A stage of
the streaming job whose label, coder or state differs can't be updated in a running job: see docs/dataflow.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipelines.deploy import files
from pipelines.deploy.commands import script
from pipelines.deploy.deployment import Deployment, commands, launch_body
from pipelines.deploy.graph import graph_of
from pipelines.deploy.parameters import KINDS, metadata

__all__ = ["DEPLOYMENT", "FOLDER", "generated"]

FOLDER = Path(__file__).resolve().parent / "meeting"
PYTHON = "3.11"
PROJECT = "my-project"
DEPLOYMENT = Deployment(
    views=("boiler_beam.samples.meeting",),
    project=PROJECT,
    region="us-central1",
    name="meeting",
    bucket="my-project-boiler-beam",
    repository="us-central1-docker.pkg.dev/my-project/boiler-beam",
    parameters={},
    subscription="projects/my-project/subscriptions/meeting",
    topic="projects/my-project/topics/changes",
    every="1d",
)
_VERSION = "VERSION"


def generated() -> dict[str, str]:
    """Returns the content of each file in `meeting/`. The version of the image is left out: each change has another."""

    def text(value: object) -> str:
        return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

    DEPLOYMENT.__dict__["version"] = _VERSION
    found = {"Dockerfile": files.dockerfile(DEPLOYMENT.image, DEPLOYMENT.views, PYTHON)}
    for kind in KINDS:
        found[f"{kind}_metadata.json"] = text(metadata(kind, DEPLOYMENT.name))
        found[f"launch_{kind}.json"] = text(launch_body(DEPLOYMENT, kind))
        found[f"{kind}_stages.json"] = text(graph_of(DEPLOYMENT.command_line(kind))["stages"])
    found["commands.sh"] = script(commands(DEPLOYMENT, Path("build/deploy/meeting")))
    return found


def main() -> int:
    """The command line."""
    found, is_update = generated(), "--update" in sys.argv[1:]
    kept = {path.name: path.read_text() for path in FOLDER.iterdir()} if FOLDER.exists() else {}
    differing = sorted(name for name in {*found, *kept} if found.get(name) != kept.get(name))
    if is_update:
        FOLDER.mkdir(exist_ok=True)
        for name in differing:
            if name in found:
                (FOLDER / name).write_text(found[name])
            else:
                (FOLDER / name).unlink()
    verb = "wrote" if is_update else "differs:"
    for name in differing:
        print(f"{verb} dataflow/meeting/{name}")
    return 1 if differing and not is_update else 0


if __name__ == "__main__":
    sys.exit(main())
