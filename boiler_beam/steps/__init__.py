"""What rows are made of and how: pure functions, and the steps of the executors; no Beam, no I/O, no clock.

A change on its way through an executor, and the modules that all executors share:

    change -> newest -> contributions -> the executor's joins -> row, missing -> claims -> emission -> sink
              taint     functions        engine, hash_join,      size
                                         keyed

| module | |
| --- | --- |
| `functions` | what one document says by users' functions and properties: shown, keys, links, values |
| `size` | how large Firestore takes a row to be |
| `newest` | the newest version of each document, the deltas of a batch, dead letters of documents |
| `emission` | what is written of a row, when, and under which stamp |
| `contributions` | `functions`, put together once for each edge of a plan; what raises makes the document absent |
| `row` | the getters of a row, for each of its copies |
| `missing` | why a row is not there that something makes |
| `taint` | the rows that an invalid document may belong to |
| `claims` | the row that gets a path which several rows claim |
| `distributed` | contributions as messages between workers, with the fields that rows need |
| `hash_join` | a backfill on many workers |
| `keyed` | a stream on many workers |

Each module imports only those above it in this table; `tests/test_layers.py` holds the order.
"""
