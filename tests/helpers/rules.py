"""Clients of the Firestore emulator that security rules apply to: the REST API with unsigned tokens of Firebase."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any


def put_rules(host: str, project: str, text: str) -> None:
    """Sets the rules of a project.

    Raises:
        AssertionError: The emulator can't compile them.
    """
    body = {"rules": {"files": [{"content": text}]}}
    status, answer = _call("PUT", f"http://{host}/emulator/v1/projects/{project}:securityRules", body, {})
    assert status == 200, answer
    assert "issues" not in answer, answer


class RestClient:
    """A client with a token, or without one.

    Args:
        host: HOST:PORT of the emulator.
        project: The project.
        user: The user's id; None: nobody signed in.
        roles: The claim `roles`.
    """

    def __init__(self, host: str, project: str, user: str | None, roles: list[str] | None = None) -> None:
        self.root = f"http://{host}/v1/projects/{project}/databases/(default)/documents"
        self.headers = {} if user is None else {"Authorization": f"Bearer {_token(project, user, roles)}"}

    def get(self, path: str) -> int:
        return _call("GET", f"{self.root}/{path}", None, self.headers)[0]

    def create(self, path: str, fields: dict[str, Any]) -> int:
        collection, _, name = path.rpartition("/")
        return _call("POST", f"{self.root}/{collection}?documentId={name}", {"fields": fields}, self.headers)[0]

    def patch(self, path: str, fields: dict[str, Any]) -> int:
        return _call("PATCH", f"{self.root}/{path}", {"fields": fields}, self.headers)[0]

    def delete(self, path: str) -> int:
        return _call("DELETE", f"{self.root}/{path}", None, self.headers)[0]

    def query(self, collection: str, where: dict[str, Any] | None) -> tuple[int, list[str]]:
        """The status, and the ids of the documents found."""
        query: dict[str, Any] = {"from": [{"collectionId": collection}]}
        if where is not None:
            query["where"] = {"fieldFilter": where}
        status, answer = _call("POST", f"{self.root}:runQuery", {"structuredQuery": query}, self.headers)
        found = (
            [one["document"]["name"].rpartition("/")[2] for one in answer if "document" in one] if status == 200 else []
        )
        return status, found


def _token(project: str, user: str, roles: list[str] | None) -> str:
    claims: dict[str, Any] = {
        "sub": user, "user_id": user, "aud": project, "iss": f"https://securetoken.google.com/{project}", "iat": 0,
        "exp": 4_000_000_000, "auth_time": 0, "firebase": {"sign_in_provider": "custom"},
    }  # fmt: skip
    if roles is not None:
        claims["roles"] = roles
    parts = [json.dumps(one).encode() for one in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(one).decode().rstrip("=") for one in parts), ""])


def _call(method: str, url: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {**headers, "Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status), json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")
