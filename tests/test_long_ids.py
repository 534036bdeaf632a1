"""Ids of any length: each request has one row, whichever hook sees its id and however that records it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from capture import Capture
from program import Program

SERVE = """
import asyncio
from vllm.plugins import load_general_plugins
from vllm.v1.engine.async_llm import AsyncLLM

load_general_plugins()

async def ask(engine, request_id):
    async for _ in engine.generate([1, 2, 3, 4, 5], 4, request_id):
        pass

async def serve():
    engine = AsyncLLM("uni")
    await asyncio.gather(*(ask(engine, request_id) for request_id in IDS))
    await engine.shutdown()

asyncio.run(serve())
"""


def ids_of(capture: Capture) -> dict[str, set[str]]:
    """By name of the record, the ids in it, with what the engine puts behind them taken off."""
    found: dict[str, set[str]] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, str):
            base, dash, suffix = value.rpartition("-")
            is_engines = dash and len(suffix) == 8 and not set(suffix) - set("0123456789abcdef")
            found.setdefault(name, set()).add(base if is_engines else value)
        elif isinstance(value, list):
            for item in value:
                walk(name, item["rid"] if isinstance(item, dict) else item)

    for _, event in capture.events:
        for key in ("rid", "http_rid"):
            walk(event.name, event.attributes.get(key))
    return found


def rows(program: Program) -> list[dict[str, str]]:
    output = program.folder / "output"
    done = program.command("parse", "--input-path", str(program.prof_dir), "--output-path", str(output))
    assert done.returncode == 0, done.stderr
    assert "cut by an earlier" not in done.stdout
    with Path(output / "request.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("text_length", [40, 256, 65536])
def test_ids_of_10_kb_are_one_id_to_handlers_and_expressions_on_both_sides(
    program: Program, text_length: int
) -> None:
    requests = ["é" + "x" * 9_998 + last for last in "ab"]
    del program.environment["PROFILING_SYMBOLS_PATH"]  # the built-in pack
    program.configure(attribute_text_length=text_length, attribute_max_items=1)
    program.run(f"IDS = {requests}\n{SERVE}")
    found = ids_of(program.capture())
    # Handlers of the API server and the engine, and expressions of both.
    assert {"httpReq", "httpRes", "coreReq", "coreRes", "modelExec", "generate", "forward"} <= set(found)
    (both,) = {frozenset(ids) for ids in found.values()}
    assert len(both) == 2
    assert all(len(rid) < 300 for rid in both)
    table = rows(program)
    assert {row["http_rid"] for row in table} == both
    assert [(row["recv_token_size"], row["reply_token_size"]) for row in table] == [("5", "4")] * 2


def test_an_id_is_one_in_spans_links_and_lists_of_ones_own(program: Program) -> None:
    long = "y" * 10_000
    program.configure(attribute_max_items=2)
    program.run(f"""
        long = {long!r}
        with msprof_rs.span("one", rid=long):
            pass
        msprof_rs.event("several", rid=[long, "a", "b", long])
        msprof_rs.event("steps", rid=[{{"rid": long, "iter": 0}}, {{"rid": "a"}}, {{"rid": "b"}}])
        msprof_rs.event("other", prompt=long, names=["a", "b", "c"])
    """)
    capture = program.capture()
    (one,) = capture.named("one")
    rid = one.attributes["rid"]
    assert rid.startswith("yyy")
    assert rid not in (long, long[:256] + "…")
    (several,) = capture.named("several")
    assert several.attributes["rid"] == [rid, "a", "b", rid]
    (batch,) = capture.named("steps")
    assert [entry["rid"] for entry in batch.attributes["rid"]] == [rid, "a", "b"]
    (other,) = capture.named("other")
    assert other.attributes["prompt"] == long[:256] + "…"
    assert other.attributes["names"] == ["a", "b", "… and 1 more"]
