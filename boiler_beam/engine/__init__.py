"""The embedded engine: a plan that is run in one process.

A stream, one transaction after the other:

    sources -> intake -> follow -> transactions ------------------------> state ---> sending -> sink
               batches              |   ^                                 log, outbox
                                    |   reorder: whole commits
                                    v
                               incremental    IncrementalEngine: observe, take_dirty, end_batch or undo_batch
                                    |
         steps.newest -----------> joins -------------------------> rows ------> steps.row, steps.emission
         deltas of documents       edge by edge; index:             versions, aggregates (accumulators),
                                   which rows are at a key          dirty; lookup: documents of a row

A backfill is one batch into empty indexes. It writes what differs from the sink:

    sources -> steps.newest -> computed -> write -> sink

| module | |
| --- | --- |
| `incremental` | a batch of changes through all views |
| `joins`, `index` | the joins of edges; the rows at each key |
| `rows`, `accumulators`, `lookup` | the rows of a view; the values of their aggregates; the documents that they have |
| `state` | what is kept between runs: in memory, or as a log in a file |
| `follow`, `starting` | the loop of a stream; its settings, and what it needs to begin |
| `intake`, `report` | its batches; its figures |
| `transactions`, `reorder`, `sending` | one transaction; whole commits; from the outbox to the sink |
| `generations` | the phases of a view: loading, emitting, pruning, live |
| `computed`, `backfill`, `write` | all rows of a view at once; reading and writing them; what is written and pruned |
| `partition` | all rows on Beam, where all documents are in one partition |
| `fresh` | one row from a source that reads by key: `ViewModel.get` |
| `failures` | views of which no row could be computed |
| `garbage` | how often Python's garbage collector runs |

`docs/following_a_change.md` follows one change through these modules.
"""

from boiler_beam.engine.backfill import Report, backfill

__all__ = ["Report", "backfill"]
