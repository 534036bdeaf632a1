"""What recording from one's own code costs: a `with` block by `msprof_rs.span`, over an empty one.

python benches/own_spans.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from timeit import repeat
from typing import Any

NUMBER = 20_000
ROUNDS = 25

EMPTY = "with empty: pass"
STATEMENTS = {
    "span": 'with span("x"): pass',
    "span, domain and rid": 'with span("x", domain="D", rid="r1"): pass',
    "span, one attribute added": 'with span("x") as s: s["k"] = 1',
    "event": 'event("x")',
    "counter": 'counter("x", 1.0)',
    "Profiler, a span": 'Profiler(20).domain("D").res("r").span_start("x").span_end()',
}


def nanoseconds(statement: str, names: dict[str, Any]) -> float:
    """Of one execution; the flusher has the time between the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        rounds += repeat(statement, globals=names, number=NUMBER, repeat=1)
        time.sleep(0.02)
    return median(rounds) / NUMBER * 1e9


async def in_a_task(statement: str, names: dict[str, Any]) -> float:
    """The same, inside of an event loop."""
    return nanoseconds(statement, names)


def main() -> None:
    """Measures and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        config.write_text(json.dumps({"enable": 1, "prof_dir": folder}))
        os.environ |= {"SERVICE_PROF_CONFIG_PATH": str(config), "PROF_LOG_LEVEL": "ERROR"}
        import msprof_rs

        names: dict[str, Any] = {
            "empty": contextlib.nullcontext(),
            **{name: getattr(msprof_rs, name) for name in ("span", "event", "counter", "Profiler")},
        }
        assert msprof_rs.is_enabled()
        empty = nanoseconds(EMPTY, names)
        on = {name: nanoseconds(code, names) for name, code in STATEMENTS.items()}
        loop = asyncio.run(in_a_task(STATEMENTS["span"], names)) - empty
        assert msprof_rs.stop()
        off = {name: nanoseconds(code, names) for name, code in STATEMENTS.items()}
        version = sys.version.split()[0]
        print(f"CPython {version}; ns; an empty `with` takes {empty:.0f} and is taken off of spans")
        print(f"{'':<28} collecting   goal       off   goal")
        for name in STATEMENTS:
            less = empty if name.startswith("span") else 0
            goals = ("150", "40") if name == "span" else ("", "")
            print(f"{name:<28} {on[name] - less:>10.0f} {goals[0]:>6} {off[name] - less:>9.0f} {goals[1]:>6}")
        print(f"{'span, in a task':<28} {loop:>10.0f} {'150':>6}")


if __name__ == "__main__":
    main()
