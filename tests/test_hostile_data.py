"""What captures, databases and questions say is shown, and obeyed by no terminal, spreadsheet or database."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from program import Program

START = 1_700_000_000_000_000_000
MS = 1_000_000
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202eevil\x9b31m\nforged line\r\t"
FORMULA = "=HYPERLINK(1)"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "msprof_rs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def capture(folder: Path, name: str, rid: str, schema: str = "") -> Path:
    """A capture of msServiceProfiler: a request of this id, and a span of this name."""
    folder.mkdir(parents=True)
    rows = [
        (START, START, "httpReq", "Request", {"rid": rid, "type": 0, "recvTokenSize=": 3}),
        (START, START + 5 * MS, name, "Engine", {"rid": rid, "type": 2}),
        (START + 9 * MS, START + 9 * MS, "httpRes", "Request", {"rid": rid, "type": 0, "replyTokenSize=": 4}),
    ]
    with closing(sqlite3.connect(folder / "ms_service_node-100.db")) as connection:
        connection.executescript(
            "CREATE TABLE Meta (name TEXT, value TEXT, slice TEXT);"
            "INSERT INTO Meta VALUES ('hostname', 'node', '');"
            "CREATE TABLE slice (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER, end_time INTEGER,"
            "name TEXT, cat TEXT, args TEXT, pid INTEGER, tid INTEGER);" + schema
        )
        for start, end, what, domain, args in rows:
            connection.execute(
                "INSERT INTO slice (timestamp, end_time, name, cat, args, pid, tid) "
                "VALUES (?, ?, ?, ?, ?, 100, 1)",
                (start, end, what, domain, json.dumps(args)),
            )
        connection.commit()
    return folder


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_no_name_or_id_steers_the_terminal(tmp_path: Path) -> None:
    session = capture(tmp_path / "session", HOSTILE, HOSTILE)
    output = tmp_path / HOSTILE.replace("\n", "")
    for arguments in (
        ("parse", "--input-path", session, "--output-path", output),
        ("stats", session),
        ("stats", session, "--report", "spans,domains,processes,requests,gaps"),
        ("stats", session, "--json"),
        ("stats", session, "--csv"),
        ("query", output, "SELECT * FROM slice"),
        ("query", output, "SELECT name FROM slice", "--json"),
        ("query", output, f"SELECT 1 AS '{HOSTILE}'"),
        ("query", output, f"SELECT x FROM '{HOSTILE}'"),
        ("compare", session, session, "--output-path", tmp_path / "compared"),
        ("parse", "--input-path", session, "--output-path", output, "--span", HOSTILE, "nothing" + HOSTILE),
        ("recover", output),
        ("stop", HOSTILE),
        ("parse", "--input-path", tmp_path / HOSTILE),
    ):
        outcome = run(*arguments)
        shown = outcome.stdout + outcome.stderr
        assert shown, (arguments, shown)
        assert not STEERING.search(shown), (arguments, shown)
        assert "\nforged line" not in shown, (arguments, shown)
    names = json.loads(run("query", output, "SELECT name FROM slice", "--json").stdout)
    assert HOSTILE in {row["name"] for row in names}, "JSON says the same in other words"


def test_a_symbol_file_steers_no_terminal_through_check_and_the_log(program: Program) -> None:
    quoted = json.dumps(HOSTILE)
    program.symbols.write_text(
        f"- symbol: {quoted}\n- symbol: shapes:add\n  {quoted}: 1\n  level: {quoted}\n"
        f"  attributes: [{{name: {quoted}, expr: {json.dumps('a | ' + HOSTILE)}}}]\n"
    )
    program.configure(mode=HOSTILE, **{HOSTILE: 1})
    _, err = program.run("import shapes; shapes.add(1)")
    checked = [
        program.command("check", "--symbols", str(program.symbols), *form)
        for form in ((), ("--all",), ("--json",))
    ]
    for shown in (err, *(outcome.stdout + outcome.stderr for outcome in checked)):
        assert "u001b" in shown, shown
        assert not STEERING.search(shown), shown
        assert "\nforged line" not in shown


def test_a_spreadsheet_runs_no_cell_unless_one_asks_for_raw_texts(tmp_path: Path) -> None:
    session = capture(tmp_path / "session", FORMULA, FORMULA)
    for raw, expected in (((), "'" + FORMULA), (("--raw-csv",), FORMULA)):
        output = tmp_path / f"output{len(raw)}"
        assert run("analyze", "--input-path", session, "--output-path", output, *raw).returncode == 0
        rows = table((output / "request.csv").read_text())
        assert [row[0] for row in rows] == ["http_rid", expected]
        assert [rows[1][column] for column in (2, 3)] == ["3", "4"], "numbers stay numbers"
        spans = table(run("stats", session, "--csv", "--report", "requests", *raw).stdout)
        assert spans[1][-1] == expected
        sql = f"SELECT '{FORMULA}' AS a, -5 AS b, -0.5 AS c, '-5' AS d, '-' AS e, '@x' AS f"
        answer = table(run("query", output, sql, "--csv", *raw).stdout)[1]
        assert answer == [expected, "-5", "-0.5", "-5", "-", "@x" if raw else "'@x"]


def test_long_and_strange_names_make_files_in_the_folder(tmp_path: Path) -> None:
    name = "../../" + "n" * 300
    session = capture(tmp_path / "session", name, "r")
    output = tmp_path / "output"
    outcome = run("parse", "--input-path", session, "--output-path", output, "--span", name)
    assert outcome.returncode == 0, outcome.stderr
    files = list((output / "span_info").iterdir())
    assert any(file.name.endswith("nnn.csv") for file in files), files
    assert {path.name for path in tmp_path.iterdir()} == {"session", "output"}


@pytest.mark.parametrize("from_captures", [False, True])
def test_a_question_writes_nothing(tmp_path: Path, from_captures: bool) -> None:
    session = capture(tmp_path / "session", "n", "r")
    asked = session
    if not from_captures:
        asked = tmp_path / "output"
        assert run("parse", "--input-path", session, "--output-path", asked, "--format", "db").returncode == 0
    before = sorted(tmp_path.rglob("*"))
    for sql in (
        f"VACUUM INTO '{tmp_path}/evil.db'",
        f"ATTACH '{tmp_path}/evil.db' AS evil",
        "PRAGMA journal_mode = WAL",
        "DELETE FROM slice",
        "CREATE TEMP TABLE t AS SELECT 1",
        "SELECT load_extension('/lib/x.so')",
    ):
        outcome = run("query", asked, sql)
        assert outcome.returncode == 1, (sql, outcome)
        assert not outcome.stdout, (sql, outcome)
        assert "reads and does nothing else" in outcome.stderr or "load_extension" in sql, outcome
    assert sorted(tmp_path.rglob("*")) == before
    assert run("query", asked, "SELECT count(*) FROM slice").returncode == 0


def test_a_question_without_end_is_given_up_and_an_answer_without_measure_too(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    sqlite3.connect(database).close()
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    outcome = run("query", database, f"{numbers} SELECT count(*) FROM n", "--time-limit", "1")
    assert outcome.returncode == 1, outcome
    assert "--time-limit" in outcome.stderr, outcome
    outcome = run("query", database, f"{numbers} SELECT i, printf('%.*c', 1000000, 'x') FROM n")
    assert outcome.returncode == 1, outcome
    assert "more than 256 MB" in outcome.stderr, outcome


def test_views_of_a_capture_are_not_asked(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    session = capture(
        tmp_path / "session",
        "n",
        "r",
        f"DROP TABLE Meta; CREATE TABLE Other (name TEXT, slice TEXT);"
        f"CREATE VIEW Meta AS {endless} SELECT i AS name, i AS value, '' AS slice FROM n;",
    )
    outcome = run("stats", session)
    assert outcome.returncode == 1, outcome
    assert "neither a table slice" in outcome.stderr, outcome


def test_a_packed_trace_of_one_endless_name_is_told_and_costs_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "rank0.1700.pt.trace.json.gz"
    with gzip.open(file, "wb", compresslevel=6) as out:
        out.write(b'{"traceEvents": [{"ph": "X", "name": "whole", "pid": 1, "tid": 1, "ts": 1, "dur": 2},')
        out.write(b'{"ph": "X", "ts": 1, "dur": 1, "pid": 1, "tid": 1, "name": "')
        for _ in range(64):
            out.write(b"x" * (1 << 20))
        out.write(b'"}]}')
    limited = f"ulimit -v {4 << 20}; exec {sys.executable} -m msprof_rs parse --input-path {tmp_path}"
    command = ["sh", "-c", f"{limited} --output-path {tmp_path / 'output'} --format csv"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert outcome.returncode == 3, outcome
    assert "more than 16 MB" in outcome.stdout, outcome.stdout
    assert "1 span" in outcome.stdout
