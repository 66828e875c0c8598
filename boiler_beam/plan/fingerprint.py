"""The fingerprint of a view. A stream or sink with another fingerprint has to compute the view's rows again (S13)."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Iterable

__all__ = ["code_of", "fingerprint"]


def fingerprint(described: Iterable[str], functions: Iterable[Callable[..., object]]) -> str:
    """Returns a hash of a view's description and of the code of its functions, as 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for text in described:
        digest.update(text.encode() + b"\0")
    for function in functions:
        digest.update(code_of(function).encode() + b"\0")
    return digest.hexdigest()


def code_of(function: Callable[..., object]) -> str:
    """Returns a function's code as text that is equal in every process of one Python version."""
    code = getattr(function, "__code__", None)
    if code is None:
        return getattr(function, "__qualname__", type(function).__qualname__)
    return repr(_described(code))


def _described(code: types.CodeType) -> tuple[object, ...]:
    return (code.co_code.hex(), code.co_names, code.co_varnames, tuple(map(_constant, code.co_consts)))


def _constant(value: object) -> object:
    if isinstance(value, types.CodeType):
        return _described(value)
    if isinstance(value, frozenset):
        return sorted(map(repr, value))  # the order of a set differs between processes
    return repr(value)
