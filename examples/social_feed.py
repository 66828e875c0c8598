"""A social network: each follower's feed, with likes and the latest comments, and the profile of each user."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import boiler_beam as bb
from boiler_beam import Ref, aggregate, reference, referrers, root, view_property


class User(bb.DomainModel, collection="users"):
    name: str
    handle: str
    bio: str = ""


class Follow(bb.DomainModel, collection="follows"):
    follower: Ref[User]
    followee: Ref[User]


class Post(bb.DomainModel, collection="posts"):
    author: Ref[User]
    text: str
    posted_at: datetime
    audience: Literal["everyone", "followers"] = "followers"


class Like(bb.DomainModel, collection="posts/{post}/likes"):
    """A like; its id is the user's id."""

    post: Ref[Post]


class Comment(bb.DomainModel, collection="**/comments"):
    """Comments are subcollections of posts and events, and together one collection group."""

    on: Ref[Post] | None = None
    author: Ref[User]
    text: str
    written_at: datetime


class FeedItem(bb.ViewModel, path="users/{user}/feed/{id}", max_paths=1000):
    class Store(bb.Store):
        post: Post = root(Post)
        author: User = reference("post.author")
        follows: dict[str, Follow] = referrers(Follow, by="followee", of="author", only=("follower",))
        likes: dict[str, Like] = referrers(Like, by="post", only=())
        comments: dict[str, Comment] = referrers(Comment, by="on", order_by="-written_at", limit=2)
        commenters: dict[str, User] = reference("comments.author", only=("name",))

    store: Store
    num_likes = aggregate.count("likes")

    def paths(self) -> Iterator[dict[str, str]]:
        for follow in self.store.follows.values():
            yield {"user": follow.follower.doc_id}

    def viewers(self) -> Iterator[str]:
        yield "signed in" if self.store.post.audience == "everyone" else self.at["user"]

    def editors(self) -> Iterator[str]:
        yield self.store.author.doc_id

    @view_property
    def author(self) -> str:
        return f"{self.store.author.name} @{self.store.author.handle}"

    @view_property
    def text(self) -> str:
        return self.store.post.text

    @view_property
    def posted_at(self) -> datetime:
        return self.store.post.posted_at

    @view_property
    def do_i_like_it(self) -> bool:
        return self.at["user"] in self.store.likes

    @view_property
    def comments(self) -> list[str]:
        shown: list[str] = []
        for comment in self.store.comments.values():
            author = self.store[comment.author]
            shown.append(f"{author.name if author else 'someone'}: {comment.text}")
        return shown


class Profile(bb.ViewModel, path="handles/{handle}/profile/main"):
    """A profile at a handle; of two users with one handle, the one with the smaller id gets it."""

    class Store(bb.Store):
        user: User = root(User)
        followers: dict[str, Follow] = referrers(Follow, by="followee")
        following: dict[str, Follow] = referrers(Follow, by="follower")
        posts: dict[str, Post] = referrers(Post, by="author")

    store: Store
    num_followers = aggregate.count("followers")
    num_following = aggregate.count("following")
    latest = aggregate.top("posts", n=2, by="posted_at", of="text")

    def paths(self) -> Iterator[dict[str, str]]:
        yield {"handle": self.store.user.handle}

    def viewers(self) -> Iterator[str]:
        yield "anyone"

    @view_property
    def name(self) -> str:
        return self.store.user.name

    @view_property
    def bio(self) -> str:
        return self.store.user.bio
