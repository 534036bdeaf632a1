"""What `import msprof_rs` costs a process: milliseconds beside `import sqlite3`, memory beside `import json`.

    python benches/import_cost.py

Each import has a process of its own, without `site`, whose `.pth` files may have imported anything; the
processes take turns. Figures are medians. Memory is what the process has for itself (`Anonymous` of
`/proc/self/smaps_rollup`); page faults count what it shares too.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

ROUNDS = 41

CHILD = """
import os, sys, time
from resource import RUSAGE_SELF, getrusage
sys.path += {path!r}

def private():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

memory, faults = private(), getrusage(RUSAGE_SELF).ru_minflt
start = time.perf_counter_ns()
import {module}
end = time.perf_counter_ns()
print((end - start) / 1e6, getrusage(RUSAGE_SELF).ru_minflt - faults, private() - memory)
"""


@dataclass(frozen=True)
class Import:
    """A line of the table."""

    name: str
    module: str
    #: What the collection config says; None: none is set.
    enable: int | None = None
    #: The most milliseconds, in a process that nobody disturbs.
    goal: float | None = None


JSON, SQLITE = Import("import json", "json"), Import("import sqlite3", "sqlite3")
IMPORTS = (
    JSON,
    SQLITE,
    Import("import msprof_rs, no config set", "msprof_rs", goal=2),
    Import("import msprof_rs, collection off", "msprof_rs", enable=0, goal=5),
    Import("import msprof_rs, collection on", "msprof_rs", enable=1, goal=5),
)


@dataclass(frozen=True)
class Cost:
    """What an import took."""

    milliseconds: float
    faults: float
    kilobytes: float


def import_path() -> list[str]:
    """Where the processes find the package, and what is installed beside it."""
    spec = find_spec("msprof_rs")
    if spec is None or spec.origin is None:
        raise SystemExit("msprof_rs is not installed here: make build")
    return [str(Path(spec.origin).parent.parent), sysconfig.get_path("purelib")]


def measure(what: Import, path: list[str], folder: Path) -> Cost:
    """Imports it in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_PROF")}
    environment["PROF_LOG_LEVEL"] = "WARNING"
    if what.enable is not None:
        config = folder / "config.json"
        config.write_text(json.dumps({"enable": what.enable, "prof_dir": str(folder / "captures")}))
        environment["SERVICE_PROF_CONFIG_PATH"] = str(config)
    command = [sys.executable, "-I", "-S", "-c", CHILD.format(path=path, module=what.module)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(*map(float, done.stdout.split()))


def main() -> None:
    """Measures and prints the table."""
    costs: dict[Import, list[Cost]] = {what: [] for what in IMPORTS}
    path = import_path()
    with tempfile.TemporaryDirectory() as folder:
        for what in IMPORTS:
            measure(what, path, Path(folder))  # writes the bytecode, brings the files into memory
        for _ in range(ROUNDS):
            for what, measured in costs.items():
                measured.append(measure(what, path, Path(folder)))
    medians = {
        what: Cost(
            median(cost.milliseconds for cost in measured),
            median(cost.faults for cost in measured),
            median(cost.kilobytes for cost in measured),
        )
        for what, measured in costs.items()
    }
    print(f"CPython {platform.python_version()}; medians of {ROUNDS} fresh processes")
    print(f"{'':<34} {'ms':>6} {'of sqlite3':>11} {'page faults':>12} {'KB of its own':>14}   goals")
    for what, cost in medians.items():
        ratio = cost.milliseconds / medians[SQLITE].milliseconds
        goals = []
        if what.goal is not None:
            goals.append((f"{what.goal:g} ms", cost.milliseconds <= what.goal))
        if what.module == "msprof_rs":
            less = cost.faults < medians[JSON].faults and cost.kilobytes < medians[JSON].kilobytes
            goals.append(("less memory than json", less))
        told = ", ".join(f"{goal}: {'held' if held else 'missed'}" for goal, held in goals)
        print(
            f"{what.name:<34} {cost.milliseconds:>6.2f} {ratio:>11.2f} {cost.faults:>12.0f}"
            f" {cost.kilobytes:>14.0f}   {told}".rstrip()
        )


if __name__ == "__main__":
    main()
