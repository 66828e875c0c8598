"""What the image of a Flex Template runs to make a job: `python launcher.py --name=value ...`.

Dataflow's launcher calls the file that FLEX_TEMPLATE_PYTHON_PY_FILE names, with the template's parameters and with
Beam's options. Two variables of the image say the rest:

| variable | |
| --- | --- |
| BOILER_BEAM_VIEWS | the views, unless the parameter `views` names some |
| BOILER_BEAM_IMAGE | the image that workers run: this one |
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from pipelines.command import execute
from pipelines.deploy.parameters import command_line
from pipelines.main import run_command

__all__ = ["arguments_of", "main"]

_ENGINE = "--enable_streaming_engine"


def arguments_of(given: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Returns the command line of the run.

    >>> arguments_of(["--source=firestore:p", "--sink=firestore:p"], {"BOILER_BEAM_IMAGE": "r.pkg.dev/p/i:1"})[3:]
    ['--no_save_main_session', '--sdk_container_image=r.pkg.dev/p/i:1', '--no_wait_until_finish']

    Args:
        given: What Dataflow passes.
        environ: The environment variables.
    """
    given = ["--update" if one.lower() == "--update=true" else one for one in given]  # Beam's flag takes no value
    names = {one.partition("=")[0] for one in given}
    is_stream = any(part.startswith("pubsub:") for one in given if one.startswith("--source=") for part in _parts(one))
    added = {"--runner": "--runner=DataflowRunner", "--no_save_main_session": "--no_save_main_session"}
    if image := environ.get("BOILER_BEAM_IMAGE"):
        added["--sdk_container_image"] = f"--sdk_container_image={image}"
    if is_stream:
        added[_ENGINE] = _ENGINE
    elif "--runner" not in names:
        added["--no_wait_until_finish"] = "--no_wait_until_finish"  # the launcher's machine ends when the job exists
    return [*command_line(given), *(one for name, one in added.items() if name not in names)]


def _parts(argument: str) -> list[str]:
    return argument.partition("=")[2].split(",")


def main() -> None:
    """The program."""
    sys.exit(execute(run_command, arguments_of(sys.argv[1:], os.environ)))


if __name__ == "__main__":
    main()
