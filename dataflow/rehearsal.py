"""`make rehearse`: a whole deployment on this machine, as `boiler-beam deploy` would make it in a project.

    application -> Firestore (emulator) -> relay (functions-framework) -> Pub/Sub (emulator) -> stream -> Firestore

1. `boiler-beam deploy --dry_run` writes image, templates and requests for a package outside the project.
2. A local endpoint of Dataflow takes the request of the stream, and starts the launcher of the image as Dataflow does,
   with its parameters, environment and arguments; the runner is Prism instead of Dataflow.
3. Documents change, each with its event to the relay; rows must become those of the oracle.
4. Rows are broken by hand. The request of Cloud Scheduler starts the backfill beside the stream, which mends them.
5. The code of a view changes: `boiler-beam deploy --update` compares it with what runs, and it takes its place.
   (Prism keeps no state between two jobs: here the new job begins with a snapshot. On Dataflow it keeps its state, and
   a backfill writes the rows again.)
6. A last backfill: every row is the oracle's, and none differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boiler_beam.connectors import read_dead_letters
from boiler_beam.connectors.pubsub.client import Client as PubsubClient
from boiler_beam.connectors.pubsub.protos import DocumentEventData, Subscription, Topic
from boiler_beam.events import Change
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from boiler_beam.values import Database
from tests.helpers import servers
from tests.helpers.dataflow import LocalDataflow, dataflow
from tests.helpers.firestore import Application
from tests.helpers.function import post, served

ROOT = Path(__file__).resolve().parents[1]
PROJECT, NAME, REGION = "my-project", "shop", "us-central1"
TOPIC, SUBSCRIPTION = f"projects/{PROJECT}/topics/changes", f"projects/{PROJECT}/subscriptions/{NAME}"
PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"
PATIENCE_SECONDS = 180
CONSISTENCY = {
    "eventual": [],
    "commit": ["--parameter", "consistency=commit", "--parameter", "allowed_lateness_seconds=2"],
}
"""What `boiler-beam deploy` is given for a consistency; without it a job is `eventual`."""
VIEWS = """
import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, root, view_property


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
        return f"{self.store.order.number} x {self.store.product.name}"


class ProductSales(bb.ViewModel, collection="product_sales"):
    class Store(bb.Store):
        orders: dict[str, Order] = group(Order, by="product")

    store: Store
    sold = aggregate.sum("orders", of="number")
"""


class Rehearsal:
    """The pieces of a deployment that run."""

    def __init__(self, work: Path, local: LocalDataflow, relay: str, prism: str) -> None:
        self.work, self.local, self.relay, self.prism = work, local, relay, prism
        self.application = Application(PROJECT)
        self.order = random.Random(1)
        self.processes: list[subprocess.Popen[str]] = []
        local.job_is_written = False
        local.run = self._start

    # The application

    def write(self, number: int) -> None:
        """Writes documents, and sends the event of each as Eventarc does; some delete a document."""
        for _ in range(number):
            if self.order.random() < 0.3:
                path, fields = f"products/p{self.order.randrange(4)}", {"name": f"name {self.order.randrange(9)}"}
            else:
                product = f"products/p{self.order.randrange(4)}"
                path, fields = (
                    f"orders/o{self.order.randrange(25)}",
                    {"product": product, "number": self.order.randrange(9)},
                )
            known = len(self.application.history)
            is_deleted = path in self.application.versions and self.order.random() < 0.15
            self.application.write([(path, None if is_deleted else fields)])
            for change in self.application.history[known:]:
                self._event(change)

    def _event(self, change: Change) -> None:
        data = DocumentEventData()
        document = data.old_value if change.is_deleted else data.value
        document.name = self.application.client.root + change.path
        document.update_time.FromMicroseconds(change.version)
        if not change.is_deleted:
            from boiler_beam.connectors.firestore.values import put_fields

            put_fields(document.fields, bytes(change.fields), self.application.client.root)
        headers = {
            "ce-specversion": "1.0", "ce-id": f"{change.path}.{change.version}.{change.is_deleted}",
            "ce-type": "google.cloud.firestore.document.v1.written", "Content-Type": "application/protobuf",
            "ce-source": f"//firestore.googleapis.com/projects/{PROJECT}/databases/(default)",
            "ce-subject": f"documents/{change.path}", "ce-time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip
        status = post(self.relay, data.SerializeToString(), headers)
        assert status == 200, f"the relay answered {status}"

    # The deployment

    def deploy(self, *arguments: str) -> str:
        """Runs `boiler-beam deploy --dry_run`, and uploads what it wrote."""
        command = [sys.executable, "-m", "pipelines.cli", "deploy", "--views", "shopping.views", "--name", NAME]
        command += [
            "--project",
            PROJECT,
            "--region",
            REGION,
            "--every",
            "1d",
            "--folder",
            "out",
            "--dry_run",
            *arguments,
        ]
        done = subprocess.run(command, cwd=self.work, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for kind in ("streaming", "backfill"):
            data = (self.work / "out" / f"{kind}.json").read_bytes()
            image = self.work / json.loads(data)["image"].rpartition(":")[2]
            shutil.copytree(self.work / "out" / "image", image, dirs_exist_ok=True)
            self.local.images[json.loads(data)["image"]] = image
            bucket, _, name = self.body(kind)["containerSpecGcsPath"].removeprefix("gs://").partition("/")
            self.local.storage.write(bucket, name, data)
        return done.stdout + done.stderr

    def body(self, kind: str) -> Any:
        """What is sent to launch a template."""
        return json.loads((self.work / "out" / f"launch_{kind}.json").read_text())["launchParameter"]

    def launch(self, kind: str) -> str:
        """Sends the request of a launch over HTTP, as gcloud and Cloud Scheduler do; returns what a backfill says."""
        url = f"{self.local.address}/v1b3/projects/{PROJECT}/locations/{REGION}/flexTemplates:launch"
        data = (self.work / "out" / f"launch_{kind}.json").read_bytes()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                assert answer.status == 200
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["error"]["message"]) from error
        assert self.local.problems == [], self.local.problems
        return self.local.launches[-1].said

    def _start(self, command: list[str], given: dict[str, str]) -> tuple[int, str]:
        """Starts a launcher with a runner of this machine: a stream on Prism, a backfill to its end."""
        if not any("pubsub:" in word for word in command):
            done = subprocess.run(
                [*command, "--runner=DirectRunner"], cwd="/", env=given, capture_output=True, text=True, check=False
            )
            return done.returncode, done.stdout + done.stderr
        log = self.work / f"stream{len(self.processes)}.log"
        with log.open("w") as file:
            words = [*command, "--runner=PrismRunner", f"--prism_location={self.prism}"]
            self.processes.append(subprocess.Popen(words, cwd="/", env=given, stdout=file, stderr=file, text=True))
        return 0, ""

    def stop(self) -> None:
        """Ends the stream: it writes what it read."""
        process = self.processes[-1]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # The proof

    def expected(self) -> dict[str, dict[str, Any]]:
        """The rows that the oracle computes from all that was written."""
        plan = compile_plan(self._views(), Database(PROJECT))
        found = {path: json.loads(fields) for path, fields in compute(plan, self.application.history).rows.items()}
        assert len(found) > 5, "a comparison of nothing proves nothing"
        return found

    def _views(self) -> list[Any]:
        import importlib

        sys.path.insert(0, str(self.work))
        try:
            for name in [name for name in sys.modules if name.partition(".")[0] == "shopping"]:
                del sys.modules[name]
            importlib.invalidate_caches()
            module = importlib.import_module("shopping.views")
            return [module.OrderCard, module.ProductSales]
        finally:
            sys.path.remove(str(self.work))

    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows in the database."""
        return {**self.application.rows("order_cards"), **self.application.rows("product_sales")}

    def _told(self, differing: dict[str, Any], log: Path) -> str:
        """What is known of rows that are not the oracle's."""
        stored = {**self.application.documents("order_cards"), **self.application.documents("product_sales")}
        letters = [f"{one.code} {one.about}: {one.message}" for one in read_dead_letters(f"firestore:{PROJECT}")]
        lines = [f"{path}: expected {pair[0]}, found {stored.get(path)}" for path, pair in differing.items()]
        lines += ["dead letters:", *letters, "documents:", *map(str, self.application.history)]
        (ROOT / "build").mkdir(exist_ok=True)
        (ROOT / "build" / "rehearsal.log").write_text("\n".join([*lines, log.read_text()]))
        return f"{len(differing)} rows differ from the oracle's; see build/rehearsal.log"

    def wait_for_right(self) -> int:
        """Waits until the rows are the oracle's; returns their number."""
        expected, deadline = self.expected(), time.monotonic() + PATIENCE_SECONDS
        while (found := self.rows()) != expected:
            log = self.work / f"stream{len(self.processes) - 1}.log"
            assert self.processes[-1].poll() is None, log.read_text()[-4000:]
            differing = {path: (expected.get(path), found.get(path)) for path in {*expected, *found}}
            differing = {path: pair for path, pair in differing.items() if pair[0] != pair[1]}
            assert time.monotonic() < deadline, self._told(differing, log)
            time.sleep(0.2)
        return len(expected)


def environment() -> dict[str, str]:
    """Of programs of this project that run in another folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def prism_of() -> str:
    """Returns Prism's binary; builds it with Go if there is none."""
    if found := servers.prism():
        return found
    from importlib.metadata import version

    target = ROOT / "build" / "bin"
    if not (target / "prism").exists():
        if shutil.which("go") is None:
            sys.exit(
                "error: expected prism on the PATH, or Go to build it, got neither; fix: install Go, or "
                "name prism by BOILER_BEAM_PRISM"
            )
        print("building prism with Go (two minutes, the first time)", flush=True)
        subprocess.run(
            ["go", "install", f"{PRISM}@v{version('apache-beam')}"],
            env={**os.environ, "GOBIN": str(target)},
            check=True,
        )
    return str(target / "prism")


@contextlib.contextmanager
def rehearsal() -> Iterator[Rehearsal]:
    """Starts what a project has: database, topic, bucket, relay and Dataflow's endpoint."""
    prism = prism_of()
    for name in ("gcloud", "java"):
        if shutil.which(name) is None:
            sys.exit(
                f"error: expected {name} on the PATH, for the emulators of Firestore and Pub/Sub, got none; "
                "fix: install the Google Cloud SDK with its emulators, and Java"
            )
    servers.begin()
    try:
        os.environ["FIRESTORE_EMULATOR_HOST"] = servers.emulator("firestore")
        os.environ["PUBSUB_EMULATOR_HOST"] = servers.emulator("pubsub")
        with contextlib.closing(PubsubClient(f"pubsub:{SUBSCRIPTION}", SUBSCRIPTION)) as client:
            client.call("CreateTopic", Topic(name=TOPIC))
            client.call("CreateSubscription", Subscription(name=SUBSCRIPTION, topic=TOPIC, ack_deadline_seconds=60))
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder, "work")
            (work / "shopping").mkdir(parents=True)
            (work / "shopping" / "__init__.py").touch()
            (work / "shopping" / "views.py").write_text(VIEWS)
            with dataflow(Path(folder)) as local, served(TOPIC, Path(folder, "relay.log")) as relay:
                local.storage.make(f"{PROJECT}-boiler-beam")
                local.environment["PYTHONPATH"] = str(ROOT)
                found = Rehearsal(work, local, relay, prism)
                try:
                    yield found
                finally:
                    for process in found.processes:
                        if process.poll() is None:
                            process.kill()
                            process.wait()
    finally:
        servers.end()


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m dataflow.rehearsal", description=__doc__.splitlines()[0])
    parser.add_argument("--consistency", choices=CONSISTENCY, default="eventual", help="that of the job (eventual)")
    timed = CONSISTENCY[parser.parse_args().consistency]
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    with rehearsal() as one:
        one.write(40)
        one.deploy(*timed)
        say("deploy wrote image, templates and requests; 40 documents were written before the job")
        one.launch("streaming")
        say(f"the stream was started by its launcher: {one.wait_for_right()} rows are the oracle's")
        one.write(60)
        say(f"60 changes by the relay: {one.wait_for_right()} rows are the oracle's")
        broken = sorted(one.rows())[:2]
        history = len(one.application.history)
        one.application.write([(path, {**one.rows()[path], "text": "broken"}) for path in broken])
        del one.application.history[history:]
        said = one.launch("backfill")
        say(f"{len(broken)} rows were broken; the scheduler's request ran a backfill beside the stream: {_line(said)}")
        say(f"{one.wait_for_right()} rows are the oracle's")
        views = one.work / "shopping" / "views.py"
        views.write_text(VIEWS.replace('return f"{self', 'return f"now {self'))
        shutil.copy(one.work / "out" / "compatibility.json", one.work / "running.json")
        output = one.deploy(*timed, "--update", "--running", "running.json")
        assert "OrderCard: its code changed" in output, output
        one.stop()
        one.write(10)
        one.launch("streaming")
        say(f"the changed view was deployed as an update: {one.wait_for_right()} rows are the oracle's")
        one.write(20)
        one.wait_for_right()
        said = one.launch("backfill")
        assert one.rows() == one.expected()
        say(f"a last backfill: {_line(said)}; every row is the oracle's, none differs")
        one.stop()
    say("done")
    return 0


def _line(said: str) -> str:
    """What a backfill asked of the stream; fails if rows still differ."""
    asked = re.search(r"it was asked to write (\d+) rows again; drift: (\d+)", said)
    if asked is None:
        assert "a stream writes these views" not in said, said
        return "it asked for nothing, drift 0"
    assert asked[2] == "0", said
    return f"it asked for {asked[1]} rows, drift {asked[2]}"


if __name__ == "__main__":
    sys.exit(main())
