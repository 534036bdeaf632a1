"""Where did the time of this request, of this step, go?

Importing this package switches the profiler on in this process, if the environment variable
`SERVICE_PROF_CONFIG_PATH` names a collection config; otherwise it does nothing at all.

Code of your own records with `span`, `timed`, `event` and `counter`; while nothing is collected they
cost next to nothing.
"""

from __future__ import annotations

import os as _os
import sys as _sys
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from msprof_rs._core import Profiler, Span, __version__, counter, event, span
    from msprof_rs._level import Level

    _F = TypeVar("_F", bound=Callable[..., Any])

__all__ = [
    "Level",
    "Profiler",
    "Span",
    "__version__",
    "activate",
    "counter",
    "dump",
    "event",
    "is_enabled",
    "shutdown",
    "span",
    "start",
    "stop",
    "timed",
]

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
    return program in ("msprof-rs", "msserviceprofiler") or "msprof_rs" in _sys.orig_argv[1:3]


def shutdown() -> None:
    """Writes all events to disk and stops recording here. Happens by itself when the process ends."""
    if _activated:
        from msprof_rs import _core

        _core.shutdown()


def is_enabled() -> bool:
    """Whether events are being collected at this moment."""
    if not _activated:
        return False
    from msprof_rs import _core

    return _core.is_recording()


def start() -> bool:
    """Begins to collect, in all processes of this server; returns whether this one does now.

    Changes `enable` in the collection config. A limit that has been reached may keep collection off.
    """
    return _switch(True)


def stop() -> bool:
    """Ends collection, in all processes of this server; returns whether this one has."""
    return _switch(False)


def _switch(on: bool) -> bool:
    _need_activation("there is nothing to switch")
    from msprof_rs import _core

    return _core.switch(on)


def dump(reason: str = "msprof_rs.dump()") -> _Path:
    """Has all flight recorders of this server write what they remember; gives the folder of the dump.

    For `"mode": "flight"` in the collection config. Returns when this process has written its part. Raises
    RuntimeError if there is nothing to dump, or if it could not be written.
    """
    _need_activation("there is nothing to dump")
    from msprof_rs import _core

    return _core.dump(reason)


def _need_activation(problem: str) -> None:
    if not _activated:
        raise RuntimeError(f"{problem}: msprof_rs was imported without SERVICE_PROF_CONFIG_PATH")


@overload
def timed(function: _F, /) -> _F: ...
@overload
def timed(*, name: str | None = None, domain: str = "Default", level: int = 20) -> Callable[[_F], _F]: ...
def timed(
    function: Any = None, /, *, name: str | None = None, domain: str = "Default", level: int = 20
) -> Any:
    """Decorates a function, so that each call becomes a span; a coroutine's lasts until it is done.

    The name is the function's qualified name, unless another is given.
    """
    if function is None:
        return lambda function: timed(function, name=name, domain=domain, level=level)  # type: ignore[call-overload]
    if isinstance(function, (staticmethod, classmethod)):
        inner = timed(function.__func__, name=name, domain=domain, level=level)  # type: ignore[call-overload]
        return type(function)(inner)
    from msprof_rs import _core

    known_as = name or getattr(function, "__qualname__", None) or type(function).__qualname__
    return _core.timed(function, known_as, domain, level)


def __getattr__(name: str) -> Any:
    # What records is native: loaded when it is first used.
    if name == "Level":
        from msprof_rs import _level

        value: Any = _level.Level
    elif name in ("Profiler", "Span", "__version__", "counter", "event", "span"):
        from msprof_rs import _core

        value = getattr(_core, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


activate()
