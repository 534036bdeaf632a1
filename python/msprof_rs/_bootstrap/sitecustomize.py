"""On the path of every Python that `msprof-rs run` starts: has it import the profiler before anything else.

A `sitecustomize` that was there before runs all the same.
"""

import os
import sys
from importlib.machinery import PathFinder

_HERE = os.path.dirname(os.path.abspath(__file__))


def _run_the_other_one() -> None:
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


# Children find it by PYTHONPATH; this process need not see it any more.
sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != _HERE]
_run_the_other_one()
try:
    import msprof_rs  # noqa: F401
except ModuleNotFoundError:
    print("[msprof_rs] is not installed for", sys.executable, "- not profiled", file=sys.stderr)
except ImportError as error:
    print(f"[msprof_rs] not profiled: {error}", file=sys.stderr)
