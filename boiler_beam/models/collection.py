"""Collection patterns: `users`, `conversations/{conversation}/messages`, `**/comments`; which paths belong to one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

__all__ = ["CollectionPattern"]

_PLACEHOLDER = re.compile(r"^\{([A-Za-z_][A-Za-z0-9_]*)\}$")


@dataclass(frozen=True)
class CollectionPattern:
    """The documents of one model, by their paths.

    >>> CollectionPattern("rooms/{room}/messages").match("rooms/r1/messages/m7")
    {'room': 'r1'}
    >>> CollectionPattern("users").match("orgs/o1/users/u1") is None
    True
    """

    text: str

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The pattern's segments, without the `**` of a collection group."""
        return tuple(self.text.removeprefix("**/").split("/"))

    @cached_property
    def is_group(self) -> bool:
        """Whether it is a whole collection group, wherever its documents lie."""
        return self.text.startswith("**/")

    @cached_property
    def is_flat(self) -> bool:
        """Whether a document is known by its bare id: one top-level collection."""
        return not self.is_group and len(self.segments) == 1

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The names of the path fields, from left to right."""
        return tuple(found[1] for segment in self.segments if (found := _PLACEHOLDER.match(segment)))

    def parent_shape(self, place: int) -> tuple[str, ...]:
        """The collection names of the document that the path has up to a placeholder (its place, from 0)."""
        return self.segments[: 2 * place + 1 : 2]

    def holds(self, shape: tuple[str, ...]) -> bool:
        """Whether documents below these collection names belong to the collection."""
        return shape[-1:] == self.segments if self.is_group else shape == self.segments[::2]

    def problem(self) -> str | None:
        """What is wrong with the pattern, or None."""
        if len(self.segments) % 2 == 0:
            return f"{len(self.segments)} segments, which names a document"
        for index, segment in enumerate(self.segments):
            if not segment:
                return "an empty segment"
            is_placeholder = _PLACEHOLDER.match(segment) is not None
            if is_placeholder != (index % 2 == 1):
                return f"{segment!r} in place {index + 1}"
            if "{" in segment and not is_placeholder:
                return f"{segment!r}, which is no placeholder"
        if len(set(self.placeholders)) < len(self.placeholders):
            return "one placeholder twice"
        if self.is_group and len(self.segments) != 1:
            return "a collection group of more than one segment"
        return None

    def match(self, path: str) -> dict[str, str] | None:
        """The values of the placeholders when the document belongs to the collection, else None."""
        segments = path.split("/")
        if self.is_group:
            return {} if len(segments) % 2 == 0 and segments[-2] == self.segments[0] else None
        if len(segments) != len(self.segments) + 1:
            return None
        values = {}
        for mine, given in zip(self.segments, segments, strict=False):
            if found := _PLACEHOLDER.match(mine):
                values[found[1]] = given
            elif mine != given:
                return None
        return values
