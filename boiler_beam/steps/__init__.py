"""What all executors share, as pure functions, and the steps of those on many workers; no Beam, no I/O, no clock.

A change on its way through an executor, and the modules that all executors share:

    change -> newest -> contributions -> the executor's joins -> row, missing -> claims -> emission -> sink
              taint     functions        engine, hash_join,      size
                                         keyed

| module | |
| --- | --- |
| `functions` | calls users' functions of one document: is it shown, its keys, links, values |
| `size` | how large Firestore takes a row to be |
| `newest` | the newest version of each document, the deltas of a batch, dead letters of documents |
| `emission` | whether a row is written, and under which stamp |
| `contributions` | what a document contributes at an edge; where a function raises, the document is absent there |
| `row` | the getters of a row, for each of its copies |
| `missing` | why a row that has a root, or members, is absent |
| `taint` | the rows that an invalid document may belong to |
| `claims` | the row that gets a path which several rows claim |
| `distributed` | contributions as they are sent between workers, with the fields that rows need |
| `hash_join` | a backfill on many workers |
| `keyed` | a stream on many workers |

Each module imports only those above it in this table; `tests/test_layers.py` holds the order.
"""
