"""Runs and questions from a program: what `boiler_beam.backfill`, `follow`, `explain`, `diff`, `why` and `check` are.

The command line calls these, and adds Beam. Nothing here imports Beam.

| module | |
| --- | --- |
| `backfilling` | a backfill in this thread |
| `following`, `running` | a stream in a thread of its own: its options; its reports, its end and its errors |
| `questions` | `explain`, `diff`, `why`, `check` |
| `reports` | what each of them did |
| `loading`, `connecting` | from names and URIs to plans, sources and sinks |
| `signals` | ^C and SIGTERM |
"""

from boiler_beam.inspection.diff import Difference
from boiler_beam.inspection.why import Why
from boiler_beam.program.backfilling import backfill
from boiler_beam.program.following import follow
from boiler_beam.program.questions import Check, Differences, Explanation, check, diff, explain, why
from boiler_beam.program.reports import (
    DeadLettersFound,
    Progress,
    Report,
    StreamedView,
    StreamReport,
    TransactionReport,
    ViewReport,
)
from boiler_beam.program.running import Running

__all__ = [
    "Check",
    "DeadLettersFound",
    "Difference",
    "Differences",
    "Explanation",
    "Progress",
    "Report",
    "Running",
    "StreamReport",
    "StreamedView",
    "TransactionReport",
    "ViewReport",
    "Why",
    "backfill",
    "check",
    "diff",
    "explain",
    "follow",
    "why",
]
