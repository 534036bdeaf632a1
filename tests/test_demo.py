"""The demo from end to end: the tables hold what the service itself counted and measured."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import pytest

from capture import Capture
from perfetto_sql import NODE, WHY_NOT, TraceProcessor

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"


class Demo(NamedTuple):
    folder: Path
    stdout: str
    truth: dict[str, Any]
    capture: Capture

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / "output" / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(
        [sys.executable, str(DEMO), str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    truth = json.loads((folder / "truth.json").read_text())
    return Demo(folder, done.stdout, truth, Capture(folder / "captures"))


def test_nothing_was_lost_and_every_process_left_a_capture(demo: Demo) -> None:
    assert len(demo.capture.files) == 3, "API server, engine core, worker"
    assert demo.capture.dropped == 0
    assert all(span.duration is not None for span in demo.capture.spans)
    assert all(demo.capture.process_names.values())
    assert all(demo.capture.thread_names.values())


def test_each_request_has_its_row_with_the_right_tokens(demo: Demo) -> None:
    rows = {row["http_rid"]: row for row in demo.table("request.csv")}
    assert {
        rid: (float(row["recv_token_size"]), float(row["reply_token_size"])) for rid, row in rows.items()
    } == {
        request["request_id"]: (request["prompt_tokens"], request["output_tokens"])
        for request in demo.truth["requests"]
    }


@pytest.mark.parametrize(
    ("column", "until"), [("first_token_latency(ms)", "first_token"), ("execution_time(ms)", "end")]
)
def test_times_are_those_that_the_clients_measured(demo: Demo, column: str, until: str) -> None:
    parsed = mean(float(row[column]) for row in demo.table("request.csv"))
    measured = mean(request[until] - request["arrival"] for request in demo.truth["requests"]) / 1e6
    assert parsed == pytest.approx(measured, rel=0.1, abs=5)


def test_the_batches_hold_every_token_that_was_computed(demo: Demo) -> None:
    steps = [row for row in demo.table("batch.csv") if row["name"] == "batchFrameworkProcessing"]
    assert len(steps) == demo.truth["steps"]
    assert sum(float(row["total_scheduled_tokens"]) for row in steps) == demo.truth["total_scheduled_tokens"]


def test_the_cache_hits_are_those_of_the_service(demo: Demo) -> None:
    cached = {request["request_id"]: request["cached_tokens"] for request in demo.truth["requests"]}
    prompts = {request["request_id"]: request["prompt_tokens"] for request in demo.truth["requests"]}
    for row in demo.table("request.csv"):
        rid = row["http_rid"]
        assert float(row["cache_hit_rate"]) == pytest.approx(cached[rid] / prompts[rid], abs=1e-3)


def test_the_blocks_of_the_cache_add_up(demo: Demo) -> None:
    rows = demo.table("kvcache.csv")
    assert rows
    for row in rows:
        if row["total_blocks"]:
            assert float(row["used_blocks"]) + float(row["free_blocks"]) == float(row["total_blocks"])


def test_the_timeline_is_an_array_of_events_in_order_of_the_spec(demo: Demo) -> None:
    events = json.loads((demo.folder / "output" / "chrome_tracing.json").read_text())
    assert isinstance(events, list)
    spans = [event for event in events if event["ph"] == "X"]
    # A scheduling step that schedules nothing is in the capture, but not shown.
    empty = [s for s in demo.capture.named("batchFrameworkProcessing") if "rid" not in s.attributes]
    assert len(spans) == len(demo.capture.spans) - len(empty)
    flows = {event["cat"] for event in events if event["ph"] == "s"}
    assert flows == {request["request_id"] for request in demo.truth["requests"]}


def test_the_summary_answers_the_first_five_questions(demo: Demo) -> None:
    summary = demo.stdout.lower()
    for word in ("requests", "first token", "latency", "tokens/s", "idle", "150 rows", "request.csv"):
        assert word in summary, f"{word!r} is not in\n{demo.stdout}"


@pytest.mark.skipif(not NODE, reason=WHY_NOT)
def test_captures_and_timeline_load_in_the_real_trace_processor(demo: Demo) -> None:
    with TraceProcessor(b"".join(map(Path.read_bytes, demo.capture.files))) as processor:
        assert processor.errors() == []
        (row,) = processor.query("select count(*) as n from slice where category != 'Meta'")
        assert row["n"] == len(demo.capture.spans) + len(demo.capture.instants)
    with TraceProcessor((demo.folder / "output" / "chrome_tracing.json").read_bytes()) as processor:
        assert processor.errors() == []
        (row,) = processor.query("select count(*) as n from slice where name = 'batchFrameworkProcessing'")
        assert row["n"] == demo.truth["steps"]
