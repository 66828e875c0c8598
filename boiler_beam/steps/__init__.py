"""What rows are made of and how: pure functions, and the steps of the executors; no Beam, no I/O, no clock.

| module | |
| --- | --- |
| `functions`, `contributions` | what one document contributes at an edge |
| `distributed` | the same as messages between workers |
| `newest`, `taint`, `missing`, `claims`, `row`, `size`, `emission` | rules that executors share |
| `hash_join` | a backfill on many workers |
| `keyed` | a stream on many workers |
| `stream` | the steps of the in-process engine |
"""
