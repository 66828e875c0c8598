"""Deployments of a user's package outside the project, and Dataflow's endpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.helpers import programs
from tests.helpers.dataflow import LocalDataflow, dataflow

ROOT = Path(__file__).resolve().parents[2]
PROJECT, BUCKET = "my-project", "my-project-boiler-beam"
VIEWS = """
import boiler_beam as bb
from boiler_beam import Ref, reference, root, view_property
from shopping.texts import shown


class Product(bb.DomainModel, collection="products"):
    name: str


class Order(bb.DomainModel, collection="orders"):
    product: Ref[Product]
    number: int


class OrderCard(bb.ViewModel, collection="order_cards"):
    class Store(bb.Store):
        order: Order = root(Order)
        product: Product = reference("order.product")

    store: Store

    @view_property
    def text(self) -> str:
        return shown(self.store.order.number, self.store.product.name)
"""
TEXTS = """
def shown(number: int, name: str) -> str:
    return f"{number} x {name}"
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder outside the project with a package of views."""
    folder = tmp_path / "work"
    (folder / "shopping").mkdir(parents=True)
    (folder / "shopping" / "__init__.py").touch()
    (folder / "shopping" / "views.py").write_text(VIEWS)
    (folder / "shopping" / "texts.py").write_text(TEXTS)
    return folder


class Gcloud:
    """A `gcloud` that notes how it is called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "called"
        folder.mkdir()
        program = folder / "gcloud"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {self.log}\n')
        program.chmod(0o755)

    def called(self) -> list[str]:
        """The command lines, in their order."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def gcloud(tmp_path: Path) -> Gcloud:
    """A `gcloud` for programs that `deploy` runs."""
    return Gcloud(tmp_path / "sdk")


def deploy(folder: Path, *arguments: str, gcloud: Gcloud | None = None) -> CompletedProcess[str]:
    """Runs `boiler-beam deploy` of the package in a folder."""
    path = f"{gcloud.folder}:{os.environ['PATH']}" if gcloud else os.environ["PATH"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    command = [sys.executable, "-m", "pipelines.cli", "deploy", "--views", "shopping.views", "--name", "shop"]
    return programs.run(
        [*command, "--project", PROJECT, "--region", "us-central1", "--folder", "out", *arguments], folder, environment
    )


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalDataflow]:
    """Dataflow's endpoint, with a bucket."""
    with dataflow(tmp_path) as opened:
        opened.storage.make(BUCKET)
        yield opened


@pytest.fixture
def cloud(firestore_emulator: str, pubsub_emulator: str) -> Any:
    """The emulators, with the topic and the subscriptions of the deployments."""
    from google.api_core.exceptions import AlreadyExists
    from google.cloud import pubsub_v1

    topic = f"projects/{PROJECT}/topics/changes"
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        for make in (
            lambda: publisher.create_topic(name=topic),
            lambda: subscriber.create_subscription(name=f"projects/{PROJECT}/subscriptions/shop", topic=topic),
            lambda: subscriber.create_subscription(name=f"projects/{PROJECT}/subscriptions/meeting", topic=topic),
        ):
            try:
                make()
            except AlreadyExists:
                continue  # another test made it
    return firestore_emulator, pubsub_emulator
