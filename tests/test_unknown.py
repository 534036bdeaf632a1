"""What a capture does not tell is absent in every output, and never 0."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from old_capture import Database, run

AS_BEFORE = {("request.csv", "queue_wait_time(ms)"), ("request.csv", "first_token_latency(ms)")}
"""Where readers of msServiceProfiler's tables expect 0 for what is not known."""

NUMBERS = {"batch", "batch_id"}
"""Columns that number their rows from 0 on."""

Cell = tuple[str, str, object]
"""The table, the column, and what stands there."""


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """A server of which little was recorded: each record leaves out all that it may."""
    database = Database(tmp_path / "in" / "Trace_Service")
    database.event(1, "Engine", "httpReq", rid="whole")
    database.event(5, "Engine", "httpRes", rid="whole")
    database.event(2, "Engine", "httpReq", rid="open")
    database.event(3, "Schedule", "Enqueue", rid="queued", **{"scope#QueueName": "WAITING"})
    database.event(3, "Engine", "httpRes", rid="old", **{"replyTokenSize=": 3})
    database.event(4, "PDSplit", "sendReqToD", rid="open")
    database.span(4, 5, "Schedule", "batchFrameworkProcessing", rid=["whole", "open"])
    database.span(6, 8, "Execute", "modelRunnerExec", rid=["whole", "open"])
    database.event(4.5, "KVCache", "KVCacheStatus", **{"TotalBlocks=": 10})
    database.close()
    return tmp_path / "in"


def cells_of_csv(folder: Path) -> Iterator[Cell]:
    for path in folder.rglob("*.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for column, value in row.items():
                    # A summary has one row for each figure.
                    yield path.name, row.get("Metric", column), value


def cells_of_database(path: Path) -> Iterator[Cell]:
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if table in ("slice", "thread", "process", "counter", "flow", "data_table", "sqlite_sequence"):
                continue  # records as they were, and what describes the tables
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for column in row.keys():  # noqa: SIM118 - iterating a row gives its values
                    yield f"{path.name}:{table}", column, row[column]


def cells_of_parquet(folder: Path) -> Iterator[Cell]:
    for path in (folder / "tables").rglob("*.parquet"):
        if "records" in path.parts:
            continue  # as they were: events have no duration
        answer: Any = duckdb.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning = false)")
        for row in answer.fetchall():
            for column, value in zip(answer.columns, row, strict=True):
                yield str(path.relative_to(folder)), column, value


def cells_of_stats(session: Path) -> Iterator[Cell]:
    told = run("stats", session, "--report", "requests", "--json")
    for row in json.loads(told.stdout):
        for column, value in row.items():
            yield "stats requests", column, value


def test_what_nobody_has_told_is_absent_and_not_0(silent: Path, tmp_path: Path) -> None:
    for command in ("parse", "analyze"):
        more = ["--format", "csv", "db", "parquet"] if command == "parse" else []
        done = run(command, "--input-path", silent, "--output-path", tmp_path / command, *more)
        assert done.returncode == 0, done.stdout + done.stderr
    parsed = tmp_path / "parse"
    cells = [
        *cells_of_csv(parsed),
        *cells_of_csv(tmp_path / "analyze"),
        *cells_of_database(parsed / "profiler.db"),
        *cells_of_parquet(parsed),
        *cells_of_stats(silent),
    ]
    for table in ("request_summary.csv", "batch.csv", "pd_split_communication.csv", "stats requests"):
        assert any(cell[0] == table for cell in cells), f"{table} is not there"

    def is_zero(value: object) -> bool:
        try:
            return float(str(value)) == 0
        except ValueError:
            return False

    zeros = {(table, column, str(value)) for table, column, value in cells if is_zero(value)}
    unexpected = {it for it in zeros if it[:2] not in AS_BEFORE and it[1] not in NUMBERS}
    assert not unexpected
