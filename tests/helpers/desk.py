"""Views that can be written, over documents in a file, for servers that tests start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boiler_beam as bb
from boiler_beam import Ref, reference, root, view_property


class Person(bb.DomainModel, collection="persons"):
    name: str


class Task(bb.DomainModel, collection="tasks"):
    title: str
    is_done: bool
    owner: Ref[Person]


class TaskCard(bb.ViewModel, collection="task_cards", indexed=("is_done",)):
    """A task, with its owner's name."""

    class Store(bb.Store):
        task: Task = root(Task)
        owner: Person = reference("task.owner")

    store: Store

    @view_property
    def title(self) -> str:
        """What to do."""
        return self.store.task.title

    @title.setter
    def title(self, value: str) -> None:
        if not value:
            raise ValueError("a title is not empty")
        self.store.task.title = value

    @view_property
    def is_done(self) -> bool:
        return self.store.task.is_done

    @is_done.setter
    def is_done(self, value: bool) -> None:
        self.store.task.is_done = value

    @view_property
    def owner(self) -> str:
        return self.store.owner.name

    @owner.setter
    def owner(self, value: str) -> None:
        self.store.owner.name = value

    @classmethod
    def new(cls, tx: Any, title: str, owner: str) -> Any:
        return tx.create(Task(title=title, is_done=False, owner=Ref(f"persons/{owner}")))


class OwnTask(bb.ViewModel, path="persons/{person}/own_tasks/{id}"):
    """A task, for its owner alone."""

    class Store(bb.Store):
        task: Task = root(Task)

    store: Store

    @view_property
    def title(self) -> str:
        return self.store.task.title

    @title.setter
    def title(self, value: str) -> None:
        self.store.task.title = value

    def paths(self) -> Iterator[dict[str, str]]:
        yield {"person": self.store.task.owner.doc_id}

    def viewers(self) -> Iterator[str]:
        yield self.store.task.owner.doc_id

    def editors(self) -> Iterator[str]:
        yield self.store.task.owner.doc_id
