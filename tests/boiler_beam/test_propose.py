"""Proposed models: they fit the documents that they were proposed from."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from boiler_beam.engine.check import check
from boiler_beam.plan import compile_plan
from boiler_beam.propose import pattern_of, propose
from boiler_beam.values import encode_fields
from tests.helpers import values
from tests.helpers.histories import change

_numbers = itertools.count()


def loaded(text: str) -> types.ModuleType:
    module = types.ModuleType(f"proposed_{next(_numbers)}")
    sys.modules[module.__name__] = module
    exec(compile(text, module.__name__, "exec", dont_inherit=True), vars(module))
    return module


def problems(documents: dict[str, dict[str, Any]], tell: Callable[[str], None] = print) -> list[str]:
    """What `check` finds in documents by the models that were proposed for them."""
    proposal = propose(documents)
    tell(proposal.views)
    module = loaded(proposal.views)
    view = getattr(module, proposal.view)
    models = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    plan = compile_plan([view])
    assert models
    assert [family.notes() for family in plan.families if family.notes()] == [], "an optional field may be missing"
    lines = [change(path, 1, encode_fields(fields).decode()) for path, fields in documents.items()]
    found = check(plan, lines)
    return [one.message for each in found for one in each.findings.values() if one.code != "dangling_reference"]


def test_a_chat() -> None:
    documents = {
        "users/u1": {"firstName": "Ann", "class": "a", "Last-Seen": 1, "address": {"city": "A", "zip code": 7}},
        "users/u2": {"firstName": "Bo", "address": {"city": "B"}, "score": 1.5, "path": "x"},
        "chats/c1": {"members": ["users/u1", "users/u2"], "byRole": {"host": "users/u2"}, "score": None},
        "chats/c1/messages/m1": {"author": "users/u1", "mixed": 1, "tags": [], "score": 1},
        "chats/c1/messages/m2": {"author": "users/u2", "mixed": "x", "score": 0.5},
        "posts/p1/messages/m1": {"obj_type": "Special", "replyTo": "chats/c1/messages/m1"},
    }
    proposal = propose(documents)
    for line in (
        "    first_name: str",
        "    class_: str | None = None",
        '    last_seen: int | None = bb.field(default=None, name="Last-Seen")',
        "    address: UserAddress",
        '    zip_code: int | None = bb.field(default=None, name="zip code")',
        "    path_: str | None = None",
        "    members: list[Ref[User]]",
        "    by_role: dict[str, Ref[User]]",
        "    score: Any = None",
        'class Message(bb.DomainModel, collection="chats/{chat}/messages"):',
        "    chat: Ref[Chat]",
        "    score: float",
        "    tags: list[Any] | None = None",
        'class PostMessage(bb.DomainModel, collection="posts/{post}/messages"):',
        "    post: str",
        "    reply_to: Ref[Message]",
        'class Special(PostMessage, obj_type="Special"):',
        'class ChatView(bb.ViewModel, collection="chat_views"):',
        '        messages: dict[str, Message] = referrers(Message, by="chat")',
        '    num_by_role = aggregate.count("by_role")',
    ):
        assert line in proposal.views.split("\n"), f"{line}\n{proposal.views}"
    assert problems(documents) == []


def test_names_with_quotes_and_what_can_not_be_named() -> None:
    fields = {'size "in"': 27, "a\\b": {"\n": 1}, "": 1, "__x__": 2}
    documents = {'scr"eens/1': {"name": "n"}, "screens/s": fields, 'a"/b/c"/d': {"obj_type": 'T"'}}
    proposal = propose(documents)
    for line in (
        "    size_in: int = bb.field(name='size \"in\"')",
        "    a_b: ScreenAB = bb.field(name='a\\\\b')",
        "    field: int = bb.field(name='\\n')",
        "    # '': an empty name",
        "    # '__x__': a name that Firestore reserves",
        "class C(bb.DomainModel, collection='a\"/{a}/c\"'):",
        "class T(C, obj_type='T\"'):",
    ):
        assert line in proposal.views.split("\n"), f"{line}\n{proposal.views}"
    assert problems(documents) == []


def test_patterns() -> None:
    assert pattern_of("companies/c/boxes/b/people/p") == "companies/{company}/boxes/{box}/people"
    assert pattern_of("--/1/x/y") == "--/{field}/x"


paths = st.sampled_from(["a/1", "a/2", "b/1", "a/1/b/1", "class/1/any/2", "refs/1", "views/1", "1/1", 'q"/1'])


@given(st.dictionaries(paths, st.one_of(values.fields(), st.dictionaries(st.sampled_from(["x", "firstName", "at", "a_b"]), st.one_of(values.values, paths))), min_size=1))  # fmt: skip
def test_what_is_proposed_fits_what_it_was_proposed_from(documents: dict[str, dict[str, Any]]) -> None:
    assert problems(documents, note) == []
