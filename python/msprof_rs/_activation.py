"""Switches the profiler on in one process; sees to it that nothing is lost when it forks or ends."""

# This and what it imports runs at the start of every process of a server: see tests/test_footprint.py.
import atexit
import os
import sys

from msprof_rs import _core, _drop_in, _frameworks
from msprof_rs.vllm import is_model_inspection

_TWO_PROFILERS = (
    "[msprof_rs] vLLM loads msServiceProfiler as a plugin too. The functions are hooked by that one, not "
    "twice. To have msprof_rs do it, uninstall ms_service_profiler or set VLLM_PLUGINS=msprof_rs"
)


def start(config_path: str) -> None:
    """Hooks the symbols and starts the recorder; `config_path` is the collection config's path."""
    if is_model_inspection():
        return
    config_path = os.path.abspath(os.path.expanduser(config_path))
    # Children find the same file whatever folder they are started in.
    os.environ["SERVICE_PROF_CONFIG_PATH"] = config_path
    symbols_path = os.environ.get("PROFILING_SYMBOLS_PATH") or None
    if symbols_path:
        symbols_path = os.path.abspath(os.path.expanduser(symbols_path))
        os.environ["PROFILING_SYMBOLS_PATH"] = symbols_path
    child_name = _multiprocessing_name()
    frameworks = _frameworks.installed()
    hooks = not _drop_in.real_one_hooks()
    if not hooks:
        print(_TWO_PROFILERS, file=sys.stderr)
    _core.activate(config_path, os.path.expanduser("~"), symbols_path, frameworks, child_name, hooks)
    _drop_in.install()
    atexit.register(_core.shutdown)
    os.register_at_fork(after_in_child=_after_fork)
    _follow_multiprocessing()
    if child_name is not None:
        _shut_down_with_multiprocessing()


def _multiprocessing_name() -> str | None:
    """The name of a child of `multiprocessing` (`EngineCore`, `VllmWorker-0`), None elsewhere."""
    if "multiprocessing.process" not in sys.modules:
        return None
    from multiprocessing import current_process, parent_process

    return current_process().name if parent_process() is not None else None


def _after_fork() -> None:
    _core.forked_child()
    _follow_multiprocessing()


def _follow_multiprocessing() -> None:
    """A child of `multiprocessing` first forgets all finalizers, and then runs these hooks."""
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import util

        util.register_after_fork(_core, lambda _: _shut_down_with_multiprocessing())


def _shut_down_with_multiprocessing() -> None:
    """Children of `multiprocessing` leave by `os._exit`, which skips `atexit` but not these."""
    from multiprocessing import util

    util.Finalize(None, _core.shutdown, exitpriority=-1000)
