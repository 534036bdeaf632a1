"""What the profiler costs a real server: paired runs of vLLM's benchmark. A report, no verdict.

    PYTHONPATH=tests python tests/e2e/throughput.py [--python 3.12] [--pairs 5] [--requests 600] [--off]

Two servers run side by side and take turns, so that both meet the same machine. The rate is that of 16
requests at once of median latency: the client stalls for a second now and then, and a mean would tell of
that.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from environment import Environment
from server import CONCURRENCY, OUTPUT_TOKENS, Server

from program import Program


def main() -> None:
    """Reads the command line, measures, prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default="3.12", help="version of CPython (%(default)s)")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each server (%(default)s)")
    parser.add_argument("--requests", type=int, default=600, help="requests of a run (%(default)s)")
    parser.add_argument("--off", action="store_true", help="collection switched off instead of on")
    arguments = parser.parse_args()

    environment = Environment(arguments.python)
    environment.install_wheel("release")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = Program(folder / "profiler")
        program.configure(enable=int(not arguments.off))
        with (
            # An empty list of plugins: vLLM then loads none.
            Server(environment, folder / "without", {"VLLM_PLUGINS": ""}) as without,
            Server(
                environment, folder / "with", {"SERVICE_PROF_CONFIG_PATH": str(program.config)}
            ) as with_us,
        ):
            report(without, with_us, arguments.pairs, arguments.requests)


def report(without: Server, with_us: Server, pairs: int, requests: int) -> None:
    """Runs the pairs, every second one in the other order, after one that does not count."""
    for server in (without, with_us):
        server.benchmark(requests, "warmup")
    ratios: list[float] = []
    print("pair   without      with     ratio   (output tokens/s)")
    for pair in range(pairs):
        order = (without, with_us) if pair % 2 == 0 else (with_us, without)
        rate = {server: steady_rate(server.benchmark(requests, f"pair{pair}")) for server in order}
        ratios.append(rate[with_us] / rate[without])
        print(f"{pair + 1:>4} {rate[without]:>9.0f} {rate[with_us]:>9.0f} {ratios[-1]:>9.3f}", flush=True)
    print(f"median of the ratios: {median(ratios):.3f}")


def steady_rate(figures: dict[str, Any]) -> float:
    """Output tokens per second while nobody stalls."""
    latencies: list[float] = figures["latencies"]
    return CONCURRENCY * OUTPUT_TOKENS / median(latencies)


if __name__ == "__main__":
    main()
