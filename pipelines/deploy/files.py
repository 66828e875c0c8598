"""The files of a deployment: the folder from which the image is built, and the specs of the templates."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from boiler_beam.errors import UsageError
from pipelines.deploy.parameters import Kind, metadata

__all__ = ["container_spec", "digest_of", "dockerfile", "python_version", "requirements", "write_image", "write_json"]

LAUNCHER_TAG = "20260122_RC00"
"""Of the image that has Dataflow's launcher.

Source: https://cloud.google.com/dataflow/docs/reference/flex-templates-base-images
"""
_PYTHONS = ("3.11", "3.12", "3.13")
"""Those that have an image with the launcher."""
_LAUNCHER = '''"""Called by Dataflow's launcher, with the template's parameters."""

from pipelines.deploy.launcher import main

if __name__ == "__main__":
    main()
'''
_CHECKOUT = Path(__file__).resolve().parents[2]
_OWN = ("boiler_beam", "transforms", "pipelines")


def python_version() -> str:
    """Returns this Python's version, which is that of the image.

    Raises:
        UsageError: No image with a launcher has it.
    """
    own = ".".join(map(str, sys.version_info[:2]))
    if own not in _PYTHONS:
        raise UsageError(
            f"Python {own}: expected {', '.join(_PYTHONS)}, which Dataflow's launcher runs on; fix: use one"
        )
    return own


def dockerfile(image: str, views: Iterable[str], python: str) -> str:
    """Returns the Dockerfile of the image for launcher and workers.

    Args:
        image: The image's name with its tag.
        views: The views, as for `--views`.
        python: The version of Python: `3.11`.
    """
    launcher = f"gcr.io/dataflow-templates-base/python{python.replace('.', '')}-template-launcher-base:{LAUNCHER_TAG}"
    binary = "/opt/google/dataflow/python_template_launcher"
    return f"""\
# Made by boiler-beam deploy. Dataflow runs the launcher in it to make a job, and workers run the job in it.
FROM apache/beam_python{python}_sdk:{version("apache-beam")}
COPY --from={launcher} {binary} {binary}

WORKDIR /template
# Everything that Beam's image does not have, each pinned. `pip check` fails if a version does not suit the image's.
COPY requirements.txt ./
RUN pip install --no-cache-dir --no-deps -r requirements.txt
COPY wheels/ wheels/
RUN find wheels -name '*.whl' -exec pip install --no-cache-dir --no-deps {{}} + && pip check
COPY views/ views/
COPY launcher.py ./

ENV PYTHONPATH="/template/views"
ENV FLEX_TEMPLATE_PYTHON_PY_FILE="/template/launcher.py"
ENV BOILER_BEAM_VIEWS="{" ".join(views)}"
ENV BOILER_BEAM_IMAGE="{image}"

# What Dataflow's workers start; a launch starts the launcher instead.
ENTRYPOINT ["/opt/apache/beam/boot"]
"""


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _closure(names: Iterable[str]) -> set[str]:
    """Returns the installed packages that some packages need, and themselves; `name[extra]` with an extra's."""
    from packaging.requirements import Requirement  # installed with Beam

    found: set[tuple[str, str]] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        one = waiting.pop()
        for extra in ("", *one.extras):
            key = (_normalized(one.name), extra)
            if key in found:
                continue
            found.add(key)
            try:
                needs = distribution(one.name).requires or []
            except PackageNotFoundError:
                continue
            for text in needs:
                need = Requirement(text)
                if need.marker is None or need.marker.evaluate({"extra": extra}):
                    waiting.append(need)
    return {name for name, _ in found}


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(more: Iterable[str] = ()) -> list[str]:
    """Returns the pinned packages that the image needs beyond those of Beam, at the versions that are installed here.

    Args:
        more: Further lines, each with a pinned version.

    Raises:
        UsageError: A line is not pinned.
    """
    lines = [line.strip() for line in more if line.strip() and not line.startswith("#")]
    for line in lines:
        if "==" not in line and "@" not in line:
            raise UsageError(f"{line}: expected a pinned version, NAME==VERSION, got none; fix: pip freeze prints it")
    own = _closure(["boiler_beam[firestore]"]) - _closure(["apache-beam[gcp]"]) - {"boiler-beam"}
    pinned = [f"{name}=={version(name)}" for name in sorted(own) if _is_installed(name)]
    if not _is_checkout():
        pinned.append(f"boiler_beam=={version('boiler_beam')}")
    return sorted({*pinned, *lines})


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _is_checkout() -> bool:
    """Returns whether this code is a checkout, from which a wheel is built, and not an installed package."""
    return (_CHECKOUT / "pyproject.toml").exists() and (_CHECKOUT / "setup.py").exists()


def write_image(folder: Path, image: str, views: Iterable[str], modules: Iterable[Path], more: Iterable[str]) -> None:
    """Writes the folder from which the image is built.

    Args:
        folder: The folder; what it held is removed.
        image: The image's name with its tag.
        views: The views, as for `--views`.
        modules: The top-level modules and packages of the views.
        more: Further pinned requirements.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("wheels", "views"):
        (folder / name).mkdir(parents=True)
        (folder / name / ".keep").touch()
    (folder / "Dockerfile").write_text(dockerfile(image, views, python_version()))
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements(more)))
    (folder / "launcher.py").write_text(_LAUNCHER)
    for module in modules:
        if module.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
            shutil.copytree(module, folder / "views" / module.name, ignore=ignored)
        else:
            shutil.copy(module, folder / "views" / module.name)
    if _is_checkout():
        build_wheel(_CHECKOUT, folder / "wheels")


def build_wheel(source: Path, folder: Path) -> None:
    """Builds the wheel of this program's checkout into a folder.

    Raises:
        UsageError: It can't be built.
    """
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    with tempfile.TemporaryDirectory() as name:  # setuptools leaves files in the folder, and two builds would collide
        for one in (*_OWN, "pyproject.toml", "setup.py", "README.md", "LICENSE"):
            copy = shutil.copytree if (source / one).is_dir() else shutil.copy
            copy(source / one, Path(name, one))
        done = subprocess.run([*command, folder, name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(
            f"{source}: expected a package that can be built, got:\n{done.stdout}{done.stderr}; fix: see there"
        )


def digest_of(modules: Iterable[Path], more: Iterable[str]) -> str:
    """Returns a digest of all that an image holds, by which it is named: views, this program and versions."""
    digest = hashlib.sha256()
    own = [Path(__file__).resolve().parents[2] / name for name in _OWN]
    for root in [*own, *modules]:
        for path in sorted(_sources(root)):
            digest.update(f"{path.relative_to(root.parent)}\0".encode() + path.read_bytes() + b"\0")
    digest.update("\n".join([*requirements(more), dockerfile("", [], python_version())]).encode())
    return digest.hexdigest()[:12]


def _sources(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    else:
        yield from (path for path in root.rglob("*") if path.is_file() and not _is_ignored(path.relative_to(root)))


def _is_ignored(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def container_spec(kind: Kind, name: str, image: str, environment: dict[str, Any]) -> dict[str, Any]:
    """Returns the spec of a template, which `gcloud dataflow flex-template build` writes to Cloud Storage."""
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": metadata(kind, name),
        "defaultEnvironment": environment,
    }


def write_json(path: Path, value: Any) -> None:
    """Writes JSON for people and programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
