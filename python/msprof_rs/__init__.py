"""Where did the time of this request, of this step, go?

Importing this package switches the profiler on in this process, if the environment variable
`SERVICE_PROF_CONFIG_PATH` names a collection config; otherwise it does nothing at all.
"""

from __future__ import annotations

import os as _os
import sys as _sys
from pathlib import Path as _Path

__all__ = ["__version__", "activate", "dump", "is_recording", "shutdown"]

_activated = False


def activate() -> bool:
    """Hooks the symbols and starts the recorder, once per process. Returns whether the profiler is on.

    Called on import; call it yourself only where the environment was set later.
    """
    global _activated
    path = _os.environ.get("SERVICE_PROF_CONFIG_PATH")
    if not path or _is_our_command():
        return False
    if not _activated:
        _activated = True
        from msprof_rs import _activation

        _activation.start(path)
    return True


def _is_our_command() -> bool:
    """Whether this is the command line at work, in a shell where the variable is set for a server."""
    program = _os.path.basename(_sys.argv[0]) if getattr(_sys, "argv", None) else ""
    return program in ("msprof-rs", "msserviceprofiler")


def shutdown() -> None:
    """Writes all events to disk and stops recording here. Happens by itself when the process ends."""
    if _activated:
        from msprof_rs import _core

        _core.shutdown()


def is_recording() -> bool:
    """Whether events are being collected at this moment."""
    if not _activated:
        return False
    from msprof_rs import _core

    return _core.is_recording()


def dump(reason: str = "msprof_rs.dump()") -> _Path:
    """Has all flight recorders of this server write what they remember; gives the folder of the dump.

    For `"mode": "flight"` in the collection config. Returns when this process has written its part. Raises
    RuntimeError if there is nothing to dump, or if it could not be written.
    """
    if not _activated:
        raise RuntimeError(
            "there is nothing to dump: msprof_rs was imported without SERVICE_PROF_CONFIG_PATH"
        )
    from msprof_rs import _core

    return _core.dump(reason)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from msprof_rs import _core

        return _core.__version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


activate()
