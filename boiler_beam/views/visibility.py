"""Who may see or change a row: the values that `viewers()` and `editors()` of a view yield.

They are stored in the fields `_viewers` and `_editors` as sorted lists of texts. Security rules and servers can enforce
them, and clients can query by them:
`where("_viewers", "array-contains-any", ["u1", "signed in", "role:teacher@schools/s1"])`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from boiler_beam.models import DomainModel
from boiler_beam.values import Ref

__all__ = ["ANYONE", "MAX_NAMED", "SIGNED_IN", "named", "role"]

ANYONE, SIGNED_IN = "anyone", "signed in"
MAX_NAMED = 1000


def role(name: str, *, of: Ref[Any] | DomainModel) -> str:
    """Names all users with a role in a document, without listing them one by one.

    >>> role("teacher", of=Ref("schools/s1"))
    'role:teacher@schools/s1'
    """
    return f"role:{name}@{of.path}"


def named(yielded: Iterable[Any]) -> list[str]:
    """Returns the stored form of user ids, `"anyone"`, `"signed in"` and roles: sorted, each once.

    Raises:
        TypeError: One is not text.
        ValueError: One is empty, or there are more than 1,000.
    """
    found: set[str] = set()
    for one in yielded:
        if not isinstance(one, str):
            raise TypeError(
                f"expected a user id, 'anyone', 'signed in' or role(...), got {one!r}; fix: yield its doc_id"
            )
        if not one:
            raise ValueError("expected a user id, got an empty text")
        found.add(one)
        if len(found) > MAX_NAMED:
            raise ValueError(f"expected at most {MAX_NAMED:,} user ids, got more; fix: yield role(name, of=...)")
    return sorted(found)
