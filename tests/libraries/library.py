"""Libraries from PyPI and the tests in their source distributions, in an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
FOLDER = REPOSITORY / "build" / "libraries" / f"cpython-{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = FOLDER / "environment" / "bin" / "python"

Outcomes = dict[str, list[str]]
"""What became of each test: `call passed`; of one that failed also why."""


@dataclass(frozen=True)
class Library:
    """A library and what has to be known about its tests."""

    name: str
    packages: tuple[str, ...]
    deselected: tuple[str, ...] = ()
    """Parts of the ids of tests that say nothing about us."""
    differences: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    """Tests that end otherwise, by the way of hooking, and why."""

    @property
    def source(self) -> Path:
        """Its unpacked source distribution."""
        (folder,) = (path for path in (FOLDER / "sources").glob(f"{self.name}-*") if path.is_dir())
        return folder

    def symbols(self) -> str:
        """A symbols file that names all of its functions."""
        command = [str(PYTHON), "-W", "ignore", str(HERE / "every_function.py"), *self.packages]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def run(
        self, folder: Path, environment: Mapping[str, str], tests: Iterable[str] = ("tests",)
    ) -> Outcomes:
        """Runs its tests, all or some; what they print is in `suite.log` of the folder."""
        outcomes = folder / "outcomes.json"
        outcomes.unlink(missing_ok=True)
        options = ["--quiet", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        if self.deselected:
            options += ["-k", " and ".join(f"not {part}" for part in self.deselected)]
        # A short path: some make sockets in it, whose names may not be long.
        with TemporaryDirectory() as temporary, (folder / "suite.log").open("a") as log:
            options += ["--basetemp", f"{temporary}/base"]
            subprocess.run(
                [str(PYTHON), str(HERE / "run_suite.py"), str(outcomes), *options, *tests],
                cwd=self.source,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        assert outcomes.exists(), f"the tests did not come to their end: {folder / 'suite.log'}"
        read: Outcomes = json.loads(outcomes.read_text())
        return read


LIBRARIES = (
    Library("attrs", ("attr", "attrs")),
    Library(
        "jinja2",
        ("jinja2",),
        differences={
            "wrapper": {
                "tests/test_pickle.py::test_environment": "the table of filters has the bare functions "
                "still, and pickle finds wrappers under their names",
            }
        },
    ),
    Library("starlette", ("starlette",)),
    Library(
        "anyio",
        ("anyio",),
        (
            # These start a pytest or a pip of their own, with a time limit.
            "sourceless_install",
            "keyboardinterrupt_during",
            "does_not_hang",
            # Not on every machine; the same again on another event loop.
            "ipv6",
            "uvloop",
            # A known difference, in `tests/test_follow.py`; another test each time meets the warning.
            "start_soon_after_error",
            "closes_coroutines_when",
        ),
    ),
)


def prepare() -> None:
    """Makes the environment and fetches the sources, unless they are there."""
    ready = FOLDER / "ready"
    lists = [HERE / name for name in ("requirements.txt", "sources.txt")]
    wanted = "".join(path.read_text() for path in lists)
    if ready.exists() and ready.read_text() == wanted:
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(PYTHON.parents[1])], check=True)
    _pip("install", "--requirement", str(lists[0]))
    # It asks each one's build system for the name; those are in the environment.
    download = ["download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    _pip(*download, "--dest", str(FOLDER / "sources"), "--requirement", str(lists[1]))
    for archive in (FOLDER / "sources").glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(archive.parent, filter="data")
    ready.write_text(wanted)


def _pip(*arguments: str) -> None:
    subprocess.run(
        [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True
    )


def environment() -> dict[str, str]:
    """Nothing of this project but the package, which does nothing by itself."""
    ours = ("MSPROF_", "PROF", "SERVICE_PROF_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONPATH": str(REPOSITORY / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
