"""The document store of one machine, an SQLite file: `documents:PATH`.

| module | holds |
| --- | --- |
| `file` | the file: its tables, and how it is opened |
| `source` | documents and their changes, read by backfills and streams |
| `store` | transactions |
"""
