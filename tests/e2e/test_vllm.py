"""A person's whole way with a real vLLM: serve, switch on, send requests, switch off, parse."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
from environment import VLLM, Environment, skip_loudly
from install_vllm import DEFAULT_VERSION
from server import WARMUPS, Server, ServerError

from capture import Capture
from perfetto_sql import NODE, WHY_NOT, TraceProcessor
from program import Program, wait_until

pytestmark = pytest.mark.skipif(
    VLLM != DEFAULT_VERSION,
    reason="older versions have a worker in the engine, and another benchmark; test_pack.py has them",
)

REQUESTS = 200
TAKES = ("one", "two", "three", "four", "five")
"""Benchmarks in the first period of collection, by the prefix of their requests."""
PROCESSES = 3
"""API server, engine core, worker."""


class Run:
    """One server with the profiler: what the benchmark saw, and what was captured and parsed."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self.program = Program(folder / "profiler")
        self.program.configure(enable=0)
        settings = {"SERVICE_PROF_CONFIG_PATH": str(self.program.config)}
        with Server(environment, folder / "server", settings) as server:
            self.log = server.log
            server.benchmark(20, "off")
            assert self.program.sessions() == [], "captured something while switched off"
            self.benchmarks = self._collect(server, REQUESTS, TAKES)
            self._collect(server, 20, ("second",))
            self.sessions = self.program.sessions()
            self._fly(server)
        self.capture = Capture(self.sessions[0])
        self.output = folder / "output"
        parser = [environment.program("msprof-rs"), "parse", "--input-path", str(self.sessions[0])]
        self.parsed = subprocess.run(
            [*parser, "--output-path", str(self.output)], capture_output=True, text=True
        )

    def _collect(self, server: Server, requests: int, prefixes: tuple[str, ...]) -> dict[str, Any]:
        """One period of collection around benchmarks; gives what they report."""
        before = len(self.program.sessions())
        self.program.switch(1)
        wait_until(
            lambda: (
                [len(list(path.glob("*.pftrace"))) for path in self.program.sessions()[before:]]
                == [PROCESSES]
            ),
            "collection in all processes",
        )
        figures = {prefix: server.benchmark(requests, prefix) for prefix in prefixes}
        self.program.switch(0)
        session = self.program.sessions()[before]
        wait_until(
            lambda: all(path.suffix == ".pftrace" for path in session.iterdir()), "the end of collection"
        )
        return figures

    def _fly(self, server: Server) -> None:
        """Flight mode by the commands: start, status, dump, stop."""
        config = str(self.program.config)
        self.program.configure(enable=0, mode="flight")
        self.command("start", config)
        server.benchmark(20, "flight")
        self.status = json.loads(self.command("status", "--json"))
        self.dump = Capture(Path(self.command("dump", config).strip()))
        self.command("stop", config)

    def command(self, *words: str) -> str:
        """What `msprof-rs` prints."""
        outcome = self.program.command(*words)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        return outcome.stdout

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of one of the tables."""
        with (self.output / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(vllm_once: Environment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(vllm_once, tmp_path_factory.mktemp(f"vllm-{vllm_once.python_version}"))


@pytest.fixture(scope="module")
def unset_server(vllm_once: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the plugin installed and the variable unset. If not even vLLM alone runs here, skips."""
    folder = tmp_path_factory.mktemp(f"unset-{vllm_once.python_version}")
    try:
        with Server(vllm_once, folder, {"HOME": str(folder)}) as server:
            yield server
    except ServerError as error:
        vllm_once.uninstall()
        try:
            with Server(vllm_once, folder / "alone"):
                pass
        except ServerError:
            skip_loudly(f"vLLM does not run on this machine, even without the profiler: {error}")
        raise


def test_with_the_variable_unset_nothing_of_ours_is_in_any_process(unset_server: Server) -> None:
    pids = unset_server.pids()
    assert len(pids) == PROCESSES
    for pid in pids:
        # Without the native library there can be no hook and no thread.
        assert "/msprof_rs/_core." not in Path(f"/proc/{pid}/maps").read_text()
        threads = [task.read_text().strip() for task in Path(f"/proc/{pid}/task").glob("*/comm")]
        assert not [name for name in threads if "msprof" in name]
    assert not list(unset_server.folder.rglob("*.pftrace"))
    assert not (unset_server.folder / ".ms_server_profiler").exists()


def test_nothing_was_lost_and_the_parser_is_content(run: Run) -> None:
    assert run.parsed.returncode == 0, run.parsed.stdout + run.parsed.stderr
    assert run.capture.dropped == 0
    assert not [
        line for line in run.log.read_text().splitlines() if "[msprof_rs]" in line and "ERROR" in line
    ]


def test_each_period_of_collection_has_a_folder_of_its_own(run: Run) -> None:
    assert len(run.sessions) == 2
    second = Capture(run.sessions[1])
    requests = {event.attributes["http_rid"] for event in second.named("httpReq")}
    assert requests >= {f"cmpl-second-{i}-0" for i in range(20)}
    assert len(requests) == 20 + WARMUPS


def test_a_dump_of_a_flight_recorder_has_the_newest_requests_of_all_processes(run: Run) -> None:
    ours = [row for row in run.status if row["config"] == str(run.program.config)]
    assert [row["state"] for row in ours] == ["flight"] * PROCESSES
    assert all(row["dropped"] == 0 and row["bytes"] < 100_000 for row in ours)
    assert len(run.dump.files) == PROCESSES
    requests = {event.attributes["http_rid"] for event in run.dump.named("httpReq")}
    assert requests >= {f"cmpl-flight-{i}-0" for i in range(20)}
    assert len({span.pid for span in run.dump.spans}) == PROCESSES


def rows_of(run: Run, prefix: str) -> list[dict[str, str]]:
    """The rows of one benchmark's requests, in the order in which it numbered them."""
    rows = {row["http_rid"]: row for row in run.table("request.csv")}
    return [rows[f"cmpl-{prefix}-{i}-0"] for i in range(REQUESTS)]


def test_request_csv_has_exactly_the_requests_with_their_tokens(run: Run) -> None:
    assert len(run.table("request.csv")) == len(TAKES) * (REQUESTS + WARMUPS)
    for prefix, benchmark in run.benchmarks.items():
        rows = rows_of(run, prefix)
        assert [float(row["recv_token_size"]) for row in rows] == benchmark["input_lens"]
        assert [float(row["reply_token_size"]) for row in rows] == benchmark["output_lens"]


@pytest.mark.parametrize(
    ("column", "figures"), [("first_token_latency(ms)", "ttfts"), ("execution_time(ms)", "latencies")]
)
def test_mean_times_are_those_of_the_benchmark(run: Run, column: str, figures: str) -> None:
    """The client shares two cores with the server, and stalls for up to seconds now and then: that is seen
    by the requests that it has under way, and by no server, and moves its means by any amount. So the middle
    one of the requests' differences counts, which stalls hardly move, and of the takes the best one.
    """
    differences = {}
    for take in TAKES:
        parsed = [float(row[column]) for row in rows_of(run, take)]
        reported = [seconds * 1000 for seconds in run.benchmarks[take][figures]]
        assert mean(parsed) < mean(reported)
        late = median(client - server for client, server in zip(reported, parsed, strict=True))
        print(
            f"{column}, {take}: means {mean(reported):.1f} / {mean(parsed):.1f}, client later by {late:.1f}"
        )
        differences[take] = late - max(5, median(reported) / 10)
    assert min(differences.values()) < 0


def test_batch_csv_has_the_tokens_that_were_computed(run: Run) -> None:
    steps = [row for row in run.table("batch.csv") if row["name"] == "batchFrameworkProcessing"]
    scheduled = sum(float(row["total_scheduled_tokens"]) for row in steps)
    requests = run.table("request.csv")
    tokens = sum(float(row["recv_token_size"]) + float(row["reply_token_size"]) for row in requests)
    cached = sum(round(float(row["cache_hit_rate"]) * float(row["recv_token_size"])) for row in requests)
    # The last token of a request is not fed back.
    assert scheduled == tokens - cached - len(requests)


def test_processes_and_threads_have_names_that_people_know(run: Run) -> None:
    assert sorted(run.capture.process_names.values()) == ["API server", "EngineCore", "Worker"]
    assert all(run.capture.thread_names.values())


@pytest.mark.skipif(not NODE, reason=WHY_NOT)
def test_the_files_joined_by_cat_load_in_the_real_trace_processor(run: Run) -> None:
    timeline = json.loads((run.output / "chrome_tracing.json").read_text())
    with TraceProcessor(b"".join(map(Path.read_bytes, run.capture.files))) as processor:
        assert processor.errors() == []
        (row,) = processor.query("select count(*) as n from slice where category != 'Meta'")
        # The engine waits for requests when collection ends: that span has no end, which is told by -1.
        (counted,) = processor.query("select count(*) as n from slice where category != 'Meta' and dur != 0")
    assert row["n"] == len(run.capture.spans) + len(run.capture.instants)
    spans = int(counted["n"] or 0)
    assert f"{spans:,} spans" in run.parsed.stdout
    # The timeline leaves out the steps that scheduled nothing.
    empty = [span for span in run.capture.named("batchFrameworkProcessing") if "rid" not in span.attributes]
    assert spans - len(empty) == sum(event["ph"] == "X" for event in timeline)
    with TraceProcessor((run.output / "chrome_tracing.json").read_bytes()) as processor:
        assert processor.errors() == []


@pytest.mark.skipif(not NODE, reason=WHY_NOT)
def test_each_requests_track_agrees_with_its_row(run: Run) -> None:
    rows = {row["http_rid"]: row for row in run.table("request.csv")}
    with TraceProcessor((run.output / "timeline.pftrace").read_bytes()) as processor:
        assert processor.errors() == []
        spans = processor.query(
            "select t.name as rid, s.name as name, dur from slice s join track t on s.track_id = t.id "
            "where s.name in ('request', 'queued', 'prefill', 'decode')"
        )
        (gaps,) = processor.query("select count(*) as n from slice where name glob 'idle*'")
    requests = {span["rid"]: span["dur"] for span in spans if span["name"] == "request"}
    assert requests.keys() == {rid for rid, row in rows.items() if row["execution_time(ms)"]}
    for rid, duration in requests.items():
        assert float(rows[str(rid)]["execution_time(ms)"]) == pytest.approx(
            float(duration or 0) / 1e6, abs=1e-6
        )
    phases = [span for span in spans if span["name"] != "request"]
    assert len(phases) == 3 * len(requests), "each request was queued, read and answered"
    assert int(gaps["n"] or 0) > 0


def test_the_database_has_what_the_tables_have(run: Run) -> None:
    with closing(sqlite3.connect(run.output / "profiler.db")) as database:
        for table, name in (("request", "request.csv"), ("batch", "batch.csv"), ("forward", "forward.csv")):
            (count,) = database.execute(f"select count(*) from {table}").fetchone()
            assert count == len(list(run.table(name)))
        (latency,) = database.execute("select sum(execution_time) from request").fetchone()
    assert latency == pytest.approx(
        sum(float(row["execution_time(ms)"] or 0) for row in run.table("request.csv"))
    )
