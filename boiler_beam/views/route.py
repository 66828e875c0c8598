"""`route`: a method of a view that a server answers at a path of its own, below a row."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

__all__ = ["Route", "route", "route_of"]

Method = TypeVar("Method", bound=Callable[..., Any])
_PATH = re.compile(r"/\{id\}((?:/[A-Za-z0-9._~-]+)+)")


class Route(NamedTuple):
    """Where a method is served.

    Attributes:
        path: As it was declared, `/{id}/summary`.
        segments: Those behind the row's id.
    """

    path: str
    segments: tuple[str, ...]


def route(path: str) -> Callable[[Method], Method]:
    """Lets servers answer `GET /views/{view}/{id}/summary` by a method of the view.

        @route("/{id}/summary")
        def summary(self, words: int = 20) -> str: ...

    The method reads properties of the stored row, `self.path`, `self.doc_id` and `self.at`, but not
    `self.store`. Its arguments are the parameters of the query. It has no effect on rows.

    Args:
        path: `/{id}/` and one or more segments.

    Raises:
        ValueError: The path is another one.
        TypeError: The method can't be called by name.
    """
    found = _PATH.fullmatch(path) if isinstance(path, str) else None
    if found is None or path == "/{id}/stream":
        raise ValueError(f'route({path!r}): expected "/{{id}}/name", not "/{{id}}/stream"; fix: name it so')
    known = Route(path, tuple(found[1].strip("/").split("/")))

    def declare(method: Method) -> Method:
        wrong = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = list(inspect.signature(method).parameters.values())
        if not parameters or any(one.kind in wrong for one in parameters[1:]) or inspect.iscoroutinefunction(method):
            raise TypeError(
                f"{method.__qualname__}: expected a method self, name=default, ..., got another signature; "
                "fix: write each parameter of the query as an argument"
            )
        method.__boiler_route__ = known  # type: ignore[attr-defined]
        return method

    return declare


def route_of(method: object) -> Route | None:
    """Returns where a method is served; None if it is not."""
    return getattr(method, "__boiler_route__", None)
