"""What a serving thread does for its events touches no file: no disk may hold it up."""

from __future__ import annotations

import platform
import signal
import sys

import pytest

from program import Program

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the filter knows the numbers of Linux's system calls on these two only",
)

FORBIDDEN = """
import os, threading
import shapes, without_files
without_files.forbid_files()
{after}
"""

SYMBOL = "- {symbol: 'shapes:add', domain: Test, attributes: [{name: a, expr: a}]}"


def test_the_filter_kills_a_thread_that_opens_a_file(program: Program) -> None:
    program.run(FORBIDDEN.format(after="open('x', 'w')"), exit_code=-signal.SIGSYS)


@pytest.mark.parametrize("threads", [1, 40])
def test_events_names_and_threads_are_recorded_without_touching_a_file(
    program: Program, threads: int
) -> None:
    program.hook(SYMBOL)
    program.run(
        FORBIDDEN.format(
            after=f"""
def work(thread):
    shapes.add(thread)
    with msprof_rs.span(f"a new name in thread {{thread}}"): pass
    msprof_rs.counter(f"counter {{thread}}", 1.5)
    msprof_rs.event(f"event {{thread}}", **{{f"key {{thread}}": "value"}})
    for number in range(6_000): shapes.add(-1)  # fills the first ring of a thread

threads = [threading.Thread(target=work, args=[number]) for number in range({threads})]
for thread in threads: thread.start()
for thread in threads: thread.join()
work({threads})
os.kill(os.getpid(), 15)  # the end of Python itself may open files
            """,
        ),
        exit_code=-signal.SIGTERM,
    )
    # Half a million events: on a slow machine the last ones are still in the rings when the process ends.
    program.command("recover", str(program.prof_dir))
    capture = program.capture()
    assert capture.dropped == 0
    numbers = [span.attributes["a"] for span in capture.named("add")]
    assert sorted(number for number in numbers if number >= 0) == list(range(threads + 1))
    assert numbers.count(-1) == 6_000 * (threads + 1)
    names = {f"a new name in thread {number}" for number in range(threads + 1)}
    assert names <= {span.name for span in capture.spans}
