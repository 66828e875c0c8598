"""Who may see or change a row: the values that `viewers()` and `editors()` of a view yield.

They are stored in the fields `_viewers` and `_editors` as sorted lists of texts. Security rules and servers can enforce
them, and clients can query by them:
`where("_viewers", "array-contains-any", ["u1", "signed in", "role:teacher@schools/s1"])`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from boiler_beam.models import DomainModel
from boiler_beam.values import Ref

__all__ = ["ANYONE", "MAX_NAMED", "SIGNED_IN", "named", "role", "seen_by", "viewers_of"]

Getter = TypeVar("Getter", bound=Callable[..., Any])

ANYONE, SIGNED_IN = "anyone", "signed in"
MAX_NAMED = 1000


def role(name: str, *, of: Ref[Any] | DomainModel | None = None) -> str:
    """Names all users with a role, everywhere or in one document, without listing them one by one.

    >>> role("teacher", of=Ref("schools/s1")), role("admin")
    ('role:teacher@schools/s1', 'role:admin')
    """
    return f"role:{name}" if of is None else f"role:{name}@{of.path}"


def seen_by(*viewers: str) -> Callable[[Getter], Getter]:
    """Restricts a view property to some viewers of the row; it is written below `@view_property`.

        @view_property
        @seen_by(role("host"))
        def phone(self) -> str: ...

    This is `@view_property(viewers=role("host"))` in a form that type checkers understand.

    Args:
        *viewers: User ids, `"signed in"` or roles.

    Raises:
        TypeError: One is not text.
        ValueError: One is empty, or there are none.
    """
    names = tuple(named(viewers))
    if not names:
        raise ValueError("expected at least one viewer, got none; fix: name a role, or remove the restriction")

    def restrict(getter: Getter) -> Getter:
        getter.__boiler_viewers__ = names  # type: ignore[attr-defined]
        return getter

    return restrict


def viewers_of(getter: Callable[..., Any]) -> frozenset[str]:
    """Returns the viewers to whom a property's getter was restricted; none if all viewers of the row see it."""
    return frozenset(getattr(getter, "__boiler_viewers__", ()))


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
