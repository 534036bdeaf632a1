"""Counts what is left of calls that are over: references, Python's memory blocks, native memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

import lasting

TRIES = 3
"""Other threads and caches take memory too, now and then; what a call leaves behind is there each time."""


class MallocInfo(ctypes.Structure):
    """`struct mallinfo2`"""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


libc = ctypes.CDLL(None)
libc.mallinfo2.restype = MallocInfo
malloc = libc.malloc
malloc.restype = ctypes.c_void_p


KEPT: list[Any] = []

LEAKS: dict[str, Callable[[Any], Any]] = {
    "a reference": KEPT.append,
    "a block": lambda value: KEPT.append(object()),
    "native memory": lambda value: malloc(16),
    "a class": lambda value: KEPT.append(lasting.Box),
}
"""Calls that do leave something, to see that it is seen."""


class Thing:
    """What the calls are about."""


def figures(thing: Thing) -> dict[str, int]:
    """What there is now."""
    gc.collect()
    memory = libc.mallinfo2()
    watched = [lasting.OddError, lasting.Box, lasting.passing_on, lasting.Managing, lasting.give, None, ()]
    return {
        "references": sys.getrefcount(thing),
        "blocks": sys.getallocatedblocks(),
        "bytes": memory.uordblks + memory.hblkhd,
        "shared references": sum(map(sys.getrefcount, watched)),
    }


def repeat(call: Callable[[Any], Any], thing: Thing, rounds: int) -> None:
    """Calls, whatever comes of it."""
    for _ in range(rounds):
        with contextlib.suppress(lasting.OddError, TypeError):
            call(thing)


def left_per_call(call: Callable[[Any], Any], rounds: int) -> dict[str, float]:
    """What each call has left behind, of the figures that have grown in every try."""
    thing = Thing()
    repeat(call, thing, rounds // 10)  # caches fill
    growth: list[dict[str, float]] = []
    for _ in range(TRIES):
        before = figures(thing)
        repeat(call, thing, rounds)
        after = figures(thing)
        growth.append({name: (after[name] - before[name]) / rounds for name in after})
    least = {name: min(tried[name] for tried in growth) for name in growth[0]}
    return {name: value for name, value in least.items() if value > (4 if name == "bytes" else 0.1)}
