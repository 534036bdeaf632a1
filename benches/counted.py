"""What `instructions.py` runs under callgrind: each call of `getppid` ends a part.

Prints what the parts are, as JSON: for each case the bare loop with N and with 2N calls, then the hooked one.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from collecting import Profiler

CALLS = 2_000


def count(loop: Callable[[int], object]) -> None:
    """Four parts: what is between the loops, and each of the two."""
    loop(500)  # the interpreter has adapted its code, and memory has been asked for
    for calls in (CALLS, 2 * CALLS):
        os.getppid()
        loop(calls)
        os.getppid()


def main() -> None:
    """Runs all cases."""
    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        profiler = Profiler(Path(folder))
        targets = profiler.targets
        bare, plain = targets.make("Bare")(), targets.Plain()
        cases = {
            "method": (bare.call, plain.call, "a_plain_method"),
            "method, its domain not collected": (bare.call, targets.Elsewhere().call, ""),
            "method, three attributes": (bare.call, targets.Attributes().call, "a_method_with_attributes"),
            "coroutine that awaits once": (bare.await_once, plain.await_once, "a_coroutine"),
            "generator, per item": (bare.iterate, plain.iterate, "a_generator"),
            "async generator, per item": (bare.iterate_async, plain.iterate_async, "an_async_generator"),
        }
        for without, hooked, _ in cases.values():
            count(without)
            count(hooked)
        profiler.lost_nothing()
        captured = profiler.end()
    clock = "cpu counter" if b"cpu counter" in captured else "kernel clock"
    hooked_cases = {name: span.encode() in captured for name, (_, _, span) in cases.items()}
    print(json.dumps({"calls": CALLS, "clock": clock, "cases": hooked_cases}))


if __name__ == "__main__":
    main()
