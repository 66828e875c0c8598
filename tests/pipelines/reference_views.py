"""Views with references, for tests of programs."""

from __future__ import annotations

from typing import Any

import boiler_beam as bb
from boiler_beam import Ref, aggregate, reference, referrers, root, view_property


class Writer(bb.DomainModel, collection="writers"):
    name: str


class Post(bb.DomainModel, collection="posts"):
    author: Ref[Writer]
    other: Any = None


class PostRow(bb.ViewModel, collection="post_rows"):
    class Store(bb.Store):
        post: Post = root(Post)
        author: Writer | None = reference("post.author", optional=True)

    store: Store

    @view_property
    def links(self) -> list[Any]:
        return [self.store.post.author, self.store.post.other]

    @view_property
    def name(self) -> str | None:
        return self.store.author.name if self.store.author else None


class WriterRow(bb.ViewModel, collection="writer_rows"):
    class Store(bb.Store):
        writer: Writer = root(Writer)
        posts: dict[str, Post] = referrers(Post, by="author")

    store: Store

    number = aggregate.count("posts")
