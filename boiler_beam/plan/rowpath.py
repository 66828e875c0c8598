"""Row paths: computes the paths of a row's copies from a template, the row's id and the values of `paths()`.

>>> inbox = RowPath("users/{user}/inbox/{id}", None)
>>> inbox.given, inbox.is_unique
(('user',), True)
>>> inbox.fill("c1", {"user": "u1"})
'users/u1/inbox/c1'
>>> inbox.wildcard("c1"), inbox.wildcard_of("users/u1/inbox/c1")
('users//inbox/c1', 'users//inbox/c1')
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from boiler_beam.errors import RenderError
from boiler_beam.models import CollectionPattern

__all__ = ["MAX_ID_BYTES", "RowPath", "overlap"]

MAX_ID_BYTES = 1500
"""The largest id. Source: https://firebase.google.com/docs/firestore/quotas#limits"""

_FORBIDDEN = re.compile(r"\.\.?|__.*__")
_NOBODY: Mapping[str, Any] = {}


@dataclass(frozen=True)
class RowPath:
    """The paths of the rows of a view.

    A *row id* identifies a row of a view: the root's id (its path if the root's collection is not flat), or the group's
    id.

    Attributes:
        template: The template as written: `users/{user}/inbox/{id}`.
        root: The collection of the root if the row id is a path; None if the row id is one segment.
    """

    template: str
    root: CollectionPattern | None

    @cached_property
    def _segments(self) -> tuple[str, ...]:
        return tuple(self.template.split("/"))

    @cached_property
    def placeholders(self) -> dict[str, int]:
        """The index of each placeholder's segment in the path."""
        return {one[1:-1]: index for index, one in enumerate(self._segments) if one[:1] == "{"}

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset({"id", "key", *(self.root.placeholders if self.root is not None else ())})

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The placeholders whose values `paths()` yields."""
        return tuple(name for name in self.placeholders if name not in self._known)

    @cached_property
    def is_unique(self) -> bool:
        """Whether two rows can never have the same path."""
        names = self.placeholders.keys()
        if names.isdisjoint({"id", "key"}):
            return False
        return self.root is None or (not self.root.is_group and names >= set(self.root.placeholders))

    @cached_property
    def _simple(self) -> tuple[str, str] | None:
        if self.root is not None or len(self.placeholders) != 1 or self.given:
            return None
        before, _, behind = re.sub(r"\{[^}]*\}", "\0", self.template).partition("\0")
        return before, behind

    def _values(self, row_id: str) -> dict[str, str]:
        last = row_id[row_id.rfind("/") + 1 :] if self.root is not None else row_id
        known = (self.root.match(row_id) or {}) if self.root is not None else {}
        return {**known, "id": last, "key": last}

    def fill(self, row_id: str, at: Mapping[str, str] = _NOBODY) -> str:
        """Returns the path of one copy of a row; `at` are the placeholders that `paths()` yielded."""
        if self._simple is not None:
            return row_id.join(self._simple)
        values = {**self._values(row_id), **at}
        return "/".join([values.get(one[1:-1], one) if one[:1] == "{" else one for one in self._segments])

    def at(self, path: str) -> dict[str, str]:
        """Returns the values of the placeholders in a path."""
        segments = path.split("/")
        return {name: segments[index] for name, index in self.placeholders.items()}

    def row_id_of(self, path: str) -> str:
        """Returns the id of the row with a copy at this path, if `is_unique`.

        >>> RowPath("users/{user}/inbox/{id}", None).row_id_of("users/u1/inbox/c1")
        'c1'
        """
        at = self.at(path)
        last = at["id"] if "id" in at else at["key"]
        if self.root is None:
            return last
        return "/".join([*(at.get(one[1:-1], one) if one[:1] == "{" else one for one in self.root.segments), last])

    def wildcard(self, row_id: str) -> str:
        """Returns the common part of the paths of a row's copies, with empty segments for placeholders of `paths()`."""
        return self.fill(row_id, dict.fromkeys(self.given, "")) if self.given else self.fill(row_id)

    def wildcard_of(self, path: str) -> str:
        """Returns the wildcard of the row with a copy at this path."""
        if not self.given:
            return path
        segments = path.split("/")
        for name in self.given:
            segments[self.placeholders[name]] = ""
        return "/".join(segments)

    def shown(self, wildcard: str) -> str:
        """Returns a wildcard for messages, with the names of the placeholders that `paths()` yields.

        >>> RowPath("users/{user}/inbox/{id}", None).shown("users//inbox/c1")
        'users/{user}/inbox/c1'
        """
        pairs = zip(wildcard.split("/"), self._segments, strict=True)
        return "/".join([one or placeholder for one, placeholder in pairs])

    def yielded(self, where: str, value: Any) -> dict[str, str]:
        """Checks the value that `paths()` yielded for one copy; `where` names the function in messages.

        Raises:
            RenderError: The value is not a dict of the placeholders (`getter_raised`), or gives no path (`bad_path`).
        """
        if not isinstance(value, Mapping) or set(value) != set(self.given):
            wanted = "{" + ", ".join(f"{name!r}: ..." for name in self.given) + "}"
            raise RenderError("getter_raised", f"{where}: expected to yield {wanted}, got {value!r}")
        return {name: self._segment(where, name, one) for name, one in value.items()}

    def _segment(self, where: str, name: str, value: Any) -> str:
        if isinstance(value, Enum):
            value = value.value
        text = str(value) if type(value) is int else value
        problem = None
        if not isinstance(text, str):
            problem = "text or an int"
        elif not text or "/" in text or _FORBIDDEN.fullmatch(text):
            problem = "an id that Firestore takes: not empty, without '/', not '.', '..' or '__...__'"
        elif len(text.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
            problem = f"an id of at most {MAX_ID_BYTES} bytes"
        if problem is not None:
            raise RenderError("bad_path", f"{where}: expected {name} to be {problem}, got {value!r}")
        return str(text)


def overlap(one: str, other: str) -> bool:
    """Returns whether a path can match both templates (or collection patterns with an added placeholder for the id).

    >>> overlap("rows/{id}/x/summary", "rows/{id}/x/{y}"), overlap("a/{id}", "b/{id}")
    (True, False)
    """
    mine, others = one.split("/"), other.split("/")
    return len(mine) == len(others) and all(
        a == b or a[:1] == "{" or b[:1] == "{" for a, b in zip(mine, others, strict=True)
    )
