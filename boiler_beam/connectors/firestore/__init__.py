"""Firestore: a source that is read or listened to, and a sink in which an older row never replaces a newer one.

| modules | hold |
| --- | --- |
| `source` | the source `firestore:`, of the next two |
| `snapshot`, `read`, `query` | reading collections as of one time |
| `listen`, `watch` | listening to collections |
| `sink`, `guard`, `rules` | writing rows: stamps, tombstones, and Firestore's limits |
| `write`, `throttle`, `retry` | sending many writes |
| `control` | control documents and the lease |
| `client`, `protos`, `values`, `options`, `paths` | connection, protobuf messages, conversion of values, settings |
"""
