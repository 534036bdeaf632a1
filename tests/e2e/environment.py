"""Where the real vLLM comes from: a CPython, a cached environment with vLLM in it, and our wheel on top."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NoReturn

import install_vllm
import pytest

REPOSITORY = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msprof_rs"
MATURIN = Path(sys.executable).with_name("maturin")


VLLM = os.environ.get("VLLM") or install_vllm.DEFAULT_VERSION
"""`make e2e VLLM=0.11.0` runs another one."""


class UnavailableError(Exception):
    """This machine cannot run it, which is no fault of ours."""


def skip_loudly(reason: str) -> NoReturn:
    """What cannot run here must not look as if it had passed."""
    print(f"\n{'*' * 100}\nNOT RUN: {reason}\n{'*' * 100}", file=sys.__stderr__)
    pytest.skip(reason)


def find_python(version: str) -> str:
    """A CPython of this version, such as `3.12`, from the PATH or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [shutil.which(f"python{version}"), sys.executable]
    candidates += sorted(map(str, pyenv.glob(f"versions/{version}*/bin/python")), reverse=True)
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        # A shim of pyenv may be on the PATH without a Python behind it.
        answer = subprocess.run([candidate, "-c", ask], capture_output=True, text=True)
        if answer.stdout.strip() == version:
            return candidate
    raise UnavailableError(f"there is no CPython {version} on the PATH or in pyenv")


@functools.cache
def build_wheel(python_version: str, base_python: str, profile: str) -> Path:
    """Our wheel for a Python. That of `.venv`, for which there is a build already, is always a release.

    For another Python, an optimised build would take longer than its tests.
    """
    environment = dict(os.environ)
    if python_version == ".".join(map(str, sys.version_info[:2])):
        base_python, profile = str(Path(sys.executable).with_name("python")), "release"
    else:
        # The Makefile speaks of the Python of `.venv`.
        for variable in ("PYO3_PYTHON", "VIRTUAL_ENV"):
            environment.pop(variable, None)
    wheels = REPOSITORY / "build" / "e2e" / f"wheels-{python_version}"
    shutil.rmtree(wheels, ignore_errors=True)
    build = [str(MATURIN), "build", "--profile", profile, "--quiet", "--out", str(wheels)]
    build += ["--interpreter", base_python]
    subprocess.run(build, cwd=REPOSITORY, env=environment, check=True)
    (wheel,) = wheels.glob("*.whl")
    return wheel


class Environment:
    """One cached virtual environment with a real vLLM in it."""

    def __init__(self, python_version: str, vllm_version: str = install_vllm.DEFAULT_VERSION) -> None:
        self.python_version = python_version
        self.vllm_version = vllm_version
        self._base_python = find_python(python_version)
        self.folder = CACHE / f"vllm-{vllm_version}-cp{python_version.replace('.', '')}"
        try:
            install_vllm.install(self.folder, vllm_version, self._base_python)
        except (subprocess.CalledProcessError, OSError) as error:
            raise UnavailableError(f"vLLM cannot be installed: {error}") from error

    def program(self, name: str) -> str:
        """The path of a console script."""
        return str(self.folder / "bin" / name)

    def install_wheel(self, profile: str = "dev") -> None:
        """Builds our wheel for this Python and installs it, in place of an earlier one."""
        wheel = build_wheel(self.python_version, self._base_python, profile)
        self._pip("install", "--force-reinstall", "--no-deps", str(wheel))

    def unpack_wheel(self) -> Path:
        """Builds our wheel for this Python; gives a folder for its `PYTHONPATH`, and installs nothing."""
        folder = REPOSITORY / "build" / "e2e" / f"package-{self.python_version}"
        shutil.rmtree(folder, ignore_errors=True)
        with zipfile.ZipFile(build_wheel(self.python_version, self._base_python, "dev")) as wheel:
            wheel.extractall(folder)
        return folder

    def uninstall(self) -> None:
        """Leaves vLLM alone in the environment."""
        self._pip("uninstall", "--yes", "msprof-rs")

    def _pip(self, *arguments: str) -> None:
        pip = [self.program("python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, *arguments], check=True)
