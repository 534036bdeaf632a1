"""What collection adds to an engine step, with all symbols of the built-in pack.

The step is that of the example service's engine, alone in its process, its model taking no time.

    python benches/step_cost.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SERVICE = Path(__file__).parent.parent / "examples" / "service"
BATCHES = (16, 256)
STEPS = 100
ROUNDS = 5


def measure(batch: int) -> float:
    """Microseconds per decode step with this many requests running; runs in a process of its own."""
    sys.path.insert(0, str(SERVICE))
    time.sleep = lambda _: None  # the model's time, which is not of interest here
    from vllm.v1.core.sched import scheduler
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.request import Request

    scheduler.MAX_NUM_SEQS, scheduler.MAX_NUM_BATCHED_TOKENS = batch, batch + 8
    scheduler.MAX_MODEL_LEN = STEPS * ROUNDS + 2 * batch + 16
    engine = EngineCore("uni")
    for i in range(batch):
        engine.add_request(Request(f"cmpl-{i}-0-{i:08x}", [i] * 8, STEPS * ROUNDS + 2 * batch, 0.0))
    while len(engine.scheduler.running) < batch:
        engine.step()
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(STEPS):
            engine.step()
        rounds.append((time.perf_counter() - start) / STEPS * 1e6)
    return min(rounds)


def run(batch: int, config: Path | None) -> float:
    """The same, from the parent's side."""
    settings = {"SERVICE_PROF_CONFIG_PATH": str(config)} if config else {}
    command = [sys.executable, __file__, str(batch)]
    environment = {**os.environ, **settings, "PYTHONPATH": str(SERVICE), "PROF_LOG_LEVEL": "ERROR"}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measures and prints the table."""
    print(f"CPython {sys.version.split()[0]}; microseconds of an engine step")
    print("requests   without      with     added")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        config.write_text(json.dumps({"enable": 1, "prof_dir": folder}))
        for batch in BATCHES:
            pairs = [(run(batch, None), run(batch, config)) for _ in range(3)]
            without, with_us = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
            print(f"{batch:>8} {without:>9.0f} {with_us:>9.0f} {with_us - without:>9.0f}")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(measure(int(sys.argv[1])))
    else:
        main()
