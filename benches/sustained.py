"""How many spans a second of Python calls the recorder takes from one thread, for seconds, without a loss.

python benches/sustained.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from collecting import Profiler

GOAL = 2_000_000
SECONDS = 3


def main() -> None:
    """Calls at the goal's rate, and looks whether all was recorded."""
    with tempfile.TemporaryDirectory() as folder:
        profiler = Profiler(Path(folder))
        call = profiler.targets.Plain().call
        call(20_000)  # the interpreter has adapted its code after this
        each = GOAL // 1000
        start = time.perf_counter()
        for millisecond in range(1, SECONDS * 1000 + 1):
            call(each)
            while time.perf_counter() - start < millisecond / 1000:
                pass
        rate = GOAL * SECONDS / (time.perf_counter() - start)
        dropped = profiler.dropped()
        profiler.end()
    held = "held" if rate > 0.98 * GOAL and not dropped else "missed"
    print(f"Python spans of one thread: {rate / 1e6:.2f} M/s, {dropped} events dropped; 2: {held}")


if __name__ == "__main__":
    main()
