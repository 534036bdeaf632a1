"""From the built-in handlers to the rows of `analyze`: one for each request, whatever its client does."""

from __future__ import annotations

import csv

import engine_stub
from program import Program

SERVE = """
import asyncio
from types import SimpleNamespace as Params
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCore

llm = AsyncLLM(EngineCore())

def ask(name, length, max_tokens, n=1):
    return llm.add_request(name, [length] * length, Params(max_tokens=max_tokens, n=n))

def serve():
    while llm.core.scheduler.requests:
        llm.step()

async def main():
    await ask("a", 5, 3)
    await ask("a", 6, 4)
    await ask("c", 7, 2, n=2)
    gone = await ask("gone", 8, 9)
    llm.step(); llm.step()
    await llm.abort(gone.request_id)
    serve()
    await ask("a", 9, 5)
    serve()

asyncio.run(main())
"""


def test_who_hangs_up_retries_or_wants_several_answers_has_a_row_for_each_request(program: Program) -> None:
    folder = engine_stub.write(program.folder / "package", "0.32.0")
    del program.environment["PROFILING_SYMBOLS_PATH"]  # the built-in pack
    _, err = program.run(SERVE, PYTHONPATH=str(folder))
    assert "handler failed" not in err
    output = program.folder / "output"
    done = program.command("analyze", "--input-path", str(program.prof_dir), "--output-path", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    with (output / "request.csv").open(newline="") as file:
        rows = {row["http_rid"]: row for row in csv.DictReader(file)}
    tokens = {name: (row["recv_token_size"], row["reply_token_size"]) for name, row in rows.items()}
    assert tokens == {
        "a": ("5", "3"),
        "a#2": ("6", "4"),
        "0_c": ("7", "2"),
        "1_c": ("7", "2"),
        "gone": ("8", "2"),
        "a#3": ("9", "5"),
    }
    assert all(float(row["execution_time(ms)"]) > 0 for row in rows.values())
    assert all(float(row["first_token_latency(ms)"]) > 0 for row in rows.values())
