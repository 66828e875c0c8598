"""Proposed models fit the documents from which they were proposed."""

from __future__ import annotations

import itertools
import re
import sys
import types
from collections.abc import Callable
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from boiler_beam.errors import InvalidDocument
from boiler_beam.inspection.check import check
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.propose import pattern_of, propose
from boiler_beam.values import Ref, encode_fields
from tests.helpers import values
from tests.helpers.histories import change

_numbers = itertools.count()


def loaded(text: str) -> types.ModuleType:
    module = types.ModuleType(f"proposed_{next(_numbers)}")
    sys.modules[module.__name__] = module
    exec(compile(text, module.__name__, "exec", dont_inherit=True), vars(module))
    return module


def invalid(documents: dict[str, dict[str, Any]], tell: Callable[[str], None] = print) -> set[str]:
    """Returns the documents that do not fit the proposed models."""
    plan, found = planned(documents, tell), set[str]()
    for path, fields in documents.items():
        for place in plan.types_of(path):
            try:
                plan.document_types[place].decode(path, 1, encode_fields(fields))
            except InvalidDocument:
                found.add(path)
    return found


def planned(documents: dict[str, dict[str, Any]], tell: Callable[[str], None]) -> Plan:
    """Returns the plan of the proposed view."""
    proposal = propose(documents)
    tell(proposal.views)
    module = loaded(proposal.views)
    view = getattr(module, proposal.view)
    models = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    plan = compile_plan([view])
    assert models
    assert [document_type.notes() for document_type in plan.document_types if document_type.notes()] == [], (
        "an optional field may be missing"
    )
    return plan


def problems(documents: dict[str, dict[str, Any]], tell: Callable[[str], None] = print) -> list[str]:
    """Returns the findings of `check` in documents, with the proposed models."""
    plan = planned(documents, tell)
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


def test_the_type_of_most_and_what_does_not_fit_it() -> None:
    documents: dict[str, dict[str, Any]] = {
        f"users/u{number}": {
            "name": f"Ann {number}", "age": number, "score": 0.5, "half": number, "boss": "users/u1", "nick": "x",
            "tags": ["a", "b"], "at": {"x": 1}, "by": {f"users {one}": 1 for one in range(12)}, "to": Ref("users/u1"),
        }
        for number in range(10)
    }  # fmt: skip
    documents["users/u7"] |= {"name": 7, "age": "7", "score": 1, "boss": "nobody", "nick": "users/u1", "tags": ["a", 7]}
    documents["users/u8"] |= {"age": None, "tags": "a", "at": [1], "by": {"x": "y"}, "to": "users/u1"}
    documents["users/u9"] |= {"age": 1.5, "name": True, "at": {"x": "1"}}
    for number in range(5):
        documents[f"users/u{number}"]["half"] = "x"
    found = propose(documents).views.split("\n")
    for line in (
        "    name: str  # but int in 1, bool in 1 of 10 documents, e.g. 'users/u7'",
        "    age: float | None = None  # but str in 1 of 10 documents, e.g. 'users/u7'",
        "    score: float",
        "    half: Any  # str in 5, int in 5 of 10 documents, e.g. 'users/u0'",
        "    boss: Ref[User]  # but str in 1 of 10 documents, e.g. 'users/u7'",
        "    nick: str",
        "    tags: list[str]  # but str in 1 of 10 documents, e.g. 'users/u8'; but int in 1 of 18 items, e.g. 'users/u7'",
        "    at: UserAt  # but list in 1 of 10 documents, e.g. 'users/u8'",
        "    x: int  # but str in 1 of 9 maps, e.g. 'users/u9'",
        "    by: dict[str, int]  # but str in 1 of 109 items, e.g. 'users/u8'",
        "    to: Ref[User]",
    ):
        assert line in found, "\n".join([line, *found])
    assert invalid(documents) == {"users/u7", "users/u8", "users/u9"}


@given(st.dictionaries(paths, st.one_of(values.fields(), st.dictionaries(st.sampled_from(["x", "firstName", "at", "a_b"]), st.one_of(values.values, paths))), min_size=1))  # fmt: skip
def test_what_is_proposed_fits_what_it_was_proposed_from(documents: dict[str, dict[str, Any]]) -> None:
    """All documents fit, except those with a value of another type than the majority, which a comment counts."""
    views: list[str] = []
    found = invalid(documents, views.append)
    note(views[0])
    notes = re.findall(r"(?:# |; )but ([^#;]* of [\d,]+ \w+)", views[0])
    assert len(found) <= sum(
        int(number.replace(",", "")) for one in notes for number in re.findall(r" in ([\d,]+)", one)
    )
