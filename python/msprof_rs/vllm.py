"""vLLM: the plugin's entry point (group `vllm.general_plugins`)."""

import sys
from itertools import pairwise

# vLLM asks a helper process about each model class; it serves nothing and ends at once.
_MODEL_INSPECTION = "vllm.model_executor.models.registry"


def register() -> None:
    """The entry point: vLLM calls it in every process, some of them several times."""
    import msprof_rs

    msprof_rs.activate()


def is_model_inspection() -> bool:
    """Whether this is the helper process that vLLM starts to look at a model class."""
    return ("-m", _MODEL_INSPECTION) in pairwise(sys.orig_argv)
