"""`python -m pipelines.meeting`: runs the three views of the meeting room, by default with its sample documents."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from pipelines.command import execute
from pipelines.options import CONTEXT, RunOptions, options_of_a_run

__all__ = ["meeting_command"]


@click.command("meeting", context_settings={**CONTEXT, "ignore_unknown_options": True})
@options_of_a_run
def meeting_command(options: RunOptions) -> int:
    """Compute the rows of the meeting room's views, or follow a stream; without --source from its sample documents."""
    from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary, UserMeetings
    from pipelines.run import run

    options = replace(options, source=options.source or ("sample:",))
    return run([MeetingSession, UserMeetings, OrganizationSummary], options)


if __name__ == "__main__":
    sys.exit(execute(meeting_command))
