"""Commands of the program to its profiler."""

from __future__ import annotations

from pathlib import Path

import msprof_rs


def shutdown() -> None:
    """Writes all events to disk and stops recording here. Happens by itself when the process ends."""
    if msprof_rs._activated:
        from msprof_rs import _core

        _core.shutdown()


def is_enabled() -> bool:
    """Whether events are being collected at this moment."""
    if not msprof_rs._activated:
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


def dump(reason: str = "msprof_rs.dump()") -> Path:
    """Has all flight recorders of this server write what they remember; gives the folder of the dump.

    For `"mode": "flight"` in the collection config. Returns when this process has written its part. Raises
    RuntimeError if there is nothing to dump, or if it could not be written.
    """
    _need_activation("there is nothing to dump")
    from msprof_rs import _core

    return _core.dump(reason)


def _need_activation(problem: str) -> None:
    if not msprof_rs._activated:
        raise RuntimeError(f"{problem}: msprof_rs was imported without SERVICE_PROF_CONFIG_PATH")
