"""What the commands tell of recorders that run, and have them do."""

from __future__ import annotations

import json
import re
import signal
import subprocess
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


def started(program: Program, code: str = "input()") -> subprocess.Popen[str]:
    """A process whose page is there."""
    process = program.start(code)
    wait_until(lambda: status(program, process.pid), "the page")
    return process


def test_start_and_stop_say_what_processes_have_followed(program: Program) -> None:
    program.hook("[]")
    process = started(program)
    wait_until(lambda: status(program, process.pid)["state"] == "recording", "the start")
    process.send_signal(signal.SIGSTOP)
    told = command(program, "stop", "--wait", "1", str(program.config), exit_code=1)
    assert "is off" not in told
    assert f"not all processes have followed: process {process.pid} (" in told
    process.send_signal(signal.SIGCONT)
    assert "is off" in command(program, "stop", str(program.config))
    assert "is on" in command(program, "start", str(program.config))
    process.communicate("\n", timeout=PATIENCE)


def test_a_switch_without_processes_says_that_it_is_only_in_the_file(program: Program) -> None:
    told = command(program, "start", str(program.config))
    assert '"enable" is 1' in told
    assert "No process uses it yet" in told
    assert "is on" not in told
    assert "is off" not in command(program, "stop", str(program.config))
    assert "no process of yours runs with" in command(program, "dump", str(program.config), exit_code=1)


def test_a_start_that_can_not_be_says_why(program: Program) -> None:
    program.hook("[]")
    program.configure(enable=0)
    process = started(program)
    program.prof_dir.write_text("no folder")
    told = command(program, "start", str(process.pid), exit_code=1)
    assert "is on" not in told
    assert "no session folder in" in told
    assert "no session folder in" in command(program, "status")
    command(program, "stop", str(process.pid))
    assert "no session folder in" not in command(program, "status")
    process.communicate("\n", timeout=PATIENCE)


def test_a_server_is_found_by_its_config_file_under_whatever_name(program: Program) -> None:
    program.hook("[]")
    process = started(program)
    link = program.folder / "link.json"
    link.symlink_to(program.config)
    assert "is off" in command(program, "stop", str(link))
    assert status(program, process.pid)["state"] == "idle"
    process.communicate("\n", timeout=PATIENCE)


def test_a_dump_says_whether_collection_or_flight_mode_is_missing(program: Program) -> None:
    program.hook("[]")
    process = started(program)
    assert '"mode": "flight"' in command(program, "dump", str(process.pid), exit_code=1)
    command(program, "stop", str(process.pid))
    assert "collection is off" in command(program, "dump", str(process.pid), exit_code=1)
    process.communicate("\n", timeout=PATIENCE)


def test_status_shows_a_process_by_the_role_that_its_capture_has(program: Program) -> None:
    program.hook("[]")
    process = started(
        program,
        """
        def rename(title):
            "As servers do: in the memory of the arguments, where the system looks for the command."
            with open("/proc/self/stat") as stat:
                start, end = map(int, stat.read().rsplit(")")[-1].split()[45:47])
            with open("/proc/self/mem", "r+b", buffering=0) as memory:
                memory.seek(start)
                memory.write(title.ljust(end - start, b"\\0"))
        input()
        rename(b"VLLM::EngineCore")
        input()
        """,
    )
    assert status(program, process.pid)["role"] == "python -c"
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    wait_until(lambda: status(program, process.pid)["role"] == "VLLM::EngineCore", "the title")
    process.communicate("\n", timeout=PATIENCE)
    assert "VLLM::EngineCore" in program.capture().process_names.values()


def test_status_says_that_vllm_was_told_to_leave_the_plugin_out(program: Program) -> None:
    program.environment |= {"VLLM_PLUGINS": "another"}
    process = subprocess.Popen(
        [program.python, "-c", "input()", "vllm"], env=program.environment, stdin=subprocess.PIPE, text=True
    )
    told = command(program, "status")
    assert re.search(rf'VLLM_PLUGINS="another" leaves msprof_rs out.*\b{process.pid}\b', told)
    process.communicate("\n", timeout=PATIENCE)


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


def test_a_capture_is_whole_when_stop_returns(program: Program) -> None:
    out, _ = program.run(
        """
        import glob, threading

        def record():
            for number in range(2_000):
                msprof_rs.event("number", number=number)

        for session in range(10):
            msprof_rs.start()
            threads = [threading.Thread(target=record) for _ in range(16)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            print(msprof_rs.stop(), glob.glob("captures/*/*.ring"))
        """
    )
    assert out == "True []\n" * 10
