"""What is refused, in every protocol: a status of HTTP, a title, and where in the input the mistake is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["HistoryGone", "Problem", "unknown_row", "unknown_view"]


class Problem(Exception):
    """A request that can't be answered; its text is sent to the client, so it has nothing about the server.

    Attributes:
        status: The status code of HTTP that says it.
        title: The kind of problem, the same for all of a kind.
        detail: What was wrong with this request.
        errors: Pairs of a path into the request's body (`/fields/status`) and what is wrong there.
        headers: More headers of the answer over HTTP.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail or title)
        self.status, self.title, self.detail = status, title, detail
        self.errors, self.headers = tuple(errors), tuple(headers)

    def as_json(self) -> dict[str, Any]:
        """Returns the members of a problem document (RFC 9457).

        >>> Problem(404, "not found").as_json()
        {'type': 'about:blank', 'title': 'not found', 'status': 404}
        """
        found: dict[str, Any] = {"type": "about:blank", "title": self.title, "status": self.status}
        if self.detail:
            found["detail"] = self.detail
        if self.errors:
            found["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in self.errors]
        return found


class HistoryGone(Problem):
    """What changed since an offset is no longer known: the client has to read all rows again."""

    def __init__(self) -> None:
        super().__init__(410, "history gone", "what changed since this offset is not known; read from offset -1")


def unknown_view() -> Problem:
    """Returns the problem that there is no such view."""
    return Problem(404, "no such view")


def unknown_row() -> Problem:
    """Returns the problem that there is no such row."""
    return Problem(404, "no such row")
