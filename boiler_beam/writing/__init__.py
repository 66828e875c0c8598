"""Writing: transactions on domain documents, setters and `new` of views, and forms.

| module | holds |
| --- | --- |
| `transaction` | `transaction`, `run_transaction`: documents are read, assigned to and committed |
| `writable` | copies of documents that can be assigned to, and what was changed in them |
| `configured` | the configured store |
| `writer` | `Writer`: sets properties of rows, and creates rows by `new` |
| `row` | a row whose setters can run |
| `clients` | types and clients in other languages |
| `rules` | security rules, generated from views and forms |
| `forms` | `Form`: documents by which clients ask for a write, and what applies them |
| `function` | applies the form of an event, in a Cloud Function |
| `assigned` | the values of a request, in the types that setters and `new` declare |

`writer` needs the engine, so it is imported when one of its names is used.
"""

from typing import TYPE_CHECKING, Any

from boiler_beam.connectors.field_values import DELETE_FIELD, SERVER_TIME, array_remove, array_union, increment
from boiler_beam.writing.forms import Form, FormRunner, FormsReport, Outcome, applying_forms, follow_forms
from boiler_beam.writing.transaction import MAX_RETRIES, Transaction, run_transaction, transaction

if TYPE_CHECKING:
    from boiler_beam.writing.writer import Principals, Writer, Written, apply_update

__all__ = [
    "DELETE_FIELD",
    "MAX_RETRIES",
    "SERVER_TIME",
    "Form",
    "FormRunner",
    "FormsReport",
    "Outcome",
    "Principals",
    "Transaction",
    "Writer",
    "Written",
    "apply_update",
    "applying_forms",
    "array_remove",
    "array_union",
    "follow_forms",
    "increment",
    "run_transaction",
    "transaction",
]


def __getattr__(name: str) -> Any:
    if name not in ("Principals", "Writer", "Written", "apply_update"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from boiler_beam.writing import writer

    return getattr(writer, name)
