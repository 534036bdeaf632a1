"""What a hook adds to a call, beside what others add, in one run: nanoseconds, ratios and goals.

    python benches/call_cost.py

Each figure is the least of many short loops, less the least of the same loop over the bare function: what
the code costs when nobody disturbs it. Loops take turns, so that they meet the same machine. Whether a hook
did record is looked up in the capture.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import peers
from collecting import Profiler

LOOP_NANOSECONDS = 200_000
ROUNDS = 1_000

Loop = Callable[[int], Any]


@dataclass
class Row:
    """One line of the table: a loop, and the same loop over the bare function."""

    name: str
    loop: Loop
    bare: Loop
    #: The most nanoseconds that it may add (1 where that is none: the table can't tell them apart), and the
    #: most of what the closure and wrapt add.
    goal: float | None = None
    of_closure: float | None = None
    of_wrapt: float | None = None
    #: The name of its spans, and whether there should be any.
    span: str = ""
    records: bool = True
    #: What is on while the loop runs.
    tracing: Callable[[], AbstractContextManager[None]] = nullcontext
    #: Nanoseconds.
    added: float = nan
    remark: str = ""

    def check(self, captured: bytes) -> None:
        """A row whose hook did not do what the row says has no figure."""
        if self.span and (self.span.encode() in captured) != self.records:
            self.added = nan
            self.remark = "not hooked" if self.records else "recorded, which it should not be"


def nanoseconds(loop: Loop, count: int) -> float:
    """The time of one of so many calls."""
    start = time.perf_counter_ns()
    loop(count)
    return (time.perf_counter_ns() - start) / count


def measure(rows: Sequence[Row], before_round: Callable[[], None] = lambda: None) -> dict[Loop, float]:
    """Fills in what rows add; their loops take turns. Gives the least time of a call in untraced loops."""
    variants = {(row.bare, nullcontext) for row in rows} | {(row.loop, row.tracing) for row in rows}
    counts, least = {}, {}
    for loop, tracing in variants:
        with tracing():
            loop(2_000)  # the interpreter has adapted its code after this
            call = min(nanoseconds(loop, 200) for _ in range(5))
        counts[loop, tracing] = max(20, int(LOOP_NANOSECONDS / call))
        least[loop, tracing] = call
    for _ in range(ROUNDS):
        before_round()
        for variant, count in counts.items():
            loop, tracing = variant
            with tracing():
                call = nanoseconds(loop, count)
            least[variant] = min(least[variant], call)
    for row in rows:
        row.added = least[row.loop, row.tracing] - least[row.bare, nullcontext]
    return {loop: call for (loop, tracing), call in least.items() if tracing is nullcontext}


def peer(name: str, make: Callable[[], Any], targets: Any, bare: Loop) -> Row:
    """The row of another tool: a decorator's, or that of a tracer of the whole interpreter."""
    try:
        made = make()
    except ImportError as error:
        return Row(name, bare, bare, remark=f"not here: {error}")
    if name in peers.GLOBAL:
        return Row(name, bare, bare, tracing=made)
    target = targets.make("Decorated")
    decorated = made(target.method)
    if decorated is target.method:
        return Row(name, bare, bare, remark="gives the function back as it is")
    target.method = decorated
    return Row(name, target().call, bare)


def measure_all(folder: Path) -> tuple[list[Row], float]:
    """The table, and the time of a bare call."""
    profiler = Profiler(folder)
    targets = profiler.targets
    bare, plain = targets.make("Bare")(), targets.Plain()
    call = bare.call

    def ours(name: str, loop: Loop, bare: Loop = call, **more: Any) -> Row:
        return Row(f"msprof_rs: {name}", loop, bare, **more)

    collecting = [
        ours("collecting", plain.call, goal=30, of_closure=0.2, of_wrapt=0.07, span="a_plain_method"),
        ours("its domain not collected", targets.Elsewhere().call,
             goal=18, span="a_method_elsewhere", records=False),
        ours("three attributes", targets.Attributes().call, goal=250, span="a_method_with_attributes"),
        ours("coroutine that awaits once", plain.await_once, bare.await_once, goal=400, span="a_coroutine"),
        ours("generator, per item", plain.iterate, bare.iterate, goal=60, span="a_generator"),
        ours("async generator, per item", plain.iterate_async, bare.iterate_async, span="an_async_generator"),
        ours("never hooked (the error of this table)", targets.make("Another")().call),
    ]  # fmt: skip
    decorators = [peer(name, make, targets, call) for name, make in peers.DECORATORS.items()]
    applied = [row for row in decorators if not row.remark]
    times = measure([*collecting, *applied], profiler.make_room)
    profiler.lost_nothing()

    profiler.switch(on=False)
    off = [ours("nothing collected", plain.call, goal=18)]
    measure(off)

    profiler.take_out()
    profiler.switch(on=True)
    out = [ours("taken out", targets.TakenOut().call, goal=1, span="a_taken_out_method", records=False)]
    measure(out)
    captured = profiler.end()

    # Nothing of these is left when the next one begins, and they come last.
    tracers = [peer(name, make, targets, call) for name, make in peers.GLOBAL.items()]
    for row in tracers:
        if not row.remark:
            measure([row])

    rows = [*collecting[:1], *off, *collecting[1:2], *out, *collecting[2:], *decorators, *tracers]
    for row in rows:
        row.check(captured)
    return rows, times[call]


def main() -> None:
    """Measures and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        rows, bare = measure_all(Path(folder))
    added = {row.name: row.added for row in rows}
    closure, wrapt = added[peers.CLOSURE], added[peers.WRAPT]
    in_place = sys.version_info >= (3, 12) and os.environ.get("MSPROF_FORCE_WRAPPER") != "1"
    how = "in place" if in_place else "by wrapper objects"
    print(f"CPython {platform.python_version()}, hooks {how}; a bare call in its loop takes {bare:.0f} ns")
    print(f"{'added to a call':<50} {'ns':>6} {'closure':>8} {'wrapt':>7}   goals")
    for row in rows:
        if row.added != row.added:
            print(f"{row.name:<50} {row.remark}")
            continue
        # The closure and wrapt were put on a method: no measure for what is awaited or iterated.
        is_method = row.bare.__name__ == "call"
        of_closure, of_wrapt = (round(row.added / peer, 2) + 0.0 for peer in (closure, wrapt))  # no -0.0
        ratios = f"{of_closure:>8.2f} {of_wrapt:>7.2f}" if is_method else " " * 16
        goals = [
            f"{limit:g} {unit}: {'held' if value <= limit else 'missed'}"
            for limit, value, unit in (
                (row.goal, round(row.added), "ns"),
                (row.of_closure, of_closure, "closure"),
                (row.of_wrapt, of_wrapt, "wrapt"),
            )
            if limit is not None
        ]
        print(f"{row.name:<50} {round(row.added):>6} {ratios}   {', '.join(goals)}".rstrip())


if __name__ == "__main__":
    main()
