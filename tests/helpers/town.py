"""A town of chat rooms whose views use the rest of the language: subcollections, copies, order and limits, tuple keys."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, role, root, view_property


class Level(enum.Enum):
    NEW = "new"
    OLD = "old"


class Guest(bb.DomainModel, collection="guests"):
    name: str
    nick: str = "n"
    level: Level | None = Level.NEW
    mark: Any = None

    @property
    def initial(self) -> str:
        return self.name[0]


class Room(bb.DomainModel, collection="rooms"):
    topic: str = "t"
    members: list[Ref[Guest]] = bb.field(default_factory=list)
    host: Ref[Guest] | None = None


class Message(bb.DomainModel, collection="rooms/{room}/messages"):
    room: Ref[Room]
    author: Ref[Guest]
    sent: int | None = None
    tags: list[str] = bb.field(default_factory=list)
    mark: Any = None


class Note(bb.DomainModel, collection="rooms/{room}/messages/{message}/notes"):
    message: Ref[Message]
    text: str
    mark: Any = None


class Comment(bb.DomainModel, collection="**/comments"):
    stars: int
    by: Ref[Guest] | None = None
    mark: Any = None


class Board(bb.DomainModel, collection="config"):
    featured: list[Ref[Guest]] = bb.field(default_factory=list)


class Spread(aggregate.Custom):
    """The variance of ints."""

    def empty(self) -> Any:
        return [0, 0, 0]

    def add(self, state: Any, value: Any) -> Any:
        return [state[0] + 1, state[1] + value, state[2] + value * value]

    def retract(self, state: Any, value: Any) -> Any:
        return [state[0] - 1, state[1] - value, state[2] - value * value]

    def merge(self, state: Any, other: Any) -> Any:
        return [mine + theirs for mine, theirs in zip(state, other, strict=True)]

    def result(self, state: Any) -> Any:
        number, total, squares = state
        return (number * squares - total * total) / number**2 if number else None


class Inbox(bb.ViewModel, path="guests/{guest}/inbox/{id}", max_paths=3):
    """A copy for each member, with the last messages of a room and their child edges."""

    class Store(bb.Store):
        room: Room = root(Room)
        members: dict[str, Guest] = reference("room.members")
        messages: dict[str, Message] = referrers(Message, by="room", order_by="-sent", limit=2)
        authors: dict[str, Guest] = reference("messages.author", only=("name",), order_by="-name")
        notes: dict[str, Note] = referrers(Note, by="message", of="messages", order_by=("text",), limit=1)

    store: Store

    num_shown = aggregate.count("messages")
    spread = aggregate.custom(Spread(), "messages", of="sent")
    num_authors = aggregate.count_distinct("authors", of="name")

    def paths(self) -> Iterator[dict[str, str]]:
        for guest in self.store.members.values():
            if guest.name == "boom":
                raise ValueError("boom")
            yield {"guest": guest.doc_id}

    def viewers(self) -> Iterator[str]:
        yield self.at["guest"]
        if self.store.room.host:
            yield role("host", of=self.store.room.host)

    @view_property
    def _mine(self) -> int:
        return sum(message.author.doc_id == self.at["guest"] for message in self.store.messages.values())

    @view_property
    def mine(self) -> int:
        return self._mine

    @view_property
    def place(self) -> str:
        return f"{self.doc_id} {self.store.room.topic}"

    @view_property
    def last(self) -> list[str]:
        return [f"{key} {message.sent}" for key, message in self.store.messages.items()]

    @view_property
    def authors(self) -> list[str]:
        return [f"{one.name} {one.initial} {one.doc_id}" for one in self.store.authors.values()]

    @view_property
    def notes(self) -> dict[str, Note]:
        return self.store.notes


class MessageCard(bb.ViewModel, path="rooms/{room}/cards/{id}"):
    """A root in a subcollection, its parent, and its own subcollection."""

    class Store(bb.Store):
        message: Message = root(Message, where=lambda message: message.sent != 3)
        room: Room = reference("message.room")
        host: Guest | None = reference("room.host", optional=True, only=("name", "level"))
        notes: dict[str, Note] = referrers(Note, by="message")
        config: Board | None = document(Board, "config/board", optional=True)
        featured: dict[str, Guest] = reference("config.featured", order_by="name", limit=1)
        praise: dict[str, Comment] = referrers(Comment, by="by", of="featured", order_by="-stars", limit=2)

    store: Store

    num_featured = aggregate.count("featured")
    stars = aggregate.sum("praise", of="stars")

    @view_property
    def notes(self) -> list[str]:
        return [f"{key}={note.text}" for key, note in self.store.notes.items()]

    @view_property
    def host(self) -> Guest | None:
        return self.store.host

    @view_property
    def where(self) -> str:
        featured = next(iter(self.store.featured.values()), None)
        return f"{self.key} in {self.at['room']} {self.store.room.topic} {featured and featured.name}"


class TagDay(bb.ViewModel, collection="tag_days"):
    """A group by a tuple with a list in it; only the first members, with their child edges, are shown."""

    class Store(bb.Store):
        messages: dict[str, Message] = group(Message, by=("tags", "author"), order_by=("sent", "author"), limit=1)
        notes: dict[str, Note] = referrers(Note, by="message", of="messages")
        rooms: dict[str, Room] = reference("messages.room")

    store: Store

    num_messages = aggregate.count("messages")
    texts = aggregate.collect("notes", of="text", order_by="-text", limit=1)
    marks = aggregate.count_distinct("notes", of="mark")

    @view_property
    def label(self) -> str:
        tag, author = self.key
        return f"{tag} by {author}: {list(self.store.messages)} {list(self.store.rooms)}"


class LatestComment(bb.ViewModel, path="latest/{id}"):
    """Rows of a collection group, two of which may have the same path."""

    class Store(bb.Store):
        comment: Comment = root(Comment)
        guest: Guest | None = reference("comment.by", optional=True)
        others: dict[str, Comment] = referrers(Comment, by="by", of="guest", order_by="-stars", limit=1)

    store: Store

    @view_property
    def text(self) -> str:
        store = self.store
        if store.guest and store.guest.name == "boom":
            raise ValueError("boom")
        return f"{store.comment.path} {list(store.others)}"


class Profile(bb.ViewModel, path="nicks/{nick}/about/profile"):
    """Rows whose path is a field of the document: contested, empty, or not a valid id."""

    class Store(bb.Store):
        guest: Guest = root(Guest)
        rooms: dict[str, Room] = referrers(Room, by="members")

    store: Store

    def paths(self) -> Iterator[dict[str, str]]:
        yield {"nick": self.store.guest.nick}
        if self.store.guest.level is Level.OLD:
            yield {"nick": self.store.guest.name}

    def editors(self) -> list[str]:
        return [self.store.guest.doc_id, "signed in", self.store.guest.doc_id]

    @view_property
    def topics(self) -> list[str]:
        if self.at["nick"] == "bad":
            raise ValueError("bad")
        return [self.store.guest.doc_id, *(room.topic for room in self.store.rooms.values())]


class LevelCard(bb.ViewModel, collection="level_cards"):
    """A group by an Enum, of which only the first members are used."""

    class Store(bb.Store):
        guests: dict[str, Guest] = group(Guest, by="level", order_by="-initial", limit=2)
        messages: dict[str, Message] = referrers(Message, by="author", of="guests")
        comments: dict[str, Comment] = referrers(Comment, by="by", of="guests", limit=2)

    store: Store

    num_messages = aggregate.count("messages")
    stars = aggregate.max("comments", of="stars")
    marks = aggregate.collect("messages", of="mark", order_by="-mark")
    least = aggregate.min("messages", of="mark")

    @view_property
    def names(self) -> list[Any]:
        return [self.key, *(f"{key} {guest.name}" for key, guest in self.store.guests.items())]


VIEWS = [Inbox, MessageCard, TagDay, LatestComment, Profile, LevelCard]
