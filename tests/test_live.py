"""What the commands tell of recorders that run, and have them do."""

from __future__ import annotations

import json
import signal
from typing import Any

from capture import Capture
from perfetto_sql import NODE, TraceProcessor
from program import PATIENCE, Program, wait_until

ADD = "- {symbol: 'shapes:add', domain: Test, attributes: [{name: a, expr: a}]}"


def command(program: Program, *words: str, exit_code: int = 0) -> str:
    outcome = program.command(*words)
    assert outcome.returncode == exit_code, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


def status(program: Program, pid: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = json.loads(command(program, "status", "--json"))
    return next((row for row in rows if row["pid"] == pid), {})


def test_status_start_and_stop(program: Program) -> None:
    program.hook(ADD)
    program.configure(enable=0)
    process = program.start(
        """
        import shapes
        for line in iter(input, "end"):
            for i in range(int(line)): shapes.add(i)
            print("done", flush=True)
        """
    )

    def call(count: int) -> None:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{count}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"

    wait_until(lambda: status(program, process.pid).get("state") == "idle", "the page")
    command(program, "start", str(process.pid))
    call(500)
    wait_until(lambda: status(program, process.pid)["events"] == 1000, "the events' figure")
    row = status(program, process.pid)
    (session,) = program.sessions()
    assert row["state"] == "recording"
    assert (row["session"], row["config"]) == (str(session), str(program.config))
    assert row["dropped"] == 0
    assert row["bytes"] > 0
    table = command(program, "status")
    assert str(process.pid) in table
    assert str(session) in table
    command(program, "stop", str(session))
    assert status(program, process.pid)["state"] == "idle"
    call(7)  # not recorded
    process.communicate("end\n", timeout=PATIENCE)
    assert status(program, process.pid) == {}
    assert len(Capture(session).named("add")) == 500
    assert "is no process" in command(program, "stop", "no-such-thing", exit_code=1)


def test_recover_completes_the_capture_of_a_killed_process(program: Program) -> None:
    program.hook(ADD)
    process = program.start(
        "import shapes\nfor i in range(20000): shapes.add(i)\nprint('ready', flush=True); input()"
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    (session,) = program.sessions()
    assert "still runs" in command(program, "recover", str(session))
    process.send_signal(signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert list(session.glob("*.ring"))
    assert "events added" in command(program, "recover", str(session))
    assert {path.suffix for path in session.iterdir()} == {".pftrace"}
    assert [span.attributes["a"] for span in Capture(session).named("add")] == list(range(20000))
    assert "nothing to do" in command(program, "recover", str(session))
    if NODE is not None:
        (capture,) = session.glob("*.pftrace")
        with TraceProcessor(capture.read_bytes()) as processor:
            (row,) = processor.query("select count(*) as n from slice where name = 'add' and dur >= 0")
            assert row["n"] == 20000
