"""The errors that boiler_beam raises on purpose.

A message says where, what was expected, what was found, and the fix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "BoilerBeamError",
    "Conflict",
    "DeclarationError",
    "InvalidDocument",
    "Mistake",
    "Rejected",
    "RenderError",
    "UnknownOutcome",
    "UsageError",
    "WriteRefused",
]


class BoilerBeamError(Exception):
    """Base of all errors raised on purpose."""


class UsageError(BoilerBeamError):
    """Wrong use of a command, a URI or a configuration. The command line prints one line and exits with 2."""


@dataclass(frozen=True)
class Mistake:
    """One mistake in a declaration.

    Attributes:
        where: The `Class` or `Class.field` with the mistake.
        expected: What is allowed there.
        got: What was found.
        fix: What to write instead, as an imperative ("name ...", "remove ...").
    """

    where: str
    expected: str
    got: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}; fix: {self.fix}"


class DeclarationError(BoilerBeamError):
    """Classes that can't be compiled; the message lists every mistake in them.

    >>> print(DeclarationError([Mistake("View.Store.user", "a field of Meeting", "'usr'", "name one of: user")]))
    1 mistake in the declared classes:
      View.Store.user: expected a field of Meeting, got 'usr'; fix: name one of: user
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        number = len(self.mistakes)
        heading = f"{number} mistake{'' if number == 1 else 's'} in the declared classes:"
        super().__init__("\n  ".join([heading, *map(str, self.mistakes)]))


class InvalidDocument(BoilerBeamError):
    """A document version that can't be used; it becomes a dead letter.

    Attributes:
        code: The dead letter's code, e.g. `invalid_document`, `unknown_subclass`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RenderError(BoilerBeamError):
    """A row that can't be rendered; it becomes a dead letter.

    Attributes:
        code: The dead letter's code, e.g. `getter_raised`, `row_too_large`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Conflict(BoilerBeamError):
    """A document that a transaction read was changed before its commit; nothing was written."""


class UnknownOutcome(BoilerBeamError):
    """The connection broke while a transaction was committed; nobody knows whether it was applied."""


_STATUSES = {
    "forbidden": 403, "not_found": 404, "not_creatable": 405, "not_writable": 405, "exists": 409,
    "stale": 412,
}  # fmt: skip


class WriteRefused(BoilerBeamError):
    """A write that is not made, because of what was asked for.

    Attributes:
        code: The reason, for programs: `not_found`, `exists`, `unknown_field`, `not_writable`, `invalid_value`,
            `forbidden`, `stale`, `not_creatable`, `rejected`.
        field: The field that it is about, by its name in the request; None if it is about the whole.
    """

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.field = code, field

    @property
    def status(self) -> int:
        """The status of HTTP that says this: 403, 404, 405, 409, 412 or 422."""
        return _STATUSES.get(self.code, 422)


class Rejected(WriteRefused):
    """What a setter, `new` or a form's `apply` raises to refuse a write with a message for the user."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__("rejected", message, field)
