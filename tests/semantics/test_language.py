"""A table of cases for every construct: documents, and the rows that every executor computes from them."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, role, root, view_property
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from boiler_beam.values import decode_fields
from tests.helpers.engine import Batches, followed
from tests.helpers.executors import embedded, on_beam, partitioned, streamed_on_beam
from tests.helpers.histories import changes, lines
from tests.helpers.proofs import EXECUTORS


class Size(enum.Enum):
    SMALL = "small"


class Address(bb.Struct):
    city: str | None = None


class User(bb.DomainModel, collection="users"):
    name: str = ""
    manager: Ref[User] | None = None
    address: Address = bb.field(default_factory=Address)
    tags: list[str] = bb.field(default_factory=list)
    size: Size | None = None
    age: int | None = None
    secret: str = "s"

    @property
    def initial(self) -> str:
        return self.name[:1]

    @property
    def shout(self) -> str:
        return f"{self.name}!"


class Chat(bb.DomainModel, collection="chats"):
    members: list[Ref[User]] = bb.field(default_factory=list)
    by_role: dict[str, Ref[User]] = bb.field(default_factory=dict)


class Message(bb.DomainModel, collection="chats/{chat}/messages"):
    chat: Ref[Chat]
    text: str = ""
    sent_at: int | None = None
    author: Ref[User] | None = None


class Plain(bb.DomainModel, collection="chats/{chat}/messages"):
    text: str = ""


class Reply(bb.DomainModel, collection="chats/{chat}/messages/{message}/replies"):
    chat: Ref[Chat]
    message: Ref[Message]
    text: str = ""


class Remark(bb.DomainModel, collection="**/remarks"):
    text: str = ""


class Stock(bb.DomainModel, collection="stock"):
    number: int


class Rates(bb.DomainModel, collection="config"):
    tax: int


class Longest(aggregate.Custom):
    """An aggregate of the total length and the number of texts."""

    def empty(self) -> Any:
        return [0, 0]

    def add(self, state: Any, value: Any) -> Any:
        return [state[0] + len(value), state[1] + 1]

    def retract(self, state: Any, value: Any) -> Any:
        return [state[0] - len(value), state[1] - 1]

    def merge(self, state: Any, other: Any) -> Any:
        return [state[0] + other[0], state[1] + other[1]]

    def result(self, state: Any) -> Any:
        return {"letters": state[0], "texts": state[1]}


class PathFields(bb.ViewModel, path="chats/{chat}/cards/{id}"):
    class Store(bb.Store):
        message: Message = root(Message)
        chat: Chat = reference("message.chat")
        plain: dict[str, Message] = referrers(Message, by="chat", of="chat")

    store: Store

    @view_property
    def text(self) -> str:
        message = self.store.message
        return f"{self.key} {message.chat.path} {list(self.store.plain)} {self.path} {self.doc_id} {self.at}"


class StringPathField(bb.ViewModel, path="all/{chat}/of/{id}"):
    class Store(bb.Store):
        plain: Plain = root(Plain)
        chat: Chat = reference("plain.chat", to=Chat)

    store: Store

    @view_property
    def text(self) -> str:
        return f"{self.store.plain.chat} {len(self.store.chat.members)}"


class Deeper(bb.ViewModel, collection="deeper"):
    class Store(bb.Store):
        chat: Chat = root(Chat)
        messages: dict[str, Message] = referrers(Message, by="chat")
        replies: dict[str, Reply] = referrers(Reply, by="chat")
        answers: dict[str, Reply] = referrers(Reply, by="message", of="messages")

    store: Store

    @view_property
    def keys(self) -> list[list[str]]:
        store = self.store
        return [list(store.messages), list(store.replies), list(store.answers)]


class Remarks(bb.ViewModel, collection="remark_groups"):
    class Store(bb.Store):
        remarks: dict[str, Remark] = group(Remark, by="text")

    store: Store

    @view_property
    def keys(self) -> list[str]:
        return list(self.store.remarks)


class Inbox(bb.ViewModel, path="users/{user}/inbox/{id}", max_paths=3):
    class Store(bb.Store):
        chat: Chat = root(Chat)
        members: dict[str, User] = reference("chat.members")
        last: dict[str, Message] = referrers(Message, by="chat", order_by="-sent_at", limit=1)
        authors: dict[str, User] = reference("last.author")

    store: Store
    num_last = aggregate.count("last")

    def paths(self) -> Iterator[dict[str, str]]:
        for user in self.store.members:
            yield {"user": user}

    def viewers(self) -> Iterator[str]:
        yield self.at["user"]
        yield role("admin", of=self.store.chat)

    def editors(self) -> list[str]:
        return ["signed in", "anyone"]

    @view_property
    def last(self) -> list[str]:
        return [message.text for message in self.store.last.values()]

    @view_property
    def is_mine(self) -> bool:
        return self.at["user"] in self.store.authors


class Badges(bb.ViewModel, path="names/{name}/card/main"):
    class Store(bb.Store):
        user: User = root(User)

    store: Store

    def paths(self) -> list[dict[str, str]]:
        return [{"name": self.store.user.name}]

    @view_property
    def owner(self) -> str:
        return self.store.user.doc_id


class Unread(bb.ViewModel, path="unread/{chat}/of/{id}"):
    """No getter reads the documents that order a dict, or the field by which they are ordered."""

    class Store(bb.Store):
        message: Message = root(Message)
        chat: Chat | None = reference("message.chat", optional=True)
        members: dict[str, User] = reference("chat.members")
        slim: Chat | None = reference("message.chat", optional=True, only=("by_role",))
        also: dict[str, User] = reference("slim.members")

    store: Store

    @view_property
    def ids(self) -> list[list[str]]:
        by_role = self.store.slim.by_role if self.store.slim else {}
        return [list(self.store.members), list(self.store.also), list(by_role)]


class Sorted(bb.ViewModel, collection="sorted"):
    class Store(bb.Store):
        chat: Chat = root(Chat)
        oldest: dict[str, User] = reference("chat.members", order_by=("-age", "name"))
        first: dict[str, User] = reference("chat.members", limit=1)
        second: dict[str, User] = reference("chat.members", order_by="-initial", limit=2)
        slim: dict[str, User] = reference("chat.members", only=("name",))
        roles: dict[str, User] = reference("chat.by_role", where=lambda user: user.name != "Bo")
        bosses: dict[str, User] = reference("second.manager")

    store: Store
    num_first = aggregate.count("first")
    last_two = aggregate.collect("oldest", of="name", order_by="name", limit=2)
    lengths = aggregate.custom(Longest(), "oldest", of="name")

    @view_property
    def oldest(self) -> list[str]:
        return [f"{user.name} {user.age}" for user in self.store.oldest.values()]

    @view_property
    def others(self) -> list[list[str]]:
        store = self.store
        return [list(store.first), list(store.second), list(store.roles), list(store.bosses)]

    @view_property
    def slim(self) -> list[str]:
        return [f"{user.shout} {user.doc_id}" for user in self.store.slim.values()]

    @view_property
    def whole(self) -> User:
        return self.store.slim["b"]


class Team(bb.ViewModel, collection="teams"):
    class Store(bb.Store):
        user: User = root(User)
        manager: User | None = reference("user.manager", optional=True)
        reports: dict[str, User] = referrers(User, by="manager")
        peers: dict[str, User] = referrers(User, by="manager", of="manager")
        stock: Stock | None = reference("user.doc_id", to=Stock, optional=True)
        rates: Rates = document(Rates, "config/rates")

    store: Store
    _factor = aggregate.count("reports")

    @view_property
    def _hidden(self) -> int:
        return self._factor * 10

    @view_property
    def text(self) -> str:
        store = self.store
        manager = store.user.manager and store[store.user.manager]
        stock = store.stock.number if store.stock else None
        names = [manager and manager.name, list(store.reports), list(store.peers), stock, store.rates.tax]
        return f"{names} {self._hidden}"


def by(name: str, *keys: str) -> type[bb.ViewModel]:
    """A view that groups users, in a module that workers can import."""
    body = {
        "Store": type("Store", (bb.Store,), {"users": group(User, by=keys[0] if len(keys) == 1 else keys)}),
        "key_and_ids": view_property(_key_and_ids),
        "__module__": __name__,
    }
    made = globals()[name] = type(name, (bb.ViewModel,), body, collection=name)
    return made


def _key_and_ids(self: Any) -> list[Any]:
    assert {self.key: "hashable, as a tuple is"}
    return [self.key, list(self.store.users)]


BY_CITY, BY_TAG, BY_INITIAL = by("city", "address.city"), by("tag", "tags"), by("initial", "initial")
BY_SIZE, BY_MANAGER, BY_ID = by("size", "size"), by("manager", "manager"), by("id", "doc_id")
BY_TUPLE = by("tuple3", "tags", "age", "manager")


class Greeting(bb.ViewModel, collection="greetings"):
    class Store(bb.Store):
        user: User = root(User)

    store: Store
    suffix = "?"

    @view_property
    def text(self) -> str:
        return f"{self.store.user.name}{self.suffix}"

    @view_property
    def age(self) -> int | None:
        return self.store.user.age


class Loud(Greeting, collection="loud"):
    class Store(Greeting.Store):
        manager: User | None = reference("user.manager", optional=True)

    store: Store
    suffix = "!"

    @view_property
    def boss(self) -> str | None:
        return self.store.manager.name if self.store.manager else None

    age = aggregate.count("manager")


USERS = [
    ("users/a", 1, {"name": "Ann", "age": 9, "tags": ["x", "y"], "address": {"city": "A/B"}, "size": "small"}),
    ("users/b", 1, {"name": "Bo", "manager": "users/a", "tags": ["x", "x"], "age": 9}),
    ("users/c", 1, {"name": "Cy", "manager": "users/a", "address": {"city": ""}}),
]
CHAT = [
    ("chats/c", 1, {"members": ["users/c", "users/b", "users/zz", "users/a"], "byRole": {"z": "users/a", "k": "users/b"}}),
    ("chats/c/messages/m1", 1, {"text": "hi", "sentAt": 1, "author": "users/a"}),
    ("chats/c/messages/m2", 1, {"text": "yo", "sentAt": 2, "author": "users/b"}),
    ("chats/c/messages/m3", 1, {"text": "no"}),
    ("chats/c/messages/m1/replies/r", 1, {"text": "re"}),
    ("chats/d/messages/m1", 1, {"text": "lost"}),
    ("chats/c/remarks/x", 1, {"text": "ah"}),
    ("remarks/x", 1, {"text": "ah"}),
    ("remarks/x/others/y", 1, {"text": "ah"}),
]  # fmt: skip
EVERY = [*USERS, *CHAT, ("config/rates", 1, {"tax": 7}), ("stock/b", 1, {"number": 5})]

CASES: dict[str, tuple[type[bb.ViewModel], dict[str, Any]]] = {
    "a root in a subcollection, its parent by a path field": (PathFields, {
        f"chats/c/cards/{one}": {
            "text": f"{one} chats/c ['m1', 'm2', 'm3'] chats/c/cards/{one} {one} {{'chat': 'c', 'id': '{one}'}}"
        }
        for one in ("m1", "m2", "m3")
    }),
    "a path field that is an id": (StringPathField, {f"all/c/of/{one}": {"text": "c 4"} for one in ("m1", "m2", "m3")}),
    "keys of what lies below": (Deeper, {"deeper/c": {"keys": [
        ["m1", "m2", "m3"], ["chats/c/messages/m1/replies/r"], ["chats/c/messages/m1/replies/r"]]}}),
    "a collection group": (Remarks, {"remark_groups/ah": {"keys": ["chats/c/remarks/x", "remarks/x"]}}),
    "a copy for each member": (Inbox, {
        f"users/{one}/inbox/c": {
            "last": ["yo"], "isMine": one == "b", "numLast": 1,
            "_viewers": [one, "role:admin@chats/c"], "_editors": ["anyone", "signed in"],
        }
        for one in "abc"
    }),
    "an order that comes from what nobody reads": (Unread, {
        **{f"unread/c/of/{one}": {"ids": [["c", "b", "a"], ["c", "b", "a"], ["z", "k"]]} for one in ("m1", "m2", "m3")},
        "unread/d/of/m1": {"ids": [[], [], []]},
    }),
    "rows where a document says": (Badges, {
        "names/Ann/card/main": {"owner": "a"}, "names/Bo/card/main": {"owner": "b"}, "names/Cy/card/main": {"owner": "c"},
    }),
    "order, limits, only=, and what hangs on them": (Sorted, {"sorted/c": {
        "oldest": ["Ann 9", "Bo 9", "Cy None"], "others": [["a"], ["c", "b"], ["z"], ["a"]],
        "slim": ["Cy! c", "Bo! b", "Ann! a"], "whole": {"name": "Bo"}, "numFirst": 1, "lastTwo": ["Ann", "Bo"],
        "lengths": {"letters": 7, "texts": 3},
    }}),
    "self references, ids as links, one document for all, hidden names": (Team, {
        "teams/a": {"text": "[None, ['b', 'c'], [], None, 7] 20"},
        "teams/b": {"text": "['Ann', [], ['b', 'c'], 5, 7] 0"},
        "teams/c": {"text": "['Ann', [], ['b', 'c'], None, 7] 0"},
    }),
    "a group by a nested field": (BY_CITY, {"city/A%2FB": {"keyAndIds": ["A/B", ["a"]]}, "city/%": {"keyAndIds": ["", ["c"]]}}),
    "a group by a list": (BY_TAG, {"tag/x": {"keyAndIds": ["x", ["a", "b"]]}, "tag/y": {"keyAndIds": ["y", ["a"]]}}),
    "a group by a property": (BY_INITIAL, {f"initial/{one.upper()}": {"keyAndIds": [one.upper(), [one]]} for one in "abc"}),
    "a group by an Enum": (BY_SIZE, {"size/small": {"keyAndIds": ["small", ["a"]]}}),
    "a group by a reference": (BY_MANAGER, {"manager/users%2Fa": {"keyAndIds": ["users/a", ["b", "c"]]}}),
    "a group by the id": (BY_ID, {f"id/{one}": {"keyAndIds": [one, [one]]} for one in "abc"}),
    "a group by a tuple": (BY_TUPLE, {"tuple3/x,9,users%2Fa": {"keyAndIds": [["x", 9, "users/a"], ["b"]]}}),
    "a view": (Greeting, {"greetings/a": {"text": "Ann?", "age": 9}, "greetings/b": {"text": "Bo?", "age": 9}, "greetings/c": {"text": "Cy?", "age": None}}),
    "a view that subclasses it": (Loud, {
        "loud/a": {"text": "Ann!", "age": 0, "boss": None}, "loud/b": {"text": "Bo!", "age": 1, "boss": "Ann"},
        "loud/c": {"text": "Cy!", "age": 1, "boss": "Ann"},
    }),
}  # fmt: skip


@pytest.mark.parametrize(("view", "rows"), CASES.values(), ids=CASES.keys())
def test_every_executor_makes_these_rows(view: type[bb.ViewModel], rows: dict[str, Any]) -> None:
    plan = compile_plan([view])
    truth = compute(plan, changes(EVERY))
    assert {path: decode_fields(fields) for path, fields in truth.rows.items()} == rows
    assert not truth.dead_letters
    for outcome in (
        embedded(plan, changes(EVERY)),
        partitioned(plan, changes(EVERY)),
        partitioned(plan, changes(EVERY), 1),
        followed(plan, [Batches("all", [changes(EVERY)])])[0],
    ):
        assert {path: decode_fields(fields) for path, fields in outcome.rows.items()} == rows
        assert not outcome.letters


@pytest.mark.parametrize(("view", "rows"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("executor", ["batches", "kills", "machines"])
def test_streams_end_at_these_rows(executor: str, view: type[bb.ViewModel], rows: dict[str, Any]) -> None:
    plan = compile_plan([view])
    for seed in range(5):
        outcome = EXECUTORS[executor](plan, EVERY, random.Random(seed))
        assert {path: decode_fields(fields) for path, fields in outcome.rows.items()} == rows


@pytest.mark.beam
@pytest.mark.parametrize("executor", [on_beam, pytest.param(streamed_on_beam, marks=pytest.mark.slow)])
def test_beam_makes_the_same_rows(executor: Any, tmp_path: Path) -> None:
    plan = compile_plan([view for view, _ in CASES.values()])
    outcome = executor(plan, lines(EVERY), tmp_path)
    wanted = {path: fields for _, rows in CASES.values() for path, fields in rows.items()}
    assert {path: decode_fields(fields) for path, fields in outcome.rows.items()} == wanted


class Neighbours(bb.ViewModel, collection="neighbours"):
    class Store(bb.Store):
        chat: Chat = root(Chat)
        members: dict[str, User] = reference("chat.members")
        chats: dict[str, Chat] = referrers(Chat, by="members", of="members", order_by="-doc_id", limit=2)
        all_chats: dict[str, Chat] = referrers(Chat, by="members", of="members")

    store: Store
    num_chats = aggregate.count("chats")
    num_all = aggregate.count("all_chats")

    @view_property
    def ids(self) -> list[str]:
        return list(self.store.chats)


def test_s10_a_document_reached_by_several_ways_is_had_once() -> None:
    plan = compile_plan([Neighbours])
    members = {"members": ["users/a", "users/b", "users/c"]}
    table = [*USERS, *((f"chats/{one}", 1, members) for one in "xyz")]
    for partitions in (1, 2, 5):
        rows = partitioned(plan, changes(table), partitions).rows
        assert rows == embedded(plan, changes(table)).rows
        for executor in ("batches", "machines"):
            assert rows == EXECUTORS[executor](plan, table, random.Random(partitions)).rows
        assert decode_fields(rows["neighbours/x"]) == {"ids": ["z", "y"], "numAll": 3, "numChats": 2}
