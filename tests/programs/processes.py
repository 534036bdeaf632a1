"""Programs of several processes, for tests of switching, session folders and ends of processes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess, ForkServerProcess, SpawnProcess
from pathlib import Path

from shapes import add

import msprof_rs

PATIENCE = 60.0
KINDS = {"spawn": SpawnProcess, "fork": ForkProcess, "forkserver": ForkServerProcess}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls, since a process can only ask whether it is being recorded."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not happen")
        time.sleep(0.002)


def follow_the_switch(folder: str, cycles: int) -> None:
    """Calls `add(cycle, 1)` while collection is on and `add(cycle, 0)` while it is off; says so by files."""
    for cycle in range(cycles):
        wait_until(msprof_rs.is_enabled, "the start of collection")
        add(cycle, 1)
        Path(folder, f"on-{cycle}-{os.getpid()}").touch()
        wait_until(lambda: not msprof_rs.is_enabled(), "the end of collection")
        add(cycle, 0)
        Path(folder, f"off-{cycle}-{os.getpid()}").touch()


def follow_the_switch_in_three_processes(folder: str, cycles: int) -> None:
    """This process, a spawned and a forked child."""
    children = [kind(target=follow_the_switch, args=(folder, cycles)) for kind in (SpawnProcess, ForkProcess)]
    for child in children:
        child.start()
    follow_the_switch(folder, cycles)
    for child in children:
        child.join()
        assert child.exitcode == 0, child.exitcode


def call_add(a: int) -> None:
    """The work of a child."""
    add(a, 0)


def call_add_in_a_child(method: str) -> None:
    """One call here, one in a child."""
    add(1, 0)
    child = KINDS[method](target=call_add, args=(2,))
    child.start()
    child.join()
    assert child.exitcode == 0, child.exitcode


def call_add_and_wait_for_a_signal() -> None:
    """One call, then nothing; says when it is ready to be killed."""
    add(1, 0)
    print("ready", flush=True)
    threading.Event().wait()


def threads() -> list[str]:
    """The names of all threads of this process, native ones too."""
    return [Path(task, "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


def call_add_in_threads(count: int, calls: int) -> None:
    """Calls from several threads at once."""
    workers = [
        threading.Thread(target=lambda n=n: [add(n, i) for i in range(calls)], name=f"worker-{n}")
        for n in range(count)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
