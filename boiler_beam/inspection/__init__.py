"""What commands report about views, documents and rows; nothing is written.

Each module takes a plan and the newest versions of its documents, and reads rows from `engine.computed`:

| module | reports |
| --- | --- |
| `check` | documents that do not fit their models, and references that lead to no document |
| `why` | the documents behind a row, or why there is no row |
| `cost` | how many rows the change of a document writes |
| `purity` | properties whose values differ when they are computed a second time |
| `diff` | the rows in which two sinks differ |
"""
