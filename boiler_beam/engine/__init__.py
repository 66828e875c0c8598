"""The embedded engine: a plan that is run in one process.

A stream, one transaction after the other:

    sources -> intake -> reorder -> follow ------------------------------> state -> sink
               (batches) (commits)    |   documents, rows, positions:       (log, outbox)
                                      |   one transaction
                                      v
                                 incremental    IncrementalEngine: observe, take_dirty, end_batch or undo_batch
                                      |
         steps.newest -------------> joins -------------------------> rows ------> steps.row, steps.emission
         deltas of documents         edge by edge; index:              versions, aggregates (accumulators),
                                     which rows are at a key           dirty; lookup: documents of a row

A backfill is one batch into empty indexes. It writes what differs from the sink:

    sources -> steps.newest -> computed -> write -> sink

| module | |
| --- | --- |
| `incremental` | a batch of changes through all views |
| `joins`, `index` | the joins of edges; the rows at each key |
| `rows`, `accumulators`, `lookup` | the rows of a view; the values of their aggregates; the documents that they have |
| `state` | what is kept between runs: in memory, or as a log in a file |
| `follow`, `intake`, `reorder`, `report` | the loop of a stream; its batches; whole commits; its figures |
| `generations` | the phases of a view: loading, emitting, pruning, live |
| `computed`, `backfill`, `write` | all rows of a view at once; reading and writing them; what is written and pruned |
| `fresh` | one row from a source that reads by key: `ViewModel.get` |
| `why`, `check`, `cost`, `diff`, `purity`, `failures` | what commands tell about rows, documents and views |
| `memory`, `garbage` | a sink in memory; how often Python's garbage collector runs |

`docs/following_a_change.md` follows one change through these modules.
"""

from boiler_beam.engine.backfill import Report, backfill

__all__ = ["Report", "backfill"]
