"""The example service: an asyncio server in the shape of vLLM, under a load that is the same each time.

    python examples/service/serve.py --requests 150 --concurrency 12 --report truth.json

The report is what the service itself counted and measured; tests compare the parsed tables with it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from load import Served, make_prompts, run_load
from vllm.plugins import load_general_plugins
from vllm.v1.engine import EngineStats
from vllm.v1.engine.async_llm import AsyncLLM


async def serve(
    requests: int, concurrency: int, seed: int, executor: str
) -> tuple[list[Served], EngineStats]:
    """Starts the engine, runs the load, stops the engine."""
    engine = AsyncLLM(executor)
    served = await run_load(engine, make_prompts(requests, seed), concurrency)
    return served, await engine.shutdown()


def report(served: list[Served], stats: EngineStats) -> dict[str, Any]:
    """Everything that is known about the run without a profiler."""
    return {
        "requests": [asdict(request) for request in served],
        "total_prompt_tokens": sum(request.prompt_tokens for request in served),
        "total_output_tokens": sum(request.output_tokens for request in served),
        "total_cached_tokens": sum(request.cached_tokens for request in served),
        "total_scheduled_tokens": stats.scheduled_tokens,
        "steps": stats.steps,
    }


def main() -> None:
    """Reads the command line, serves, prints what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=150, help="how many requests to send (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=12, help="how many at once (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another load (%(default)s)")
    parser.add_argument(
        "--executor", choices=("mp", "uni"), default="mp", help="worker apart, or in the engine"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the truth about the run as JSON")
    arguments = parser.parse_args()

    load_general_plugins()
    served, stats = asyncio.run(
        serve(arguments.requests, arguments.concurrency, arguments.seed, arguments.executor)
    )
    truth = report(served, stats)
    if arguments.report:
        arguments.report.write_text(json.dumps(truth, indent=1) + "\n")
    ttft = median(request.first_token - request.arrival for request in served) / 1e6
    latency = median(request.end - request.arrival for request in served) / 1e6
    print(
        f"served {len(served)} requests: {truth['total_prompt_tokens']} prompt tokens "
        f"({truth['total_cached_tokens']} of them cached), {truth['total_output_tokens']} output tokens, "
        f"{stats.scheduled_tokens} tokens in {stats.steps} steps; "
        f"as its clients measured: time to first token p50 {ttft:.1f} ms, latency p50 {latency:.1f} ms"
    )


if __name__ == "__main__":
    main()
