"""The job that a command line makes, not submitted: `python -m pipelines.deploy.graph --views ... --source ...`.

It prints what decides whether a running job can be updated to this one, as JSON:

| key | |
| --- | --- |
| `versions` | of boiler_beam, Beam and Python |
| `views` | each view's fingerprint: of its plan, and of the code of its getters |
| `stages` | each stage by its label: what it is, its coder, and for a stateful one its state and timers |
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from boiler_beam.errors import BoilerBeamError, UsageError
from pipelines.deploy.blank import blank_cloud

__all__ = ["describe", "graph_of", "main"]

_PARDO = "beam:transform:pardo:v1"
_ON_DATAFLOW = (
    "--runner=DataflowRunner",
    "--dry_run",
    "--no_wait_until_finish",
    "--region=region",
    "--temp_location=gs://bucket/temp",
    "--no_auth",
)
"""Beam's options for a job that is built and not sent; where it would run makes no difference to its graph."""


def graph_of(arguments: Sequence[str], *, python: str = sys.executable) -> dict[str, Any]:
    """Returns the description of a job, made in a process of its own.

    Args:
        arguments: The command line of the run, without a runner.
        python: The interpreter.

    Raises:
        UsageError: The command line is wrong, or a class can't be compiled.
    """
    command = [python, "-m", "pipelines.deploy.graph", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if not said:
            raise BoilerBeamError(f"expected to build the job, got:\n{done.stderr}; fix: please report it")
        raise UsageError(said[-1].removeprefix("error: "))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _environment() -> dict[str, str]:
    """Returns the environment of a process that finds the same modules as this one, first in the working folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)])}


def describe(pipeline: Any) -> dict[str, Any]:
    """Returns the stages of a job.

    Args:
        pipeline: The job's pipeline, as a proto.
    """
    parts = pipeline.components
    found = {}
    for one in parts.transforms.values():
        if one.subtransforms or not one.spec.urn:
            continue
        stage: dict[str, Any] = {"is": one.spec.urn.removeprefix("beam:transform:")}
        stage["gives"] = sorted({_coder(parts, parts.pcollections[name].coder_id) for name in one.outputs.values()})
        if one.spec.urn == _PARDO:
            stage |= _state(parts, one.spec.payload)
        found[one.unique_name] = stage
    return dict(sorted(found.items()))


def _state(parts: Any, payload: bytes) -> dict[str, Any]:
    from apache_beam.portability.api import beam_runner_api_pb2

    pardo = beam_runner_api_pb2.ParDoPayload.FromString(payload)
    state = {}
    for name, spec in sorted(pardo.state_specs.items()):
        kind = spec.WhichOneof("spec")
        inner = getattr(spec, kind)
        coder = getattr(inner, "coder_id", "") or getattr(inner, "element_coder_id", "")
        state[name] = f"{kind.removesuffix('_spec')} of {_coder(parts, coder)}" if coder else kind
    domains = {1: "event time", 2: "processing time"}
    timers = {name: domains[spec.time_domain] for name, spec in sorted(pardo.timer_family_specs.items())}
    return {"state": state, "timers": timers} if state or timers else {}


def _coder(parts: Any, name: str) -> str:
    coder = parts.coders[name]
    inner = ", ".join(_coder(parts, one) for one in coder.component_coder_ids)
    urn = coder.spec.urn.removeprefix("beam:coder:").removesuffix(":v1")
    return f"{urn}({inner})" if inner else urn


@contextlib.contextmanager
def _captured() -> Iterator[list[Any]]:
    """Yields a list that gets the pipeline of each job that is built meanwhile."""
    from apache_beam.options.pipeline_options import TestOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    jobs: list[Any] = []
    run_pipeline, validate = DataflowRunner.run_pipeline, PipelineOptionsValidator.validate

    def run(self: Any, pipeline: Any, options: Any) -> Any:
        options.view_as(TestOptions).dry_run = True  # whatever the run asks for, nothing is sent
        result: Any = run_pipeline(self, pipeline, options)
        jobs.append(result.job.proto_pipeline)  # a dry run's result has it
        return result

    PipelineOptionsValidator.validate = lambda self: []  # type: ignore  # it asks for the bucket
    DataflowRunner.run_pipeline = run  # type: ignore
    try:
        yield jobs
    finally:
        DataflowRunner.run_pipeline = run_pipeline  # type: ignore
        PipelineOptionsValidator.validate = validate  # type: ignore


def main() -> None:
    """The program: prints the description of the job."""
    import click

    from boiler_beam.connectors import open_source
    from boiler_beam.program.loading import plan_of
    from pipelines.command import execute
    from pipelines.main import run_command
    from pipelines.views import load_views

    arguments = sys.argv[1:]
    with blank_cloud(), _captured() as jobs, contextlib.redirect_stdout(sys.stderr):
        code = execute(run_command, [*arguments, "--project=project", *_ON_DATAFLOW])
        if code:
            sys.exit(code)
        context: click.Context = run_command.make_context("run", list(arguments), resilient_parsing=True)
        given = context.params
        sources = [open_source(uri) for uri in given["source"]]
        plan = plan_of(load_views(given["views"]), sources, database=given["database"])
    (job,) = jobs
    versions = {name: version(name) for name in ("boiler_beam", "apache-beam")}
    versions["python"] = ".".join(map(str, sys.version_info[:2]))
    views = {view.name: {"fingerprint": view.fingerprint, "class": view.reference_name} for view in plan.views}
    print(json.dumps({"format": 1, "versions": versions, "views": views, "stages": describe(job)}, indent=1))


if __name__ == "__main__":
    main()
