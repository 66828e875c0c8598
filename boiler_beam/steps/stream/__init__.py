"""The steps of a stream: what a document says, who wants it, what rows have of it. Plain classes over cells.

    change -> Down     key: document. What it is at every edge now, and what it no longer is
           -> Up       key: edge, path. Rows that want what lies there, and the documents that lie there, meet
           -> First, CountWays    key: edge, row (and document). Where an edge has a limit, or several ways lead there
           -> Distinct            key: aggregate, row, value. Where an aggregate counts values once
           -> Row      key: row. What its aggregates hold; rendered when nothing is awaited
           -> Claim    key: row path. Where several rows may want it

What steps send adds up, so it may come in any order, once each: see `boiler_beam.steps.stream.messages`.
"""

from boiler_beam.steps.stream.cells import (
    ClaimCell,
    DownCell,
    Emitted,
    FirstCell,
    RowCell,
    UpCell,
    Ways,
)
from boiler_beam.steps.stream.claims import Claim
from boiler_beam.steps.stream.distinct import Distinct
from boiler_beam.steps.stream.down import Down
from boiler_beam.steps.stream.first import First
from boiler_beam.steps.stream.memory import MemoryCells
from boiler_beam.steps.stream.plan import StreamPlan
from boiler_beam.steps.stream.row import Row
from boiler_beam.steps.stream.up import Up
from boiler_beam.steps.stream.ways import CountWays

__all__ = ["Claim", "ClaimCell", "CountWays", "Distinct", "Down", "DownCell", "Emitted", "First", "FirstCell"]
__all__ += ["MemoryCells", "Row", "RowCell", "StreamPlan", "Up", "UpCell", "Ways"]
