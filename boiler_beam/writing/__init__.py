"""Writing: transactions on domain documents, setters and `new` of views, and forms.

| module | holds |
| --- | --- |
| `transaction` | `transaction`, `run_transaction`: documents are read, assigned to and committed |
| `writable` | copies of documents that can be assigned to, and what was changed in them |
| `configured` | the configured store |
"""

from boiler_beam.connectors.field_values import DELETE_FIELD, SERVER_TIME, array_remove, array_union, increment
from boiler_beam.writing.transaction import MAX_RETRIES, Transaction, run_transaction, transaction

__all__ = [
    "DELETE_FIELD",
    "MAX_RETRIES",
    "SERVER_TIME",
    "Transaction",
    "array_remove",
    "array_union",
    "increment",
    "run_transaction",
    "transaction",
]
