"""Who has a token: Firebase ID tokens, or a verifier of one's own.

    --auth none                 nobody signs in; everything is open (the default where the host is loopback)
    --auth firebase:my-project  ID tokens of Firebase Authentication

An ID token is a JWT: RS256 by one of Google's keys, which are fetched and kept as long as the answer says; `aud` is the
project, `iss` is `https://securetoken.google.com/PROJECT`, `exp` is not over, `iat` and `auth_time` are not to come
(https://firebase.google.com/docs/auth/admin/verify-id-tokens). Roles are the texts of the claim `roles`, as
`boiler_beam.role` writes them. Tokens of the emulator, which are not signed, are taken only where
`FIREBASE_AUTH_EMULATOR_HOST` names it; others are refused there.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
import jwt

from boiler_beam.errors import UsageError
from boiler_beam.serving.access import CHALLENGE, User, Verifier, signed_in
from boiler_beam.serving.problems import Problem

__all__ = ["FirebaseVerifier", "fetch_keys", "verifier_of"]

KEYS_URL = "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
_LEEWAY_SECONDS = 5
_AGAIN_SECONDS = 60.0
"""How often keys are fetched at most, for tokens with an unknown key."""

Keys = tuple[Mapping[str, Any], float]
"""Keys by id, and for how many seconds they may be kept."""


def verifier_of(auth: str | Verifier | None, *, emulator: str | None = None) -> Verifier | None:
    """Returns the verifier that `--auth` names; None for `none`.

    Args:
        auth: `none`, `firebase:PROJECT`, or a verifier.
        emulator: The address of Firebase's emulator, if its tokens are taken.

    Raises:
        UsageError: It is none of them.
    """
    if auth is None or auth == "none":
        return None
    if not isinstance(auth, str):
        return auth
    scheme, _, project = auth.partition(":")
    if scheme != "firebase" or not project:
        raise UsageError(f"--auth {auth}: expected none or firebase:PROJECT; fix: write one of the two")
    return FirebaseVerifier(project, is_emulated=bool(emulator))


def fetch_keys(url: str = KEYS_URL) -> Keys:
    """Fetches public keys, a JSON Web Key Set."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        age = re.search(r"max-age=(\d+)", answer.headers.get("Cache-Control", ""))
        keys = {one["kid"]: jwt.PyJWK(one, algorithm="RS256").key for one in json.load(answer)["keys"]}
    return keys, float(age[1]) if age else 300.0


class FirebaseVerifier:
    """Verifies Firebase ID tokens.

    Args:
        project: The project's id.
        is_emulated: Whether tokens come from the emulator.
        fetch: Returns the public keys.
        clock: Seconds.
    """

    def __init__(
        self,
        project: str,
        *,
        is_emulated: bool = False,
        fetch: Callable[[], Keys] = fetch_keys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.project, self.is_emulated, self.fetch, self.clock = project, is_emulated, fetch, clock
        self._keys: Mapping[str, Any] = {}
        self._until = self._fetched = float("-inf")
        self._lock = anyio.Lock()

    async def __call__(self, token: str) -> User:
        """Returns the user of a token; see `Verifier`."""
        try:
            header = jwt.get_unverified_header(token)
            options: Any = {"require": ["exp", "iat", "aud", "iss", "sub", "auth_time"]}
            key: Any = ""
            if self.is_emulated:
                if header.get("alg") != "none":
                    raise _invalid("expected a token of the emulator")
                options["verify_signature"] = False
                options |= {f"verify_{name}": True for name in ("exp", "iat", "aud", "iss", "nbf")}
            else:
                if header.get("alg") != "RS256":
                    raise _invalid("expected RS256")
                key = await self._key(header.get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=["none"] if self.is_emulated else ["RS256"],
                audience=self.project,
                issuer=f"https://securetoken.google.com/{self.project}",
                leeway=_LEEWAY_SECONDS,
                options=options,
            )
        except jwt.PyJWTError as error:
            raise _invalid(str(error)) from None
        when = claims["auth_time"]
        if not isinstance(when, (int, float)) or when > time.time() + _LEEWAY_SECONDS:
            raise _invalid("auth_time is in the future")
        roles = claims.get("roles", [])
        named = [one for one in roles if isinstance(one, str)] if isinstance(roles, list) else []
        return signed_in(str(claims["sub"]), named, expires=float(claims["exp"]), claims=claims)

    async def _key(self, key_id: Any) -> Any:
        async with self._lock:
            now = self.clock()
            is_unknown = key_id not in self._keys
            if now >= self._until or (is_unknown and now - self._fetched >= _AGAIN_SECONDS):
                self._keys, seconds = await anyio.to_thread.run_sync(self.fetch)
                self._fetched, self._until = now, now + seconds
        if key_id not in self._keys:
            raise _invalid("unknown key")
        return self._keys[key_id]


def _invalid(detail: str) -> Problem:
    return Problem(401, "invalid token", detail, headers=CHALLENGE)
