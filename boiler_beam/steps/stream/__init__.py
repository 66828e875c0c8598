"""The steps of a stream: the partitioned backfill's messages, with weights, so that each can be taken back.

    change -> document    key: document. What it is at every edge now, and what it no longer is
           -> reach       key: edge, path. Rows that want what lies there, and the documents that lie there, meet
           -> first       key: edge, row. Which of them a row has, where an edge has a limit or several ways lead there
           -> row         key: row. What its edges reached, what its aggregates hold; rendered when nothing is awaited

Between stages messages may come in any order, each exactly once.
"""

from boiler_beam.steps.stream.cells import (
    Cells,
    DocumentCell,
    Emitted,
    FirstCell,
    MemoryCells,
    ReachCell,
    RowCell,
)
from boiler_beam.steps.stream.document import Document
from boiler_beam.steps.stream.first import First
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.reach import Reach
from boiler_beam.steps.stream.row import Row

__all__ = ["Cells", "Document", "DocumentCell", "Emitted", "First", "FirstCell", "MemoryCells", "Reach", "ReachCell"]
__all__ += ["Row", "RowCell", "StreamPlan"]
