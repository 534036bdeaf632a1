"""Where did the time of this request, of this step, go?

Importing this package switches the profiler on in this process, if the environment variable
`SERVICE_PROF_CONFIG_PATH` names a collection config; otherwise it does nothing at all.

Code of your own records with `span`, `timed`, `event` and `counter`; while nothing is collected they
cost next to nothing.
"""

# Every process of a server imports this, profiled or not: it loads no other module, not even `typing`.
import os as _os
import sys as _sys

TYPE_CHECKING = False  # what type checkers take for `typing.TYPE_CHECKING`
if TYPE_CHECKING:
    from msprof_rs._control import dump, is_enabled, shutdown, start, stop
    from msprof_rs._core import Profiler, Span, __version__, counter, event, span
    from msprof_rs._level import Level
    from msprof_rs._timed import timed

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

        try:
            _activation.start(path)
        except ImportError:  # as in a sub-interpreter, where nothing of the profiler can be had
            raise
        except Exception as error:
            # The server goes on without.
            print(f"[msprof_rs] [ERROR] nothing is recorded here: {error!r}", file=_sys.stderr)
            _activated = False
    return _activated


def _is_our_command() -> bool:
    """Whether this is the command line at work, in a shell where the variable is set for a server."""
    program = _os.path.basename(_sys.argv[0]) if getattr(_sys, "argv", None) else ""
    return program in ("msprof-rs", "msserviceprofiler") or "msprof_rs" in _sys.orig_argv[1:3]


def __getattr__(name: str) -> object:
    """All else is loaded when it is first used."""
    value: object
    if name in ("Profiler", "Span", "__version__", "counter", "event", "span"):
        from msprof_rs import _core

        value = getattr(_core, name)
    elif name in ("dump", "is_enabled", "shutdown", "start", "stop"):
        from msprof_rs import _control

        value = getattr(_control, name)
    elif name == "timed":
        from msprof_rs import _timed

        value = _timed.timed
    elif name == "Level":
        from msprof_rs import _level

        value = _level.Level
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})


activate()
