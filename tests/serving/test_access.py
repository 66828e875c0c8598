"""Who may see what, the same over every protocol, against a running server; and Firebase's tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from boiler_beam.errors import UsageError
from boiler_beam.serving import Problem, User, asgi_app
from boiler_beam.serving.auth import FirebaseVerifier, verifier_of
from tests.helpers.serving import VIEWS, Rows, client, names_are_tokens, serve

ROW = "/views/Inbox/ann%2Finbox%2Fc1"


def test_a_row_is_seen_by_those_whom_it_names_and_others_learn_nothing(rows: Rows, guarded: str) -> None:
    rows.inbox("ann", "c1", "secret")
    missing = "/views/Inbox/ann%2Finbox%2Fnone"
    with client(guarded, "ann") as ann, client(guarded, "bob") as bob, client(guarded) as nobody:
        bad = {"Authorization": "Bearer bad"}
        row = ann.get(ROW)
        assert row.json()["fields"] == {"text": "secret"}, "viewers and editors are not told"
        assert row.headers["cache-control"] == "private, no-cache"
        refused, absent = bob.get(ROW), bob.get(missing)
        assert refused.status_code == absent.status_code == 403
        assert refused.json() == absent.json()
        assert "secret" not in refused.text
        for path in (ROW, missing, "/views/Inbox", "/views/Inbox/stream"):
            answer = nobody.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert nobody.get(ROW, headers=bad).status_code == 401
        assert bob.get(ROW, headers={"If-None-Match": row.headers["etag"]}).status_code == 403


def test_lists_and_streams_hold_only_what_a_user_may_see(rows: Rows, guarded: str) -> None:
    for number in range(60):
        rows.inbox("bob" if number % 7 else "ann", f"c{number:02}", "x")
    with client(guarded, "ann") as ann:
        found, cursor = [], None
        while True:
            query = {"limit": "2", **({} if cursor is None else {"cursor": cursor})}
            page = ann.get("/views/Inbox", params=query).json()
            found += [row["id"] for row in page["rows"]]
            if (cursor := page["cursor"]) is None:
                break
        assert found == [f"ann/inbox/c{number:02}" for number in range(0, 60, 7)]
        url = ann.get("/views/Inbox/stream").headers["location"]
        told = ann.get(url, params={"offset": "-1"}).json()
        assert [one["key"] for one in told if "key" in one] == found


def test_a_row_that_a_user_may_no_longer_see_is_gone_for_them(rows: Rows, guarded: str) -> None:
    rows.inbox("ann", "c1", "one", ["ann", "bob"])
    with client(guarded, "bob") as bob, client(guarded, "ann") as ann:
        url = bob.get("/views/Inbox/stream").headers["location"]
        offset = bob.get(url, params={"offset": "-1"}).headers["stream-next-offset"]
        rows.inbox("ann", "c1", "two", ["ann"])
        rows.inbox("ann", "c2", "never seen", ["ann"])
        told = [(one["headers"]["operation"], one["key"]) for one in bob.get(url, params={"offset": offset}).json()]
        assert told == [("delete", "ann/inbox/c1")]
        told = [(one["headers"]["operation"], one["key"]) for one in ann.get(url, params={"offset": offset}).json()]
        assert told == [("update", "ann/inbox/c1"), ("insert", "ann/inbox/c2")]
        rows.inbox("ann", "c1", "three", ["ann", "bob"])
        told = [(one["headers"]["operation"], one["key"]) for one in bob.get(url, params={"offset": offset}).json()]
        assert told[-1][1] == "ann/inbox/c1"
        assert told[-1][0] in ("insert", "update")


def test_rows_for_anyone_for_signed_in_users_and_for_roles(rows: Rows, guarded: str) -> None:
    rows.inbox("x", "any", "1", ["anyone"])
    rows.inbox("x", "in", "2", ["signed in"])
    rows.inbox("x", "role", "3", ["role:host@rooms/r1"])
    ids = lambda http: [row["id"].rpartition("/")[2] for row in http.get("/views/Inbox").json()["rows"]]  # noqa: E731
    with client(guarded) as nobody, client(guarded, "eve") as eve, client(guarded, "hal+role:host@rooms/r1") as host:
        assert ids(nobody) == ["any"]
        assert ids(eve) == ["any", "in"]
        assert ids(host) == ["any", "in", "role"]
        assert nobody.get("/views/Inbox/x%2Finbox%2Fany").headers["cache-control"] == "public, no-cache"


@pytest.mark.parametrize("name", ["anyone", "signed in", "role:host@rooms/r1"])
def test_no_user_is_named_like_a_group(rows: Rows, guarded: str, name: str) -> None:
    rows.inbox("x", "c", "1", ["role:host@rooms/r1"])
    with client(guarded) as http:
        answer = http.get("/views/Inbox/x%2Finbox%2Fc", headers={"Authorization": f"Bearer {name}"})
    assert answer.status_code == 401
    with pytest.raises(Problem):
        anyio.run(names_are_tokens, name)


def test_a_view_that_names_no_viewers_is_closed_where_users_sign_in(rows: Rows, guarded: str) -> None:
    rows.board("b1")
    with client(guarded, "ann") as ann:
        for path in ("/views/Board/b1", "/views/Board", "/views/Board/stream"):
            assert ann.get(path).status_code == 403, path


def test_an_error_inside_is_not_told(rows: Rows, uri: str, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(token: str) -> User:
        raise RuntimeError("the password is 1234")

    with serve(asgi_app(VIEWS, rows=uri, auth=broken)) as address, client(address, "x") as http:
        answer = http.get(ROW)
    assert answer.status_code == 500
    assert answer.json() == {"type": "about:blank", "title": "internal error", "status": 500}
    assert "1234" in caplog.text, "it is in the log"


# Firebase ------------------------------------------------------------------------------------------------------------

KEYS = {name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("k1", "k2")}


class Google:
    """Public keys, as Google gives them."""

    def __init__(self, *names: str) -> None:
        self.names, self.fetched = list(names), 0

    def __call__(self) -> tuple[dict[str, Any], float]:
        self.fetched += 1
        return {name: KEYS[name].public_key() for name in self.names}, 3600.0


def token(key: str = "k1", algorithm: str = "RS256", signed_by: Any = None, **claims: Any) -> str:
    now = int(time.time())
    whole = {
        "aud": "proj", "iss": "https://securetoken.google.com/proj", "sub": "ann", "iat": now - 9, "exp": now + 99,
        "auth_time": now - 9, "roles": ["role:host@rooms/r1", "anyone", 7], **claims,
    }  # fmt: skip
    named = {name: value for name, value in whole.items() if value is not None}
    secret = KEYS[key] if signed_by is None and algorithm == "RS256" else signed_by
    return jwt.encode(named, secret, algorithm=algorithm, headers={"kid": key})


def test_a_valid_token_of_firebase() -> None:
    user = anyio.run(FirebaseVerifier("proj", fetch=Google("k1")), token())
    assert user.id == "ann"
    assert user.principals == {"ann", "anyone", "signed in", "role:host@rooms/r1"}
    assert user.expires is not None
    assert user.expires > time.time()


NOW = int(time.time())
BAD: dict[str, Callable[[], str]] = {
    "expired": lambda: token(exp=NOW - 60),
    "another project": lambda: token(aud="other"),
    "another issuer": lambda: token(iss="https://securetoken.google.com/other"),
    "issued in the future": lambda: token(iat=NOW + 600),
    "signed in in the future": lambda: token(auth_time=NOW + 600),
    "without a user": lambda: token(sub=""),
    "without an end": lambda: token(exp=None),
    "without a sign-in": lambda: token(auth_time=None),
    "not signed": lambda: token(algorithm="none"),
    "signed by a secret": lambda: token(algorithm="HS256", signed_by="x" * 40),
    "signed by another key": lambda: token(signed_by=KEYS["k2"]),
    "unknown key": lambda: token(key="k2"),
    "no token": lambda: "abc.def",
}


@pytest.mark.parametrize("name", BAD)
def test_tokens_that_are_refused(name: str) -> None:
    with pytest.raises(Problem) as refused:
        anyio.run(FirebaseVerifier("proj", fetch=Google("k1")), BAD[name]())
    assert refused.value.status == 401


def test_keys_are_kept_and_fetched_again_when_they_rotate() -> None:
    google, now = Google("k1"), [0.0]
    verifier = FirebaseVerifier("proj", fetch=google, clock=lambda: now[0])
    for _ in range(3):
        anyio.run(verifier, token())
    assert google.fetched == 1
    google.names.append("k2")
    with pytest.raises(Problem):
        anyio.run(verifier, token(key="k2"))
    now[0] = 61.0
    assert anyio.run(verifier, token(key="k2")).id == "ann"
    assert google.fetched == 2
    google.names.remove("k1")
    now[0] = 61.0 + 3601
    with pytest.raises(Problem):
        anyio.run(verifier, token(key="k1"))


def test_tokens_of_the_emulator_are_taken_only_where_it_is_named() -> None:
    unsigned = token(algorithm="none")
    emulated = verifier_of("firebase:proj", emulator="localhost:9099")
    assert emulated is not None
    assert anyio.run(emulated, unsigned).id == "ann"
    for bad in (token(), token(algorithm="none", aud="other"), token(algorithm="none", exp=NOW - 60)):
        with pytest.raises(Problem):
            anyio.run(emulated, bad)
    real = verifier_of("firebase:proj")
    assert real is not None
    with pytest.raises(Problem):
        anyio.run(real, unsigned)


def test_kinds_of_auth() -> None:
    assert verifier_of("none") is None
    assert verifier_of(names_are_tokens) is names_are_tokens
    with pytest.raises(UsageError, match="firebase:PROJECT"):
        verifier_of("firebase")
