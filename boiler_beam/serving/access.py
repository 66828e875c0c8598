"""Who may see and change rows, decided here for every protocol.

A row says in `_viewers` and `_editors` (from `viewers()` and `editors()`) whose it is. A user has principals: their id,
`"anyone"`, `"signed in"`, and roles (`role:teacher@schools/s1`). They may see a row if the two have one in common.

| | nobody signs in (`--auth none`) | with a verifier |
| --- | --- | --- |
| view without `viewers()` | everyone sees its rows | nobody |
| view without `editors()` | everyone changes its rows | nobody |
| view with them | everyone | those whom they name |
| property with `viewers=` | everyone | those of the row's viewers whom it names |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from boiler_beam.serving.problems import Problem
from boiler_beam.serving.roles import Roles
from boiler_beam.views.visibility import ANYONE, SIGNED_IN

__all__ = ["NOBODY", "Access", "User", "Verifier", "signed_in"]

CHALLENGE = (("WWW-Authenticate", "Bearer"),)


@dataclass(frozen=True)
class User:
    """Who sends a request.

    Attributes:
        id: The user's id; None for somebody who did not sign in.
        principals: All by which `viewers()` and `editors()` may mean them.
        expires: When their token expires, in seconds since the epoch; None: never.
        claims: What the token says.
        given: The roles among the principals that are not from the token.
    """

    id: str | None
    principals: frozenset[str]
    expires: float | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)
    given: frozenset[str] = frozenset()

    @property
    def roles(self) -> frozenset[str]:
        """The roles among the principals."""
        return frozenset(one for one in self.principals if one.startswith("role:"))


NOBODY = User(None, frozenset({ANYONE}))
"""Somebody who did not sign in."""


def signed_in(
    user_id: str, roles: Iterable[str] = (), *, expires: float | None = None, claims: Mapping[str, Any] | None = None
) -> User:
    """Returns a user who signed in.

    Args:
        user_id: The id.
        roles: As `boiler_beam.role` writes them, `role:teacher@schools/s1`.
        expires: When the token expires, in seconds since the epoch.
        claims: What the token says.

    Raises:
        Problem: The id is one that means a group of users.
    """
    if not user_id or user_id in (ANYONE, SIGNED_IN) or user_id.startswith("role:"):
        raise Problem(401, "invalid token", "the token names no user", headers=CHALLENGE)
    held = (one for one in roles if one.startswith("role:"))
    return User(user_id, frozenset({user_id, ANYONE, SIGNED_IN, *held}), expires, claims or {})


class Verifier(Protocol):
    """Says who has a token."""

    async def __call__(self, token: str) -> User:
        """Returns the user.

        Raises:
            Problem: With status 401, if the token is not valid.
        """


class Access:
    """The rules, see the module.

    Args:
        verifier: Says who has a token; None: nobody signs in, and everything is open.
        roles: Says which roles users have, beside those in their token.
    """

    def __init__(self, verifier: Verifier | None = None, roles: Roles | None = None) -> None:
        self.verifier, self.roles = verifier, roles

    @property
    def is_open(self) -> bool:
        """Whether everyone may see and do everything."""
        return self.verifier is None

    async def user(self, token: str | None) -> User:
        """Returns who sends a token.

        Raises:
            Problem: It is not valid.
        """
        return NOBODY if token is None or self.verifier is None else await self.current(await self.verifier(token))

    async def current(self, user: User) -> User:
        """Returns a user with the roles that they have now; those in their token stay."""
        if self.roles is None or user.id is None or self.is_open:
            return user
        own = user.principals - user.given
        given = frozenset(one for one in await self.roles(user.id) if one.startswith("role:")) - own
        if user.given == given:
            return user
        return replace(user, principals=own | given, given=given)

    def sees(self, user: User, viewers: frozenset[str]) -> bool:
        """Returns whether a user may see a row with these viewers."""
        return self.verifier is None or not user.principals.isdisjoint(viewers)

    def hidden(self, user: User, restricted: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """Returns the properties that a user may not see, of those with viewers of their own."""
        return frozenset(name for name, viewers in restricted.items() if not self.sees(user, viewers))

    edits = sees
    """Whether a user may change a row with these editors."""

    def refused(self, user: User) -> Problem:
        """Returns the problem that a user may not do something; it says nothing of whether a row exists."""
        if user.id is None:
            return Problem(401, "sign in", headers=CHALLENGE)
        return Problem(403, "not allowed")
