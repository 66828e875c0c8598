"""`python -m pipelines.main --views package.module[:Class,...] --source URI`: runs a backfill or a stream of views."""

from __future__ import annotations

import sys

import click

from pipelines.command import execute
from pipelines.options import CONTEXT, RunOptions, options_of_a_run

__all__ = ["run_command"]


@click.command("run", context_settings={**CONTEXT, "ignore_unknown_options": True})
@click.option(
    "--views", metavar="MODULE[:CLASS,...]", multiple=True, envvar="BOILER_BEAM_VIEWS", required=True,
    help="The views: all in a module, or the named ones.",
)  # fmt: skip
@options_of_a_run
def run_command(options: RunOptions, views: tuple[str, ...]) -> int:
    """Compute rows from documents: a backfill or a stream.

    A backfill reads all documents; a stream follows their changes. Only rows that differ are written.

    With --runner, unknown options are passed on to Beam.
    """
    from pipelines.run import run
    from pipelines.views import load_views

    return run(load_views(views), options)


if __name__ == "__main__":
    sys.exit(execute(run_command))
