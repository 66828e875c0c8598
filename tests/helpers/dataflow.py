"""Dataflow for tests: its endpoint as an HTTP server, which starts a Flex Template's launcher as the service does.

A launch reads the container spec from Cloud Storage's emulator, checks the parameters by their regular expressions, runs
the launcher that the image's Dockerfile names with the image's environment, and takes the job from the object to which
the launcher writes it (`--template_location`). Requests are checked against the discovery document.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.helpers.discovery import problems
from tests.helpers.storage import Storage, storage

ROOT = Path(__file__).resolve().parents[2]
_API = "dataflow.v1b3"
_JOBS = re.compile(r"/v1b3/projects/([^/]+)/locations/([^/]+)/(jobs|flexTemplates:launch)(/[^?]*)?(?:\?.*)?")


@dataclass
class Image:
    """What a Dockerfile makes, as far as a launcher needs it.

    Attributes:
        folder: The build context.
        environment: Of `ENV`.
        files: Of `COPY`: path in the image to the file or folder.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def here(self, value: str) -> str:
        """A value of the environment, with the paths of the image replaced by those of this machine."""
        return value.replace("/template/", f"{self.folder}/")


def image_of(folder: Path) -> Image:
    """Reads a Dockerfile: the instructions that `boiler-beam deploy` writes, no others."""
    image, work = Image(folder), "/"
    for line in (folder / "Dockerfile").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "ENV":
            name, _, value = rest.partition("=")
            image.environment[name] = json.loads(value)
        elif word == "WORKDIR":
            work = rest
        elif word == "COPY" and not rest.startswith("--from="):
            source, target = rest.split()
            assert (folder / source).exists(), f"COPY {source}: not in {folder}"
            image.files[os.path.normpath(os.path.join(work, target, "" if target.endswith("/") else source))] = (
                folder / source
            )
        else:
            assert word in ("", "#", "FROM", "RUN", "COPY", "ENTRYPOINT"), line
    return image


@dataclass
class Launch:
    """One start of a launcher."""

    body: dict[str, Any]
    code: int
    said: str


class LocalDataflow:
    """The endpoint.

    Attributes:
        address: http://localhost:PORT.
        jobs: The jobs that were submitted, as JSON.
        launches: What was launched.
        problems: What in requests was not as the discovery document says.
        images: The images that launches may name, by their names: folders with a Dockerfile.
    """

    def __init__(self, opened: Storage, port: int, credentials: Path) -> None:
        self.storage, self.address, self.credentials = opened, f"http://localhost:{port}", credentials
        self.jobs: list[dict[str, Any]] = []
        self.launches: list[Launch] = []
        self.problems: list[str] = []
        self.images: dict[str, Path] = {}
        self.python = [sys.executable]
        self.environment: dict[str, str] = {}
        self.arguments: list[str] = []
        self.run: Callable[[list[str], dict[str, str]], tuple[int, str]] = _run
        self.job_is_written = True

    def cloud(self) -> dict[str, str]:
        """The environment of a program that finds this endpoint, Cloud Storage and credentials."""
        return {
            "STORAGE_EMULATOR_HOST": self.storage.address,
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.credentials),
            "NO_GCE_CHECK": "true",
            "GOOGLE_CLOUD_PROJECT": "my-project",
        }

    def post(self, kind: str, project: str, region: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answers a POST: of a job, or of a launch."""
        if kind == "jobs":
            return 200, self._job(body)
        self.problems += problems(_API, "LaunchFlexTemplateRequest", body)
        try:
            return 200, {"job": self.launch(project, region, body["launchParameter"])}
        except AssertionError as error:
            return 400, {"error": {"code": 400, "message": str(error), "status": "INVALID_ARGUMENT"}}

    def _job(self, job: dict[str, Any]) -> dict[str, Any]:
        self.problems += problems(_API, "Job", job)
        self.jobs.append(job)
        return {"id": f"job-{len(self.jobs)}", "name": job["name"], "currentState": "JOB_STATE_PENDING"}

    def launch(self, project: str, region: str, body: dict[str, Any]) -> dict[str, Any]:
        """Runs a launcher as the service does."""
        bucket, _, name = body["containerSpecGcsPath"].removeprefix("gs://").partition("/")
        spec = json.loads(self.storage.read(bucket, name))
        _check(spec["metadata"]["parameters"], body["parameters"])
        image = image_of(self.images[spec["image"]])
        target = f"{body['environment']['stagingLocation']}/template_launches/{len(self.launches)}/job_object"
        given = {**body["parameters"], "project": project, "region": region, "job_name": body["jobName"]}
        given |= _beam_options({**spec["defaultEnvironment"], **body["environment"]})
        if body.get("update"):
            given["update"] = "true"
        flags = [f"--{key}={value}" for key, value in given.items() if value != "true"]
        flags += [f"--{key}" for key, value in given.items() if value == "true"]
        flags += [f"--template_location={target}"] if self.job_is_written else []
        environment = {**os.environ, **self.cloud(), **self.environment}
        environment |= {key: image.here(value) for key, value in image.environment.items()}
        command = [*self.python, image.here(image.environment["FLEX_TEMPLATE_PYTHON_PY_FILE"]), *flags, *self.arguments]
        code, said = self.run(command, environment)
        self.launches.append(Launch(body, code, said))
        assert code == 0, said
        if not self.job_is_written:
            return {"name": body["jobName"]}
        bucket, _, name = target.removeprefix("gs://").partition("/")
        return self._job(json.loads(self.storage.read(bucket, name)))


def _check(known: list[dict[str, Any]], given: Mapping[str, str]) -> None:
    """As the service does: every parameter is known and matches, and none that is needed is missing."""
    names = {one["name"]: one for one in known}
    for name, value in given.items():
        assert name in names, f"unrecognized parameter: {name}"
        for pattern in names[name].get("regexes", []):
            assert re.fullmatch(pattern, value), f"{name}: {value} does not match {pattern}"
    missing = [name for name, one in names.items() if not one.get("isOptional") and name not in given]
    assert not missing, f"missing parameters: {missing}"


def _beam_options(environment: Mapping[str, Any]) -> dict[str, str]:
    names = {
        "tempLocation": "temp_location", "stagingLocation": "staging_location", "maxWorkers": "max_num_workers",
        "numWorkers": "num_workers", "machineType": "machine_type", "serviceAccountEmail": "service_account_email",
        "sdkContainerImage": "sdk_container_image", "enableStreamingEngine": "enable_streaming_engine",
        "subnetwork": "subnetwork",
    }  # fmt: skip
    return {names[key]: "true" if value is True else str(value) for key, value in environment.items()}


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


@contextmanager
def dataflow(folder: Path) -> Iterator[LocalDataflow]:
    """Starts the endpoint, with Cloud Storage and the token endpoint of a service account that nobody has."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.startswith("/token"):
                self._answer(200, {"access_token": "none", "expires_in": 3600, "token_type": "Bearer"})
                return
            found = _JOBS.fullmatch(self.path)
            if found is None:
                self._answer(404, {"error": {"message": self.path}})
                return
            self._answer(*local.post(found[3], found[1], found[2], json.loads(body)))

        def do_GET(self) -> None:
            found = _JOBS.fullmatch(self.path)
            jobs = [{"id": f"job-{number}", "name": job["name"], "currentState": "JOB_STATE_RUNNING"}
                    for number, job in enumerate(local.jobs, 1)]  # fmt: skip
            self._answer(200, {"jobs": jobs} if found and not found[4] else (jobs or [{}])[-1])

        def _answer(self, code: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *given: Any) -> None:
            """Nothing is logged."""

    with storage() as opened, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        credentials = folder / "credentials.json"
        port = server.server_address[1]
        credentials.write_text(json.dumps(_account(f"http://localhost:{port}/token")))
        local = LocalDataflow(opened, int(port), credentials)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield local
        finally:
            server.shutdown()
            thread.join()


def _account(token_uri: str) -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {
        "type": "service_account", "project_id": "my-project", "private_key_id": "1", "private_key": text,
        "client_email": "nobody@my-project.iam.gserviceaccount.com", "client_id": "1", "token_uri": token_uri,
    }  # fmt: skip
