"""Finds what the code of a view reads: edges (only those are sent to a row) and other properties (to find cycles).

The bytecode is inspected, not run. Code that can't be followed (`getattr`, `self` or `self.store` passed to a function)
counts as reading everything. If an edge that seemed unread is read nevertheless, the read raises.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

__all__ = ["PASSED_OVER", "attributes_read", "edges_read", "nested"]

_LOADS_OF_SELF = {"LOAD_FAST", "LOAD_DEREF", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
PASSED_OVER = {"CACHE", "PRECALL", "PUSH_NULL", "RESUME", "NOP"}
"""Instructions that load values and call nothing."""


def edges_read(functions: Iterable[Callable[..., object]], edges: Iterable[str]) -> frozenset[str]:
    """Returns the edges that these methods may read through `self.store`."""
    every = frozenset(edges)
    found: set[str] = set()
    for function in functions:
        code = getattr(function, "__code__", None)
        if code is None:
            return every
        names = _reads(code, code.co_varnames[0] if code.co_argcount else "")
        if names is None:
            return every
        found |= names
    return frozenset(found & every)


def attributes_read(function: Callable[..., object]) -> frozenset[str]:
    """Returns the attributes of its first argument that a function reads, as far as its code can be followed."""
    code = getattr(function, "__code__", None)
    if code is None or not code.co_argcount:
        return frozenset()
    self_name, found = code.co_varnames[0], set()
    for inner in nested(code):
        steps = [one for one in dis.get_instructions(inner) if one.opname not in PASSED_OVER]
        for step, follower in pairwise(steps):
            loaded = step.argval[-1] if isinstance(step.argval, tuple) and step.argval else step.argval
            if (
                step.opname.startswith(("LOAD_FAST", "LOAD_DEREF"))
                and loaded == self_name
                and follower.opname in _ATTRIBUTES
            ):
                found.add(_name(follower))
    return frozenset(found)


def _reads(code: types.CodeType, self_name: str) -> set[str] | None:
    """Returns the attributes of `self.store` that the code reads; None if that can't be determined."""
    found: set[str] = set()
    for inner in nested(code):
        steps = [one for one in dis.get_instructions(inner) if one.opname not in PASSED_OVER]
        for index, step in enumerate(steps):
            if step.opname in _ATTRIBUTES and _name(step) == "store":
                follower = steps[index + 1]
                if follower.opname not in _ATTRIBUTES:
                    return None
                found.add(_name(follower))
            elif step.opname.startswith("LOAD_FAST_") and isinstance(step.argval, tuple):
                if self_name in step.argval[:-1]:  # two variables loaded at once: the first is passed to a function
                    return None
                if step.argval[-1] == self_name and steps[index + 1].opname not in _ATTRIBUTES:
                    return None
            elif step.opname in _LOADS_OF_SELF and step.argval == self_name:
                follower = steps[index + 1]
                is_captured = follower.opname == "BUILD_TUPLE" and self_name in inner.co_cellvars
                if follower.opname not in _ATTRIBUTES and not is_captured:
                    return None
    return found


def _name(step: dis.Instruction) -> str:
    return str(step.argval)


def nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yields a code, and the codes of the functions, lambdas and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested(constant)
