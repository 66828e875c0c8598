"""A chat inbox: a row for each member of a conversation, with its last message and the number of unread messages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import boiler_beam as bb
from boiler_beam import Ref, reference, referrers, root, view_property


class User(bb.DomainModel, collection="users"):
    name: str
    photo: str | None = None


class Conversation(bb.DomainModel, collection="conversations"):
    topic: str | None = None


class Member(bb.DomainModel, collection="conversations/{conversation}/members"):
    """A membership; its id is the user's id."""

    conversation: Ref[Conversation]
    user: Ref[User]
    read_until: datetime | None = None
    is_muted: bool = False


class Message(bb.DomainModel, collection="conversations/{conversation}/messages"):
    conversation: Ref[Conversation]
    author: Ref[User]
    text: str
    sent_at: datetime


MOST = 20
"""The number of messages that a row reads, however long the conversation is; an inbox shows "20+" beyond it."""


class InboxItem(bb.ViewModel, path="users/{user}/inbox/{id}"):
    class Store(bb.Store):
        conversation: Conversation = root(Conversation)
        members: dict[str, Member] = referrers(Member, by="conversation")
        people: dict[str, User] = reference("members.user", only=("name",))
        latest: dict[str, Message] = referrers(Message, by="conversation", order_by="-sent_at", limit=MOST + 1)

    store: Store

    def paths(self) -> Iterator[dict[str, str]]:
        for user_id in self.store.members:
            yield {"user": user_id}

    def viewers(self) -> Iterator[str]:
        yield self.at["user"]

    @view_property
    def title(self) -> str:
        others = [person.name for user_id, person in self.store.people.items() if user_id != self.at["user"]]
        return self.store.conversation.topic or ", ".join(sorted(others))

    @view_property
    def last_message(self) -> str | None:
        for message in self.store.latest.values():
            author = self.store[message.author]
            return f"{author.name if author else 'someone'}: {message.text}"
        return None

    @view_property
    def last_sent_at(self) -> datetime | None:
        return next((message.sent_at for message in self.store.latest.values()), None)

    @view_property
    def unread(self) -> str:
        mine = self.store.members[self.at["user"]]
        number = sum(
            message.author != mine.user and (mine.read_until is None or message.sent_at > mine.read_until)
            for message in self.store.latest.values()
        )
        return f"{MOST}+" if number > MOST else str(number)

    @view_property
    def is_muted(self) -> bool:
        return self.store.members[self.at["user"]].is_muted
