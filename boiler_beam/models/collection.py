"""Collection patterns, such as `users`, `conversations/{conversation}/messages` and `**/comments`, and their paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

__all__ = ["CollectionPattern"]

_PLACEHOLDER = re.compile(r"^\{([A-Za-z_][A-Za-z0-9_]*)\}$")


@dataclass(frozen=True)
class CollectionPattern:
    """A pattern of collection paths: the documents of one model have paths that match it.

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
        """Whether it is a collection group: all collections of one name, below any document."""
        return self.text.startswith("**/")

    @cached_property
    def is_flat(self) -> bool:
        """Whether it is one top-level collection, so that a bare id identifies a document."""
        return not self.is_group and len(self.segments) == 1

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The names of the path fields, from left to right."""
        return tuple(found[1] for segment in self.segments if (found := _PLACEHOLDER.match(segment)))

    def parent_shape(self, placeholder_index: int) -> tuple[str, ...]:
        """Returns the collection names in the path up to a placeholder (its index, from 0)."""
        return self.segments[: 2 * placeholder_index + 1 : 2]

    def holds(self, shape: tuple[str, ...]) -> bool:
        """Whether documents in a collection with these collection names in its path match the pattern."""
        return shape[-1:] == self.segments if self.is_group else shape == self.segments[::2]

    def problem(self) -> str | None:
        """Returns what is wrong with the pattern, or None."""
        if len(self.segments) % 2 == 0:
            return f"{len(self.segments)} segments, which names a document"
        for index, segment in enumerate(self.segments):
            if not segment:
                return "an empty segment"
            is_placeholder = _PLACEHOLDER.match(segment) is not None
            if is_placeholder != (index % 2 == 1):
                return f"{segment!r} at position {index + 1}"
            if "{" in segment and not is_placeholder:
                return f"{segment!r}, which is not a placeholder"
        if len(set(self.placeholders)) < len(self.placeholders):
            return "one placeholder twice"
        if self.is_group and len(self.segments) != 1:
            return "a collection group of more than one segment"
        return None

    def match(self, path: str) -> dict[str, str] | None:
        """Returns the values of the placeholders if a document path matches, else None."""
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
