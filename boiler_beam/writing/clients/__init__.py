"""Types of rows and a small client for the server, generated from view classes.

| module | holds |
| --- | --- |
| `shape` | what a client needs to know of a view: its fields, what can be set, what `new` takes |
| `typescript`, `python` | the text of a module in that language |
"""

from collections.abc import Callable, Sequence

from boiler_beam.plan import Plan
from boiler_beam.writing.clients.python import python_module
from boiler_beam.writing.clients.shape import ClientView, client_views
from boiler_beam.writing.clients.typescript import typescript_module

__all__ = ["LANGUAGES", "client_module"]

LANGUAGES: dict[str, Callable[[Sequence[ClientView]], str]] = {
    "typescript": typescript_module,
    "python": python_module,
}


def client_module(plan: Plan, language: str) -> str:
    """Returns the text of a module with the types of a plan's rows, and a client.

    Args:
        plan: The views.
        language: `typescript` or `python`.
    """
    return LANGUAGES[language](client_views(plan))
