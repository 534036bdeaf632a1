"""`msprof-rs parse` and its sisters on captures of other tools; Perfetto, SQLite and DuckDB judge."""

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from old_capture import MS, START, Database, run, step
from perfetto_sql import NODE, WHY_NOT, TraceProcessor
from program import Program


def rows_of(trace: TraceProcessor, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in trace.query(sql)]


def ask_duckdb(sql: str) -> list[tuple[Any, ...]]:
    answer = duckdb.sql(sql)
    assert answer is not None
    return answer.fetchall()


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A request of three steps, with what surrounds it."""
    database = Database(tmp_path / "in" / "Trace_Service", dpRankId="0")
    waiting = {"scope#QueueName": "WAITING"}
    database.event(0, "Engine", "httpReq", rid="a")
    database.event(1, "Schedule", "Enqueue", rid="a", **{"QueueSize=": 1, **waiting})
    database.event(2.5, "Schedule", "Dequeue", rid=["a"], **{"QueueSize=": 0, **waiting})
    for iteration, start in enumerate((2.0, 10.0, 20.0)):
        steps = [step("a", iteration, 8 if iteration == 0 else 1)]
        database.span(start, start + 1, "Schedule", "batchFrameworkProcessing", rid=steps)
        blocks = {"TotalBlocks=": 10, "FreeBlocks=": 9 - iteration}
        database.event(start + 0.5, "Schedule.KVCache", "KVCacheStatus", **blocks)
        database.span(start + 2, start + 6, "Execute", "modelExec", rid=steps)
        database.span(start + 2.5, start + 5, "Execute", "forward", tid=2, rid=steps)
        database.event(start + 7, "Engine", "detokenize", rid=["a"])
    database.event(28, "Engine", "httpRes", rid="a", **{"recvTokenSize=": 8, "replyTokenSize=": 3})
    database.close()
    return tmp_path / "in"


def parse(session: Path, output: Path, *more: object) -> None:
    result = run("parse", "--input-path", session, "--output-path", output, "--timezone", "UTC", *more)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("has_msprof", [True, False])
def test_what_the_ascend_profiler_recorded_is_exported_where_its_tool_is(
    has_msprof: bool, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"ph": "X", "name": "MatMul", "pid": 7, "tid": 3, "ts": f"{START // 1000}.125", "dur": 2.5}
    profile = served / "PROF_000001"
    profile.mkdir()
    if has_msprof:
        tool = tmp_path / "tools" / "msprof"
        tool.parent.mkdir()
        tool.write_text(
            f"""#!/bin/sh -e
            [ "$1" = --export=on ]
            out="${{2#--output=}}/mindstudio_profiler_output"
            mkdir "$out"
            echo '{json.dumps([event])}' > "$out/msprof_1.json"
            """
        )
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    done = run("parse", "--input-path", served, "--output-path", tmp_path / "out", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert (f"{profile}: not exported" in done.stdout) != has_msprof
    events = json.loads((tmp_path / "out" / "chrome_tracing.json").read_text())
    assert [event["dur"] for event in events if event["name"] == "MatMul"] == [2.5] * has_msprof


def test_a_dashboards_questions_to_the_database_have_answers(served: Path, tmp_path: Path) -> None:
    parse(served, tmp_path, "--format", "db")
    with closing(sqlite3.connect(tmp_path / "profiler.db")) as database:

        def ask(sql: str) -> list[tuple[Any, ...]]:
            return database.execute(sql).fetchall()

        time = "substr(timestamp, 1, 10) || 'T' || substr(timestamp, 12, 8)"
        for table in ("first_token_latency", "prefill_gen_speed", "decode_gen_speed", "req_latency"):
            (first, *figures) = ask(f"SELECT {time}, avg, p99, p90, p50 FROM {table}")[0]
            assert first == "2023-11-14T22:13:20"
            assert all(figures), table
        assert ask("SELECT avg FROM first_token_latency") == [(9000.0,)]
        assert ask("SELECT p50 FROM req_latency") == [(28000.0,)]
        status = ask("SELECT WAITING, PENDING, RUNNING FROM request_status ORDER BY timestamp")
        assert status == [(1, None, None), (0, None, None)]
        usage = ask("SELECT kvcache_usage_rate, real_start_time FROM kvcache ORDER BY 2")
        assert usage[0] == (0.1, "2023-11-14 22:13:20:002500")
        sizes = ask("SELECT total_batch_size, prefill_batch_size FROM Batch_Size_curve")
        assert sizes == [(1.0, 1), (1.0, 0), (1.0, 0)]
        for (view,) in ask("SELECT name FROM sqlite_master WHERE type = 'view'"):
            ask(f"SELECT * FROM {view}")
        for name, view in ask("SELECT name, view_name FROM data_table"):
            assert len(ask(f"SELECT * FROM {name}")) == len(ask(f"SELECT * FROM {view}"))
        joined = "slice JOIN thread USING (track_id)"
        spans = ask(f"SELECT name, duration, thread.tid FROM {joined} WHERE name = 'forward'")
        assert spans == [("forward", 2_500_000, "Execute(2)")] * 3


@pytest.mark.skipif(not NODE, reason=WHY_NOT)
def test_perfetto_reads_what_other_tools_recorded(served: Path, tmp_path: Path) -> None:
    database = Database(served / "more", pid=300)
    # Coroutines of one thread overlap without being nested; what begins together is nested by its ends.
    for start, end in ((0, 10), (5, 15), (5, 12), (5, 30)):
        database.span(start, end, "Api", f"span {start}-{end}")
    database.close()
    parse(served, tmp_path, "--format", "perfetto")
    with TraceProcessor((tmp_path / "timeline.pftrace").read_bytes()) as trace:
        assert trace.errors() == []
        spans = rows_of(trace, "SELECT name, dur FROM slice WHERE name LIKE 'span%' ORDER BY name")
        assert [(name, duration // MS) for name, duration in spans] == [
            ("span 0-10", 10),
            ("span 5-12", 7),
            ("span 5-15", 10),
            ("span 5-30", 25),
        ]
        request = rows_of(
            trace,
            "SELECT s.name, dur, depth FROM slice s JOIN track t ON s.track_id = t.id WHERE t.name = 'a' "
            "ORDER BY ts, depth",
        )
        assert request == [
            ("request", 28 * MS, 0),
            ("queued", 1_500_000, 1),
            ("prefill", 5_500_000, 1),
            ("prefill step", 4 * MS, 2),
            ("decode", 18 * MS, 1),
            ("decode step", 4 * MS, 2),
            ("decode step", 4 * MS, 2),
        ]
        usage = rows_of(
            trace,
            "SELECT value FROM counter c JOIN counter_track t ON c.track_id = t.id "
            "WHERE t.name = 'KV cache in use' ORDER BY ts",
        )
        assert [round(value) for (value,) in usage] == [10, 20, 30]


def test_hosts_are_kept_apart_in_an_archive(served: Path, tmp_path: Path) -> None:
    other = Database(served / "more", host="other", pid=7)
    other.span(1, 2, "Execute", "modelExec", rid=[step("b", 0, 8)])
    other.close()
    parse(served, tmp_path, "--format", "perfetto")
    with tarfile.open(tmp_path / "timeline.tar") as archive:

        def content(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file
            return file.read()

        files = json.loads(content("perfetto_manifest.json"))["perfetto_manifest"]["files"]
        machines = {file["path"]: file.get("machine", {}).get("name") for file in files}
        assert machines == {"node.pftrace": "node", "other.pftrace": "other", "requests.pftrace": None}
        assert set(archive.getnames()) == {*machines, "perfetto_manifest.json"}
        if NODE:
            with TraceProcessor(content("other.pftrace")) as trace:
                spans = rows_of(trace, "SELECT name, dur FROM slice WHERE dur > 0")
                assert spans == [("modelExec", MS)]


def test_duckdb_reads_the_parquet_tables(served: Path, tmp_path: Path) -> None:
    parse(served, tmp_path, "--format", "parquet")
    # The example of docs/tables.md.
    rows = ask_duckdb(
        f"""
        SELECT host, pid, name, count(*) AS spans, sum(duration_ns) / 1e6 AS ms
        FROM read_parquet('{tmp_path}/tables/records/**/*.parquet', hive_partitioning = true)
        WHERE kind = 'span' GROUP BY ALL ORDER BY ms DESC
        """
    )
    assert rows == [
        ("node", 100, "modelExec", 3, 12.0),
        ("node", 100, "forward", 3, 7.5),
        ("node", 100, "batchFrameworkProcessing", 3, 3.0),
    ]
    columns = "rid, latency_ns, queue_ns, prefill_ns, decode_ns, host_ns"
    requests = ask_duckdb(f"SELECT {columns} FROM '{tmp_path}/tables/requests.parquet'")
    assert requests == [("a", 28 * MS, 1_500_000, 5_500_000, 18 * MS, 3 * MS)]


def test_old_captures_are_mended_and_damage_costs_only_itself(served: Path, tmp_path: Path) -> None:
    old = sqlite3.connect(served / "ms_service_old-5.db")
    old.executescript(
        "CREATE TABLE Meta (name TEXT, value TEXT);"
        "CREATE TABLE Mstx (message TEXT, flag INTEGER, markId INTEGER, timestamp INTEGER, "
        "endTimestamp INTEGER, pid INTEGER, tid INTEGER)"
    )
    for message in ("^name^:^decode^,^domain^:^Engine^,^rid^:^a^,", "nothing that could be mended"):
        old.execute("INSERT INTO Mstx VALUES (?, 2, 0, ?, ?, 5, 5)", (message, START, START + MS))
    old.commit()
    old.close()
    (served / "ms_service_broken-6.db").write_bytes(b"no database at all" * 100)
    result = run("parse", "--input-path", served, "--output-path", tmp_path, "--format", "csv")
    assert result.returncode == 3
    assert "ms_service_broken-6.db: " in result.stdout
    assert "1 record unreadable" in result.stdout
    assert (tmp_path / "request.csv").read_text().count("\n") == 2
    for command in (
        ("stats", served),
        ("query", served, "SELECT 1"),
        ("compare", served, served, "--output-path", tmp_path),
        ("split", "--input-path", served, "--output-path", tmp_path, "--decode-batch-size", 1),
        ("parse", "--input-path", served, "--output-path", tmp_path, "--span"),
    ):
        assert run(*command).returncode == 3, command


def test_damage_in_a_capture_costs_a_block_and_is_told_by_every_command(program: Program) -> None:
    program.configure(enable=1)
    program.run(
        """
        import msprof_rs
        for number in range(20_000):
            with msprof_rs.span("step", number=number):
                pass
        """
    )
    (file,) = program.prof_dir.rglob("*.pftrace")
    whole = file.read_bytes()
    assert len(whole) > 400_000
    assert run("stats", file.parent).returncode == 0
    middle = len(whole) // 2
    for damaged, place in (
        (whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :], "damaged at byte"),
        (whole[:middle] + whole[middle + 999 :], "damaged at byte"),
        (whole[:middle] + b"\n\x05hello" + whole[middle:], "damaged at byte"),
        (whole[: whole.rindex(b"\xffmsBlk\xfe") - 5], "its end is missing"),
    ):
        file.write_bytes(damaged)
        parsed = run("parse", "--input-path", file.parent, "--output-path", program.folder / "out")
        assert parsed.returncode == 3, parsed.stdout
        assert place in parsed.stdout
        stats = run("stats", file.parent, "--json")
        (row,) = json.loads(stats.stdout)
        assert stats.returncode == 3
        assert 15_000 < row["Instances"] <= 20_000


def test_torchs_traces_stand_beside_the_server(served: Path, tmp_path: Path) -> None:
    events = [{"ph": "X", "cat": "kernel", "name": "gemm", "pid": 100, "tid": 7, "ts": 4000.5, "dur": 2}]
    trace = {"traceEvents": events, "baseTimeNanoseconds": START}
    (served / "worker.1.pt.trace.json").write_text(json.dumps(trace))
    parse(served, tmp_path, "--format", "json")
    timeline = json.loads((tmp_path / "chrome_tracing.json").read_text())
    base = next(event for event in timeline if event["name"] == "clock_base")["args"]["unix_ns"]
    kernel = next(event for event in timeline if event["name"] == "gemm")
    assert (kernel["pid"], kernel["dur"]) == (100, 2.0)
    assert base + round(kernel["ts"] * 1000) == START + 4_000_500
    ends = [(event["ph"], event["name"]) for event in timeline if event.get("cat") == "Requests"]
    assert ends[:2] == [("b", "a"), ("e", "a")]
    assert ("b", "decode") in ends


def test_loads_of_experts_become_tables_and_pictures(served: Path, tmp_path: Path) -> None:
    experts = Database(served / "experts", pid=9)
    hot, routing = [[1, 2], [3, 4]], [[0, 1], [1, 0]]
    experts.event(1, "eplb_observe", "load", expert_hot=hot, rank=0, expert_routing=routing)
    experts.close()
    kernels = sqlite3.connect(served / "ascend_service_profiler_node-9.db")
    kernels.execute(
        'CREATE TABLE Kernel (type TEXT, name TEXT, start INTEGER, "end" INTEGER, deviceId INTEGER, '
        "streamId INTEGER, correlationId INTEGER)"
    )
    for number in range(4):
        begin = START + number * MS
        kernels.execute(
            "INSERT INTO Kernel VALUES ('K', 'GroupedMatmul', ?, ?, 0, 0, ?)", (begin, begin + 2000, number)
        )
    kernels.commit()
    kernels.close()
    parse(served, tmp_path, "--format", "csv")
    balance = (tmp_path / "ep_balance.csv").read_text().splitlines()
    assert (balance[:4], len(balance)) == (["9", "4.000", "4.000", "0.000"], 59)
    assert (tmp_path / "moe_analysis.csv").read_text().startswith("Dataset,Mean,CI_Lower,CI_Upper\n9,0.138,")
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "ep_balance.png",
        "moe_analysis.png",
        "node_balance_ratio.png",
        "node_eplb_0_summed_hot_map_by_expert.png",
        "node_eplb_0_summed_hot_map_by_model_expert.png",
        "node_eplb_0_summed_hot_map_by_rank.png",
    }


def test_stats_tell_spans_requests_and_gaps(served: Path) -> None:
    (first, *_) = json.loads(run("stats", served, "--json").stdout)
    assert (first["Name"], first["Instances"], first["Total ms"]) == ("Execute/modelExec", 3, 12.0)
    (request,) = json.loads(run("stats", served, "--report", "requests", "--json").stdout)
    assert (request["Request"], request["Latency ms"], request["Decode ms"]) == ("a", 28.0, 18.0)
    gaps = json.loads(run("stats", served, "--report", "gaps", "--json").stdout)
    assert [gap["Idle ms"] for gap in gaps] == [6.0, 4.0]
    assert "scheduler" in gaps[0]["Waiting for"]
    assert list(gaps[0]) == ["Idle ms", "Start ms", "Waiting for", "Waiting ms", "Engine"]
    explained = " ".join(run("stats", "--help").stdout.split())
    for column in ("Start ms: ", "Waiting for: ", "Waiting ms: "):
        assert column in explained


def test_a_table_of_times_shows_nanoseconds_and_tells_of_spans_without_an_end(program: Program) -> None:
    program.hook("[]")
    code = """
    with msprof_rs.span("short"): pass
    is_open = msprof_rs.span("open")
    is_open.__enter__()
    """
    program.run(code)
    for verb in ("stats", "parse"):
        paths = ("--input-path", program.prof_dir, "--output-path", program.folder / "out")
        told = run(verb, *((program.prof_dir,) if verb == "stats" else (*paths, "--span", "short")))
        assert told.returncode == 0, told.stderr
        assert "left out: 1 span without an end" in told.stderr
    (short,) = json.loads(run("stats", program.prof_dir, "--json").stdout)
    (line,) = [line for line in run("stats", program.prof_dir).stdout.splitlines() if "short" in line]
    assert float(line.split()[3]) == pytest.approx(short["Avg ms"], rel=0.01)


def test_a_question_in_sql_is_answered_with_and_without_a_database(served: Path, tmp_path: Path) -> None:
    sql = "SELECT name, count(*) AS n FROM slice GROUP BY name ORDER BY name LIMIT 1"
    parse(served, tmp_path / "out", "--format", "db")
    for folder in (served, tmp_path / "out", tmp_path / "out" / "profiler.db"):
        assert run("query", folder, sql, "--csv").stdout.splitlines() == ["name,n", "Dequeue,1"]
    wrong = run("query", served, "SELECT * FROM missing")
    assert wrong.returncode == 1
    assert "no such table" in wrong.stderr
    assert run("query", tmp_path / "out", "DELETE FROM slice").returncode == 1


def test_compare_says_what_is_larger_than_the_noise(tmp_path: Path) -> None:
    for name, length in (("slower", 8), ("faster", 4)):
        database = Database(tmp_path / name)
        for number in range(60):
            start = number * 100
            database.span(start, start + length + number % 2, "Execute", "modelExec")
            database.span(start, start + 1 + number % 3, "Execute", "sample")
            if number < 30:
                database.span(start, start + length, "Execute", "prepare")
        database.close()
    folders = (tmp_path / "slower", tmp_path / "faster")
    compared = run("compare", *folders, "--output-path", tmp_path / "compared", "--json")
    (model, sample, prepare) = json.loads(compared.stdout)
    assert (model["Difference ms"], model["Real"]) == (4.0, "yes")
    assert model["99 % from"] > 2.5
    assert (prepare["Difference ms"], prepare["99 % from"], prepare["Real"]) == (4.0, None, "too short")
    assert (sample["Difference ms"], sample["Real"]) == (0.0, "noise")
    table = (tmp_path / "compared" / "span_comparation_result.csv").read_text().splitlines()
    assert table[1].startswith("modelExec,4500.00,4500.00,5000.00,8500.00")


def test_split_takes_batches_apart(served: Path, tmp_path: Path) -> None:
    paths = ("--input-path", served, "--output-path", tmp_path)
    split = run("split", *paths, "--decode-batch-size", 1, "--decode-number", 2, "--prefill-rid", "a")
    assert split.returncode == 0, split.stderr
    names = [line.split(",")[0] for line in (tmp_path / "decode.csv").read_text().splitlines()]
    steps = ["batchFrameworkProcessing", "Between-batchFrameworkProcessing-modelExec", "modelExec", "forward"]
    assert names == ["name", *steps, "AllTime"]
    assert (tmp_path / "prefill.csv").read_text().splitlines()[1].endswith(",a")
    none = run("split", *paths, "--prefill-batch-size", 9)
    assert none.returncode == 1
    assert "most have 1 (1 batches)" in none.stderr


def test_analyze_sums_up(served: Path, tmp_path: Path) -> None:
    assert run("analyze", "--input-path", served, "--output-path", tmp_path).returncode == 0
    service = (tmp_path / "service_summary.csv").read_text().splitlines()
    assert service[1:] == [
        "total_input_token_num,8",
        "total_generated_token_num,3",
        "generate_token_speed (token/s),107.14285714",
        "generate_all_token_speed (token/s),392.85714286",
    ]
    summary = dict(line.split(",", 1) for line in (tmp_path / "request_summary.csv").read_text().splitlines())
    assert summary["subsequent_token_latency (ms)"].startswith("9,10,8,9")
    assert summary["exec_time (ms)"].startswith("12,12,12")


def test_single_spans_go_to_files_of_their_own(served: Path, tmp_path: Path) -> None:
    result = run("parse", "--input-path", served, "--output-path", tmp_path, "--span", "modelExec", "missing")
    assert result.returncode == 0
    assert 'no span "missing"' in result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["modelExec", "a", "4.00", "4.00", "4.00", "4.00", "4.00", "4.00", "12.00"] in lines
    bubbles = lines[lines.index(["Bubble", "Statistics", "(ms)"]) :]
    assert bubbles[3] == ["a", "5.50", "6.50", "6.50", "7.30", "7.48", "7.50", "13.00"]
    files = sorted(path.name for path in (tmp_path / "span_info").iterdir())
    assert files == ["batchFrameworkProcessing.csv", "forward.csv", "modelExec.csv"]
    rows = (tmp_path / "span_info" / "modelExec.csv").read_text().splitlines()
    assert rows[0] == "span_name,start_datetime,end_datetime,during_time(ms),hostname,pid"
    assert rows[1].endswith(",4.000,node,100")
    assert not (tmp_path / "request.csv").exists()
