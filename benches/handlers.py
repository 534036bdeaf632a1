"""What the built-in handlers add to the calls that they look at, with 256 running requests.

    python benches/handlers.py

The calls are those of stubs with the shapes of vLLM's objects; the stubs themselves do nothing. Each figure
is the difference to the same calls without the profiler, in pairs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

REQUESTS = 256
CALLS = 100
ROUNDS = 20
PAIRS = 5

HANDLERS = {
    "schedule": "stubs:Scheduler.schedule",
    "execute_model": "stubs:Executor.execute_model",
    "process_outputs": "stubs:OutputProcessor.process_outputs",
    "update_from_output": "stubs:Scheduler.update_from_output",
    "execute_model_runner": "stubs:ModelRunner.execute_model",
}
GOALS = {"schedule": 25, "execute_model": 15, "process_outputs": 15}


class Scheduler:
    """Gives the same batch at every step."""

    def __init__(self) -> None:
        ids = [f"cmpl-{i:08x}-0-{i:08x}" for i in range(REQUESTS)]
        self.running = [SimpleNamespace(request_id=rid, num_prompt_tokens=64) for rid in ids]
        self.requests = {request.request_id: request for request in self.running}
        self.waiting: list[Any] = []
        pool = SimpleNamespace(num_gpu_blocks=10_000, get_num_free_blocks=lambda: 5_000)
        self.kv_cache_manager = SimpleNamespace(block_pool=pool)
        cached = SimpleNamespace(req_ids=ids, num_computed_tokens=[100] * REQUESTS)
        self.output = SimpleNamespace(
            scheduled_new_reqs=[],
            scheduled_cached_reqs=cached,
            num_scheduled_tokens=dict.fromkeys(ids, 1),
            total_num_scheduled_tokens=REQUESTS,
            finished_req_ids=set(),
            scheduled_spec_decode_tokens={},
        )
        outputs = [SimpleNamespace(request_id=rid, new_token_ids=[1], finish_reason=None) for rid in ids]
        self.outputs = {0: SimpleNamespace(outputs=outputs)}

    def schedule(self) -> Any:
        """The batch."""
        return self.output

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Its outputs."""
        return self.outputs


class Executor:
    """Runs nothing."""

    def execute_model(self, scheduler_output: Any) -> Any:
        """Something that is no future."""
        return self


class ModelRunner(Executor):
    """The worker's side."""

    def execute_model(self, scheduler_output: Any) -> Any:
        """The same."""
        return self


class OutputProcessor:
    """Knows all requests, and none ends."""

    def __init__(self, ids: list[str]) -> None:
        self.request_states = dict.fromkeys(ids, SimpleNamespace())

    def process_outputs(self, engine_core_outputs: list[Any]) -> None:
        """Does nothing."""


def calls(name: str) -> Callable[[], object]:
    """What is measured for a handler; `execute_model` needs a batch that was scheduled."""
    scheduler, executor, runner = Scheduler(), Executor(), ModelRunner()
    outputs = scheduler.outputs[0].outputs
    processor = OutputProcessor(list(scheduler.requests))
    return {
        "schedule": scheduler.schedule,
        "execute_model": lambda: executor.execute_model(scheduler.schedule()),
        "process_outputs": lambda: processor.process_outputs(outputs),
        "update_from_output": lambda: scheduler.update_from_output(scheduler.output, None),
        "execute_model_runner": lambda: runner.execute_model(scheduler.output),
    }[name]


def measure(name: str, state: str) -> float:
    """Microseconds of a call; runs in a process of its own."""
    sys.modules["stubs"] = sys.modules["__main__"]
    if state != "without":
        import msprof_rs

        assert msprof_rs.is_enabled() == (state == "on")
    call = calls(name)
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter() - start) / CALLS * 1e6)
        time.sleep(0.03)  # the flusher empties the ring meanwhile
    return median(rounds)


def run(name: str, state: str, folder: Path) -> float:
    """The same, from the parent's side."""
    config, symbols = folder / f"{state}.json", folder / f"{name}.yaml"
    config.write_text(json.dumps({"enable": int(state == "on"), "prof_dir": str(folder)}))
    # For `execute_model` the scheduler is hooked too, as it always is; its cost is taken off afterwards.
    names = ["schedule", name] if name == "execute_model" else [name]
    entries = [f"- {{symbol: '{HANDLERS[it]}', handler: 'msprof_rs.handlers:{it}'}}\n" for it in names]
    symbols.write_text("".join(entries))
    settings = {"PROFILING_SYMBOLS_PATH": str(symbols), "PROF_LOG_LEVEL": "ERROR"}
    if state != "without":
        settings["SERVICE_PROF_CONFIG_PATH"] = str(config)
    command = [sys.executable, __file__, name, state]
    done = subprocess.run(command, env=os.environ | settings, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Measures and prints the table."""
    print(f"CPython {sys.version.split()[0]}; microseconds that handlers add with {REQUESTS} requests")
    print(f"{'handler':<22} collecting   goal       off")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        added = {}
        for name in HANDLERS:
            takes = [[run(name, state, folder) for state in ("without", "off", "on")] for _ in range(PAIRS)]
            off = median(take[1] - take[0] for take in takes)
            added[name] = median(take[2] - take[0] for take in takes)
            if name == "execute_model":
                added[name] -= added["schedule"]
            print(f"{name:<22} {added[name]:>10.1f} {GOALS.get(name, ''):>6} {off:>9.2f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(measure(sys.argv[1], sys.argv[2]))
    else:
        main()
