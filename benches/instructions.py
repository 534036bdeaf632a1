"""Instructions that a hook adds to a call, counted by callgrind, against the table in `instructions.json`.

    python benches/instructions.py             # fails where a count has risen by more than a tenth
    python benches/instructions.py --hooks     # without the ring, whose benchmark takes minutes to build
    python benches/instructions.py --update    # writes this interpreter's counts into the table

Counts hardly depend on the machine or on what else it does, so that a small rise is seen. They do depend on
how the interpreter was compiled: the table says with what it was made. Only the calling thread is counted,
not the flusher.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BENCHES = Path(__file__).parent
TABLE = BENCHES / "instructions.json"
TOLERANCE = 0.1
RING = "span into the ring"
RING_CALLS = 2_000


def output(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a program prints."""
    done = subprocess.run(
        command, env=environment, cwd=BENCHES.parent, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def callgrind(command: list[str], folder: Path) -> tuple[str, list[int]]:
    """What a program prints, and the instructions of its first thread between calls of `getppid`."""
    out = folder / "callgrind"
    options = ["-q", "--separate-threads=yes", "--dump-before=getppid", f"--callgrind-out-file={out}"]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": ""}
    environment.pop("MSPROF_FORCE_WRAPPER", None)
    printed = output(["valgrind", "--tool=callgrind", *options, *command], environment)
    parts: list[int] = []
    while (part := folder / f"callgrind.{len(parts) + 1}-01").exists():
        total = re.search(r"^totals: (\d+)$", part.read_text(), re.MULTILINE)
        assert total, part
        parts.append(int(total[1]))
    return printed, parts


def per_call(parts: list[int], calls: int) -> list[float]:
    """What one more call costs in each loop, which stands in four parts. What happens once cancels out."""
    return [(parts[i + 3] - parts[i + 1]) / calls for i in range(0, len(parts), 4)]


def hook_counts(folder: Path) -> tuple[str, dict[str, float]]:
    """The clock that the hooks read, and for each case what they add to a call."""
    printed, parts = callgrind([sys.executable, str(BENCHES / "counted.py")], folder)
    told: dict[str, Any] = json.loads(printed)
    assert len(parts) == 8 * len(told["cases"]), "somebody else has called getppid"
    loops = iter(per_call(parts, told["calls"]))
    added = {name: -next(loops) + next(loops) for name in told["cases"]}
    for name, is_hooked in told["cases"].items():
        if not is_hooked:
            print(f"not hooked, so not counted: {name}")
            del added[name]
    return told["clock"], added


def ring_counts(folder: Path) -> dict[str, float]:
    """A span's begin and end, written by Rust alone."""
    # In a folder of its own: the library is built without Python here, and would be built again for each.
    target = ["--target-dir", str(BENCHES.parent / "target" / "benches")]
    command = ["cargo", "bench", "--quiet", "--bench", "ring", "--no-run", "--message-format=json", *target]
    messages = map(json.loads, output(command).splitlines())
    programs = [program for message in messages if (program := message.get("executable"))]
    _, parts = callgrind(programs, folder)
    return {RING: per_call(parts, RING_CALLS)[0]}


def made_with() -> str:
    """What the counts depend on."""
    rustc = output(["rustc", "--version"]).split()[1]
    return f"CPython {platform.python_version()}, {platform.python_compiler()}, rustc {rustc}"


def compare(former: dict[str, float], counts: dict[str, float]) -> bool:
    """Prints both. Whether nothing has got worse."""
    good = True
    print(f"{'instructions per call':<40} {'table':>8} {'now':>8}")
    for name, now in counts.items():
        before = former.get(name)
        verdict = ""
        if before is None:
            verdict = "not in the table: `make instructions UPDATE=1`"
        elif now > before * (1 + TOLERANCE):
            verdict, good = "RISEN", False
        elif now < before * (1 - TOLERANCE):
            verdict = "better: `make instructions UPDATE=1` keeps it so"
        print(f"{name:<40} {before or '-':>8} {round(now):>8}   {verdict}".rstrip())
    for name in former.keys() - counts.keys():
        print(f"{name:<40} {former[name]:>8} {'-':>8}   NOT COUNTED any more")
        good = False
    return good


def main() -> int:
    """Counts, and compares or updates."""
    if not shutil.which("valgrind"):
        print("######## NOT CHECKED: there is no valgrind here, so no instructions were counted ########")
        return 0
    with tempfile.TemporaryDirectory() as hooks, tempfile.TemporaryDirectory() as ring:
        clock, counts = hook_counts(Path(hooks))
        if "--hooks" not in sys.argv[1:]:
            counts |= ring_counts(Path(ring))
    row = f"CPython {sys.version_info[0]}.{sys.version_info[1]}, {platform.machine()}, {clock}"
    table: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    if "--update" in sys.argv[1:]:
        table[row] = {"made with": made_with(), "counts": {name: round(n) for name, n in counts.items()}}
        TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=2) + "\n")
        print(f"{TABLE}: written for {row}")
    if row not in table:
        print(f"######## NOT CHECKED: the table has no row for {row}; `make instructions UPDATE=1` ########")
        print("\n".join(f"{name:<40} {round(n):>8}" for name, n in counts.items()))
        return 0
    there, here = table[row]["made with"], made_with()
    print(f"{row}, {here}")
    former: dict[str, float] = table[row]["counts"]
    if RING not in counts:
        former.pop(RING, None)
    good = compare(former, counts)
    if there != here:
        print(f"######## NOT JUDGED: the table was made with {there} ########")
        return 0
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
