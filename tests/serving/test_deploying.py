"""docs/deploying.md: its manifests name what exists, and a backup that its commands make can be restored."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import boiler_beam as bb
from boiler_beam.connectors import open_sink, open_source
from pipelines.cli import _cli
from pipelines.serve import _DRAIN_SECONDS
from tests.helpers.desk import Task
from tests.helpers.programs import Program
from tests.helpers.servers import wait_until
from tests.helpers.serving import client
from tests.serving.test_serve import ROOT, VIEWS, documents, served, until_ready
from tests.test_docs import options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (ROOT / "docs" / "deploying.md").read_text()
FILES = ROOT / "docs" / "deploying"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def containers() -> list[Any]:
    """The containers of all manifests, with their pods."""
    found = []
    for path in sorted(FILES.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            pod = document["spec"].get("template", {}).get("spec", {})
            for container in pod.get("containers", []):
                name = f"{path.stem}-{document['metadata']['name']}"
                found.append(pytest.param(document, pod, container, id=name))
    return found


@pytest.mark.parametrize(("document", "pod", "container"), containers())
def test_a_container_runs_a_command_with_options_that_exist(document: Any, pod: Any, container: Any) -> None:
    name, *arguments = container["args"]
    command = _cli.commands[name]
    found = command.make_context(name, list(arguments), allow_interspersed_args=False).params
    assert "my_app.views" in found["views"]
    for address in (found["source"] or []) if "source" in found else []:
        assert open_source(address).uri == address
    for option in ("rows", "sink"):
        if found.get(option):
            is_served = option == "rows" and not found["source"]
            assert open_sink(found[option]).scheme in (("sqlite", "firestore") if is_served else ("sqlite",))
    if name == "serve":
        assert found["host"] == "0.0.0.0"
        assert found["auth"].startswith("firebase:"), "others reach it"
    port = found["port"] if name == "serve" else found["metrics_port"]
    assert [one["containerPort"] for one in container["ports"]] == [port]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container:
            asked = container[probe]["httpGet"]
            assert asked["path"] in ("/healthz", "/readyz")
            assert asked.get("port", port) == port


@pytest.mark.parametrize(("document", "pod", "container"), containers())
def test_a_container_writes_to_a_volume_of_its_pod(document: Any, pod: Any, container: Any) -> None:
    (mounted,) = container["volumeMounts"]
    claims = [one["metadata"] for one in document["spec"].get("volumeClaimTemplates", [])]
    assert mounted["name"] in [one["name"] for one in (*pod.get("volumes", []), *claims)]
    paths = re.findall(r"(?:sqlite|jsonl):([^ ]+)", " ".join(container["args"]))
    folders = {os.path.dirname(path) for path in paths}
    folders |= {one["value"] for one in container.get("env", []) if one["name"] == "TMPDIR"}
    assert folders == {mounted["mountPath"]}


def test_servers_are_on_the_node_of_the_engine_and_end_before_they_are_killed() -> None:
    engine, servers, *services = yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())
    assert (engine["kind"], engine["spec"]["replicas"], servers["kind"]) == ("StatefulSet", 1, "Deployment")
    (claim,) = engine["spec"]["volumeClaimTemplates"]
    (volume,) = servers["spec"]["template"]["spec"]["volumes"]
    of_engine = f"{claim['metadata']['name']}-{engine['metadata']['name']}-0"
    assert volume["persistentVolumeClaim"]["claimName"] == of_engine
    pod = servers["spec"]["template"]["spec"]
    (near,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert near["labelSelector"]["matchLabels"] == engine["spec"]["template"]["metadata"]["labels"]
    asleep = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > asleep + _DRAIN_SECONDS
    pods = [engine["spec"]["template"], servers["spec"]["template"]]
    assert all(one["spec"]["securityContext"]["runAsNonRoot"] for one in pods)
    for service in services:
        (selected,) = [one for one in pods if one["metadata"]["labels"] == service["spec"]["selector"]]
        ports = [one["containerPort"] for one in selected["spec"]["containers"][0]["ports"]]
        assert [one["targetPort"] for one in service["spec"]["ports"]] == ports


def test_the_image_installs_what_exists_and_runs_as_nobody_special() -> None:
    text = (FILES / "Dockerfile").read_text()
    assert set(re.findall(r"boiler_beam\[([\w,]+)\]", text)[0].split(",")) <= set(PROJECT["optional-dependencies"])
    assert set(re.findall(r"FROM python:(3\.\d+)-slim", text)) <= set(
        re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    )
    (user,) = re.findall(r"^USER (\d+)$", text, re.MULTILINE)
    assert f"--uid {user} " in text
    assert re.findall(r'^ENTRYPOINT \["([\w-]+)"\]$', text, re.MULTILINE) == list(PROJECT["scripts"])
    assert f"user {user}" in PAGE


def test_options_and_metrics_of_the_page_exist() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", re.sub(r"```sh.*?```", "", PAGE, flags=re.DOTALL)))
    assert named - options(_cli) == set()
    code = "".join((ROOT / one).read_text() for one in ("pipelines/metrics.py", "boiler_beam/serving/app.py"))
    for metric in set(re.findall(r"\bboiler_beam_[a-z_]+(?=[\[{ )])", PAGE.partition("## Alerts")[2])):
        base = metric.removesuffix("_total")
        assert f'"{base}"' in code or f"{{name}}_{base.removeprefix('boiler_beam_serving_')}" in code, metric


def test_a_server_beside_the_engine_takes_writes(tmp_path: Path) -> None:
    store = documents(tmp_path / "documents.db")
    with _engine(tmp_path):
        wait_until(lambda: bool(_titles(tmp_path)), "the first row")
        with served(tmp_path, "--documents", store) as (address, _), client(address) as http:
            until_ready(http)
            assert http.patch("/views/TaskCard/t1", json={"title": "read"}).status_code == 200
            wait_until(lambda: http.get("/views/TaskCard/t1").json()["fields"]["title"] == "read", "the row")
            assert http.get("/views/TaskCard/t1?fresh=1").json()["fields"]["title"] == "read"


# Backup and restore ---------------------------------------------------------------------------------------------------


@contextmanager
def _engine(folder: Path) -> Iterator[None]:
    """The engine as a process; SIGTERM ends it well."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--views", VIEWS, "--mode", "stream"]
    command += ["--source", "documents:documents.db", "--sink", "sqlite:rows.db", "--state", "sqlite:state.db"]
    with (folder / "engine.log").open("ab") as log:
        process = Program(command, folder, {**os.environ, "PYTHONPATH": str(ROOT)}, output=log)
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0, (folder / "engine.log").read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _titles(folder: Path) -> dict[str, str]:
    if not (folder / "rows.db").exists():
        return {}
    with closing(sqlite3.connect(f"file:{folder}/rows.db?mode=rw", uri=True)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'TaskCard'").fetchone():
            return {}
        rows = database.execute('SELECT path, fields FROM "TaskCard"').fetchall()
    return {path: msgspec.json.decode(fields)["title"] for path, fields in rows}


def _incarnation(folder: Path) -> str:
    with closing(sqlite3.connect(f"file:{folder}/rows.db?mode=ro", uri=True)) as database:
        (found,) = database.execute("SELECT incarnation FROM _boiler_served").fetchone()
    return str(found)


def _shell(folder: Path, script: str) -> None:
    command = f"{sys.executable} -m pipelines.cli"
    script = script.replace("boiler-beam", command).replace("python -c", f"{sys.executable} -c")
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_restored_backup_reads_what_changed_since(tmp_path: Path) -> None:
    store = documents(tmp_path / "documents.db")
    backup, restore = re.findall(r"```sh\n(.*?)```", PAGE.partition("## Backup and restore")[2], re.DOTALL)

    def write(change: Callable[[bb.Transaction], object]) -> None:
        with bb.transaction(store) as tx:
            change(tx)

    def create(name: str) -> None:
        write(lambda tx: tx.create(Task(title=name, is_done=False, owner=bb.Ref("persons/p1")), name))

    def until(**expected: str) -> None:
        wanted = {f"task_cards/{name}": title for name, title in expected.items()}
        wait_until(
            lambda: _titles(tmp_path) == wanted,
            lambda: f"rows {wanted}, got {_titles(tmp_path)}; the engine: {(tmp_path / 'engine.log').read_text()}",
        )

    with _engine(tmp_path):
        create("t2")
        until(t1="write", t2="t2")
        _shell(tmp_path, backup)
        create("t3")
        write(lambda tx: tx.delete(bb.Ref("tasks/t2")))
        until(t1="write", t3="t3")
    before = _incarnation(tmp_path)
    _shell(tmp_path, restore)
    assert set(_titles(tmp_path)) == {"task_cards/t1", "task_cards/t2"}, "the rows of the backup"
    assert _incarnation(tmp_path) != before
    with _engine(tmp_path):
        until(t1="write", t3="t3")
        create("t4")
        until(t1="write", t3="t3", t4="t4")
