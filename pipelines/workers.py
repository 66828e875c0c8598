"""Where a runner's workers are, and which dead letters they can write. It does not import Beam."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from boiler_beam.connectors import dead_letters_beside
from boiler_beam.connectors.dead_letters import is_shared, shared_dead_letters
from boiler_beam.errors import UsageError
from pipelines.options import RunOptions

__all__ = ["DATAFLOW", "LOCAL_RUNNERS", "THIS_MACHINE", "dead_letters_of", "is_awaited", "workers_are_elsewhere"]

DATAFLOW = "DataflowRunner"

LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner")
"""Runner names that mean FnApiRunner: Beam's DirectRunner may otherwise try to download another runner."""

THIS_MACHINE = (*LOCAL_RUNNERS, "BundleBasedDirectRunner", "PrismRunner")
"""Runners whose workers are processes on this machine."""


def dead_letters_of(options: RunOptions) -> str:
    """Returns the URI of a run's dead letters: as given, or the default."""
    if options.dead_letter:
        return options.dead_letter
    is_here = options.runner is None or options.runner in THIS_MACHINE
    return dead_letters_beside(options.sink) if is_here else shared_dead_letters(options.sink)


def workers_are_elsewhere(runner: str, dead_letters: str) -> bool:
    """Returns whether a runner's workers may be other machines.

    Raises:
        UsageError: The dead letters would be files on Dataflow's workers, whose disks nobody reads.
    """
    if runner in THIS_MACHINE:
        return False
    if is_shared(dead_letters):
        return True
    if runner == DATAFLOW:
        raise UsageError(
            f"--dead_letter {dead_letters}: expected a target that many workers write to, got a file on each worker's "
            "disk, which is lost with it; fix: --dead_letter firestore:PROJECT, gs:BUCKET/FOLDER or "
            "pubsub:projects/P/topics/T"
        )
    print(
        f"{dead_letters}: a file on each worker's disk, lost with it unless the path is shared; "
        "workers log each dead letter as a warning, too",
        file=sys.stderr,
    )
    return True


def is_awaited(result: Any, arguments: Sequence[str] = ()) -> bool:
    """Returns whether there is a job to wait for; there is none where only a template was written.

    A Flex Template's launcher names a file for the job (`--template_location`), from which Dataflow then starts it.

    Args:
        result: Of `pipeline.run()`.
        arguments: Beam's own options.
    """
    return bool(getattr(result, "has_job", True)) and "--no_wait_until_finish" not in arguments
