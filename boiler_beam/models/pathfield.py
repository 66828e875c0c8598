"""Path fields: the placeholders of a subcollection's pattern, read from a document's path.

class Message(DomainModel, collection="conversations/{conversation}/messages"):
    conversation: Ref[Conversation]     # a reference to the parent; without the annotation its id, a str
"""

from __future__ import annotations

import sys
import types
import typing
from functools import cached_property
from typing import Any

from boiler_beam.values import Ref

__all__ = ["PathField", "path_fields"]


class PathField:
    """A read-only attribute that is read from the path: the id at a placeholder, or a reference to that document.

    Args:
        name: The placeholder.
        placeholder_index: The index of the placeholder in the pattern, from 0.
        written: The annotation as written: a type, or its text.
        module: The name of the module in which it was written.
    """

    def __init__(self, name: str, placeholder_index: int, written: Any, module: str) -> None:
        self.name, self.placeholder_index, self.written, self.module = name, placeholder_index, written, module

    @cached_property
    def annotation(self) -> Any:
        """`str` or `Ref[Parent]`.

        Raises:
            NameError: A name in the annotation is not defined in its module.
        """
        holder = types.SimpleNamespace(__annotations__={self.name: self.written})
        return typing.get_type_hints(holder, vars(sys.modules[self.module]))[self.name]

    @cached_property
    def is_reference(self) -> bool:
        """Whether it is a reference to the parent document, not its id."""
        return typing.get_origin(self.annotation) is Ref

    def read(self, path: str) -> Any:
        """Returns its value for the document at a path."""
        segments = path.split("/")
        end = 2 * self.placeholder_index + 2
        return Ref.at("/".join(segments[:end])) if self.is_reference else segments[end - 1]

    def __get__(self, document: Any, owner: type) -> Any:
        return self if document is None else self.read(document.path)


def path_fields(model: type) -> dict[str, PathField]:
    """Returns the path fields of a model, by name."""
    found: dict[str, PathField] = {}
    for base in reversed(model.__mro__):
        found |= {name: one for name, one in vars(base).items() if isinstance(one, PathField)}
    return found
