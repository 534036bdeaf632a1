"""What `msprof-rs parse` and its sisters leave in the folder of their outputs.

All of it or nothing, of one session; and whatever they did not write stays.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from old_capture import MS, START, Database, run, step
from program import wait_until

ALL = ("--format", "csv", "db", "json", "perfetto", "parquet")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


def server(folder: Path, rid: str = "a") -> Path:
    """A session of one request."""
    database = Database(folder)
    database.event(0, "Engine", "httpReq", rid=rid)
    database.event(0.5, "Schedule", "Enqueue", **{"rid": rid, "QueueSize=": 1, "scope#QueueName": "WAITING"})
    database.span(2, 3, "Schedule", "batchFrameworkProcessing", rid=[step(rid, 0, 8)])
    database.span(4, 8, "Execute", "modelExec", rid=[step(rid, 0, 8)], batch_type="Prefill")
    database.span(5, 7, "Execute", "forward", rid=[step(rid, 0, 8)])
    database.event(9, "Engine", "httpRes", **{"rid": rid, "recvTokenSize=": 8, "replyTokenSize=": 1})
    database.close()
    return folder


def program(folder: Path) -> Path:
    """A session in which nothing was served."""
    database = Database(folder)
    database.span(1, 2, "Shop", "price_of")
    database.close()
    return folder


def parse(session: Path, output: Path, *options: object) -> subprocess.CompletedProcess[str]:
    result = run("parse", "--input-path", session, "--output-path", output, *options)
    assert result.returncode == 0, result.stderr
    return result


def command(session: Path, output: Path, *options: str) -> list[str]:
    """A `parse` for those who start it by themselves."""
    paths = ["--input-path", str(session), "--output-path", str(output)]
    return [sys.executable, "-m", "msprof_rs", "parse", *paths, *options]


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def shown(folder: Path) -> set[str]:
    """What a user sees of a folder."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_folder_holds_the_outputs_of_one_session(tmp_path: Path) -> None:
    output = tmp_path / "out"
    parse(server(tmp_path / "first"), output, *ALL)
    parse(program(tmp_path / "second"), output, "--format", "csv")
    assert shown(output) == set()
    query = run("query", output, "SELECT * FROM slice")
    assert query.returncode == 1, "the first session's database must not answer for the second"


def test_outputs_of_one_session_in_several_forms_add_up(tmp_path: Path) -> None:
    session, output = server(tmp_path / "in"), tmp_path / "out"
    parse(session, output, "--format", "csv")
    parse(session, output, "--format", "json", "--gzip")
    run("split", "--input-path", session, "--output-path", output, "--prefill-batch-size", 1)
    run("split", "--input-path", session, "--output-path", output, "--decode-batch-size", 1)
    run("analyze", "--input-path", session, "--output-path", output, "--format", "csv")
    parse(session, output, "--format", "json")
    expected = {"request.csv", "chrome_tracing.json", "prefill.csv", "request_summary.csv"}
    assert expected <= shown(output)
    assert "chrome_tracing.json.gz" not in shown(output), "it would be the same in another form"


def test_what_parse_did_not_write_stays(tmp_path: Path) -> None:
    session, output = server(tmp_path / "in"), tmp_path / "out"
    parse(session, output, *ALL)
    theirs = {
        "notes.txt": b"mine",
        "tables/thesis.txt": b"my thesis",
        "tables/records/host=node/pid=100/extra.txt": b"mine too",
        "former.csv": b"1",
    }
    for name, content in theirs.items():
        (output / name).write_bytes(content)
    parse(program(tmp_path / "second"), output, *ALL)
    assert theirs.items() <= contents(output).items()
    assert not (output / "tables" / "forwards").exists(), "nothing is left of the first session's"


def test_a_file_of_an_outputs_name_that_parse_did_not_write_is_moved_and_named(tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "tables").mkdir(parents=True)
    # As an earlier release left them, which kept no list.
    theirs = {"request.csv": b"a,b\n", "profiler.db": b"mine", "tables/requests.parquet": b"old"}
    for name, content in theirs.items():
        (output / name).write_bytes(content)
    result = parse(server(tmp_path / "in"), output, "--format", "csv")
    assert contents(output / "former") == theirs
    assert "former: moved here" in result.stderr
    assert "profiler.db, request.csv, tables/requests.parquet" in result.stderr
    assert (output / "request.csv").read_text().startswith("http_rid,")
    # One that was changed is the user's as well.
    (output / "request.csv").write_text("corrected")
    parse(tmp_path / "in", output, "--format", "csv")
    assert contents(output / "former-2") == {"request.csv": b"corrected"}
    assert parse(tmp_path / "in", output, "--format", "csv").stderr == ""


def test_the_input_is_never_removed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    parse(server(tmp_path / "in"), output, "--format", "perfetto")
    timeline = (output / "timeline.pftrace").read_bytes()
    parse(output, output, "--format", "csv")
    assert (output / "timeline.pftrace").read_bytes() == timeline
    assert (output / "request.csv").exists() or (output / "batch.csv").exists()
    parse(output, output, "--format", "perfetto")
    assert (output / "former" / "timeline.pftrace").read_bytes() == timeline


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    session, output, elsewhere = server(tmp_path / "in"), tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (elsewhere / "victim").write_text("theirs")
    for name in ("request.csv", "profiler.db", "timeline.pftrace", "decode.csv"):
        (output / name).symlink_to(elsewhere / "victim")
    for name in ("tables", "span_info"):
        (output / name).symlink_to(elsewhere)
    parse(session, output, *ALL)
    parse(session, output, "--span")
    assert contents(elsewhere) == {"victim": b"theirs"}
    assert not (output / "request.csv").is_symlink()
    assert (output / "tables" / "requests.parquet").exists()
    assert (output / "former" / "request.csv").is_symlink()


@pytest.mark.parametrize("kind", ["folder", "link", "fifo", "text"])
def test_what_bears_the_name_of_the_list_and_is_none_is_kept_and_named(tmp_path: Path, kind: str) -> None:
    session, output = server(tmp_path / "in"), tmp_path / "out"
    output.mkdir()
    theirs = output / ".msprof_rs.json"
    if kind == "folder":
        theirs.mkdir()
    elif kind == "link":
        theirs.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(theirs)
    else:
        theirs.write_text("mine")
    before = theirs.lstat()
    result = parse(session, output, "--format", "csv")
    after = (output / "former" / ".msprof_rs.json").lstat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert ".msprof_rs.json: not used: " in result.stderr
    assert parse(session, output, "--format", "csv").stderr == ""


def test_outputs_have_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    session = server(tmp_path / "in")
    for umask, expected in ((0o027, 0o640), (0o077, 0o600)):
        output = tmp_path / f"out-{umask:o}"
        subprocess.run(command(session, output, *ALL), check=True, capture_output=True, umask=umask)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in output.rglob("*") if path.is_file()}
        assert modes == {expected}


def slow(folder: Path) -> Path:
    """A session that takes a while to read."""
    database = server(folder) / "ms_service_slow-7.db"
    rows = Database(folder, "slow", 7)
    steps = json.dumps({"type": 2, "rid": [step(f"r{number}", 3, 1) for number in range(20)]})
    rows.connection.executemany(
        "INSERT INTO slice (timestamp, name, cat, args, end_time, pid, tid) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((START + n * MS, "modelExec", "Execute", steps, START + n * MS + 500, 1, 1) for n in range(60_000)),
    )
    rows.close()
    assert database.exists()
    return folder


def scratch(folder: Path) -> list[Path]:
    return list(folder.glob(".msprof-rs-*/*")) if folder.exists() else []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_parse_that_a_signal_ends_leaves_the_folder_as_it_was(
    tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out"
    parse(server(tmp_path / "first"), output, *ALL)
    (output / "notes.txt").write_text("mine")
    before = contents(output)
    session = slow(tmp_path / "in")
    with subprocess.Popen(command(session, output, *ALL), preexec_fn=no_core) as process:
        wait_until(lambda: any(path.name != "not-whole-yet" for path in scratch(output)), "a file is begun")
        process.send_signal(number)
        assert process.wait(60) == -number
    assert contents(output) == before
    assert not scratch(output)


def no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def test_a_hangup_that_is_ignored_ends_no_parse(tmp_path: Path) -> None:
    output = tmp_path / "out"
    ignoring = ["nohup", *command(slow(tmp_path / "in"), output, "--format", "csv")]
    with subprocess.Popen(ignoring, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(scratch(output)), "it is working")
        process.send_signal(signal.SIGHUP)
        assert process.wait(120) == 0
    assert (output / "batch.csv").exists()


def test_what_a_killed_parse_left_goes_with_the_next(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with subprocess.Popen(command(slow(tmp_path / "in"), output)) as process:
        wait_until(lambda: any(path.name != "not-whole-yet" for path in scratch(output)), "a file is begun")
        process.kill()
    assert scratch(output)
    parse(program(tmp_path / "second"), output, "--format", "json")
    assert not scratch(output)
    assert shown(output) == {"chrome_tracing.json"}


def test_two_that_write_into_one_folder_at_once_leave_the_outputs_of_one(tmp_path: Path) -> None:
    sessions = {rid: server(tmp_path / rid, rid) for rid in ("one", "two")}
    alone = {}
    for rid, session in sessions.items():
        parse(session, tmp_path / f"alone-{rid}", "--format", "csv", "parquet")
        alone[rid] = contents(tmp_path / f"alone-{rid}")
        del alone[rid][".msprof_rs.json"]
    for attempt in range(4):
        output = tmp_path / f"out-{attempt}"
        processes = [
            subprocess.Popen(
                command(session, output, "--format", "csv", "parquet"), stdout=subprocess.DEVNULL
            )
            for session in sessions.values()
        ]
        assert [process.wait(120) for process in processes] == [0, 0]
        left = contents(output)
        del left[".msprof_rs.json"]
        assert left in alone.values()


def test_a_failing_parse_leaves_the_former_outputs(tmp_path: Path) -> None:
    output = tmp_path / "out"
    parse(server(tmp_path / "first"), output, *ALL)
    before = contents(output)
    resource_limit = 200_000

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource_limit, resource_limit))

    failed = subprocess.run(
        command(slow(tmp_path / "in"), output, "--format", "json", "parquet"),
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert failed.returncode == 1
    assert ".msprof-rs-" not in failed.stderr, "an error names the place that was meant"
    assert contents(output) == before


def test_files_that_are_named_after_data_lie_in_their_folder(tmp_path: Path) -> None:
    names = ["x" * 300, "../../escaped", "a/b", "a_b", ".hidden", "tab\there", "中" * 200]
    database = Database(tmp_path / "in")
    for number, name in enumerate(names):
        database.span(number, number + 0.5, "Shop", name)
    database.close()
    output = tmp_path / "out"
    parse(tmp_path / "in", output, "--span", *names)
    files = sorted((output / "span_info").iterdir())
    assert len(files) == len(names)
    assert all(path.is_file() and not path.name.startswith(".") for path in files)
    assert {path.name for path in files} >= {"a_b.csv", "a_b-2.csv", "_._.._escaped.csv", "tab_here.csv"}
    assert shown(tmp_path) == {"in", "out"}


def test_a_question_to_a_table_that_there_is_not_is_answered_by_those_that_there_are(tmp_path: Path) -> None:
    wrong = run("query", server(tmp_path / "in"), "SELECT * FROM requests")
    assert wrong.returncode == 1
    assert "no such table: requests" in wrong.stderr
    assert "There are " in wrong.stderr
    assert " request_data," in wrong.stderr


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    session = server(tmp_path / "in")
    lines = [line for line in parse(session, tmp_path / "out").stdout.splitlines() if "coordinator" in line]
    assert len(lines) == 1
    assert lines[0].startswith("Missing  ")
    assert "(`-v` says why)" in lines[0]
    reasons = parse(session, tmp_path / "out", "-v").stdout
    assert "         coordinator.csv: " in reasons
    program_alone = parse(program(tmp_path / "program"), tmp_path / "out").stdout
    assert "coordinator" not in program_alone
    assert "ep_balance" not in program_alone
