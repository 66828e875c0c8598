"""What one document says: whether an edge shows it, what it refers to, its groups, what it contributes.

All that a user wrote (`where=`, `of=`, `by=`, properties) runs in here, before any state is touched: what it raises
becomes a `FunctionRaised`, which makes the document absent at that edge or aggregate (S10a).
"""

from __future__ import annotations

from enum import Enum
from typing import Any
from urllib.parse import quote

from boiler_beam.errors import BoilerBeamError
from boiler_beam.plan import Aggregate, Group, Reference, Referrers
from boiler_beam.plan.tree import Edge
from boiler_beam.values import Ref

__all__ = ["NOTHING", "FunctionRaised", "contribution", "group_ids", "is_shown", "references", "row_id", "targets"]

NOTHING: Any = object()
"""What a document contributes that an aggregate does not count."""

MAX_ID_BYTES = 1500
"""Source: https://firebase.google.com/docs/firestore/quotas#limits"""


class FunctionRaised(BoilerBeamError):
    """A user's function of one document raised: which, and what."""

    code = "function_raised"


def is_shown(edge: Edge, document: Any) -> bool:
    """Whether the edge shows this document of its family: its class fits, and `where=` does not refuse it.

    Raises:
        FunctionRaised: `where=` did.
    """
    if not isinstance(document, edge.model):
        return False
    if edge.where is None:
        return True
    try:
        return bool(edge.where(document))
    except Exception as error:
        raise FunctionRaised(f"where= of {edge.name} raised {type(error).__name__}: {error}") from error


def references(edge: Reference, parent: Any) -> list[tuple[str | None, str]]:
    """The paths that a parent's document refers to over this edge, in its order, each with its key in a map or None.

    Raises:
        FunctionRaised: A property on the way did.
    """
    try:
        return [(key, ref.path) for key, ref in edge.field.read(parent)]
    except Exception as error:
        raise FunctionRaised(f"{edge.field.text} of {edge.name} raised {type(error).__name__}: {error}") from error


def targets(edge: Referrers, document: Any) -> list[str]:
    """The paths of the parents that this document hangs on over this edge, each once.

    Raises:
        FunctionRaised: A property on the way did.
    """
    try:
        found = edge.by.read(document)
        if len(found) == 1:
            return [found[0][1].path]
        return list(dict.fromkeys(ref.path for _, ref in found))
    except Exception as error:
        raise FunctionRaised(f"by= of {edge.name} raised {type(error).__name__}: {error}") from error


def group_ids(edge: Group, document: Any) -> list[tuple[str, Any]]:
    """The rows that this document is a member of: their ids, and the keys that these are made of.

    Raises:
        FunctionRaised: A property on the way did, or a key makes no id.
    """
    try:
        return list({row_id(key): key for _, key in edge.by.read(document)}.items())
    except Exception as error:
        raise FunctionRaised(f"by= of {edge.name} raised {type(error).__name__}: {error}") from error


def row_id(key: Any) -> str:
    """The id of the row of a group key.

    Raises:
        ValueError: The key is of a kind that makes no id, or makes one that Firestore refuses.

    >>> row_id("a/b c"), row_id(7), row_id("."), row_id("")
    ('a%2Fb%20c', '7', '%2E', '%')
    """
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, Ref):
        key = key.path
    if isinstance(key, int) and not isinstance(key, bool):
        text = str(key)
    elif isinstance(key, str):
        text = quote(key, safe="")
    else:
        raise ValueError(f"expected text, an int, an Enum or a Ref as key, got {key!r}")
    if not text:
        return "%"
    if text in (".", "..") or (text.startswith("__") and text.endswith("__") and len(text) >= 4):
        text = f"%{ord(text[0]):02X}{text[1:]}"
    if len(text.encode()) > MAX_ID_BYTES:
        raise ValueError(f"expected an id of at most {MAX_ID_BYTES} bytes, got {len(text.encode())}: {text[:40]}...")
    return text


def contribution(aggregate: Aggregate, document: Any) -> Any:
    """What a document adds to an aggregate: a Firestore value, or `NOTHING`.

    Raises:
        FunctionRaised: `where=` or `of=` did, or gave what Firestore has no type for.
    """
    try:
        if aggregate.where is not None and not aggregate.where(document):
            return NOTHING
        value = aggregate.of(document)
        if value is None:
            return NOTHING
        aggregate.fold.check(value)
        return value
    except Exception as error:
        raise FunctionRaised(f"aggregate {aggregate.name} raised {type(error).__name__}: {error}") from error
