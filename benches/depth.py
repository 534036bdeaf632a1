"""How deep a hooked function may call itself before the thread's stack is used up, or Python says so.

python benches/depth.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HOOKS = {
    "not hooked": "[]",
    "plain": "- {symbol: 'deep:count'}",
    "with an attribute": "- {symbol: 'deep:count', attributes: [{name: n, expr: n}]}",
}
STACKS = {"8 MiB": 8 << 20, "512 KiB": 512 << 10}
MOST = 100_000
RUN = """
import msprof_rs, sys, threading
import deep
sys.setrecursionlimit(10**7)
threading.stack_size({stack})
def work():
    print(deep.count({depth}))
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def fits(folder: Path, stack: int, depth: int) -> bool:
    """Whether so many nested calls end well."""
    ours = {"SERVICE_PROF_CONFIG_PATH": "config.json", "PROFILING_SYMBOLS_PATH": "symbols.yaml"}
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(stack=stack, depth=depth)],
        cwd=folder,
        env={**os.environ, **ours, "PYTHONPATH": str(folder), "PROF_LOG_LEVEL": "NONE"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout == f"{depth}\n"


def deepest(folder: Path, stack: int) -> int:
    """The most calls that end well, within a hundredth."""
    low, high = 0, MOST
    if fits(folder, stack, high):
        return high
    while high - low > max(10, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(folder, stack, middle) else (low, middle)
    return low


def main() -> None:
    """Prints a line for each kind of hook and each stack."""
    for hook, symbols in HOOKS.items():
        for name, stack in STACKS.items():
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made)
                (folder / "deep.py").write_text("def count(n): return count(n - 1) + 1 if n else 0\n")
                (folder / "symbols.yaml").write_text(symbols)
                (folder / "config.json").write_text(json.dumps({"enable": 1, "prof_dir": made}))
                depth = deepest(folder, stack)
            bound = "at least " if depth == MOST else ""
            print(f"{hook:<20} {name:>8}: {bound}{depth:,} calls deep")


if __name__ == "__main__":
    main()
