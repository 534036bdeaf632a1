"""However a process ends, what it recorded is in the file."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from perfetto_sql import NODE, WHY_NOT, TraceProcessor
from program import PATIENCE, Program

SYMBOL = "- {symbol: 'shapes:add', domain: Test, attributes: [{name: a, expr: a}]}"


# Whoever starts the tests in the background may have them ignore this signal.
INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
os.kill(os.getpid(), signal.SIGINT)
signal.pause()
"""


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("import sys; sys.exit(4)", 4),
        ("raise ValueError('unhandled')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM); signal.pause()", -signal.SIGTERM),
        (INTERRUPTED, -signal.SIGINT),
        ("msprof_rs.shutdown(); import os; os._exit(5)", 5),
        ("msprof_rs.shutdown(); msprof_rs.shutdown()", 0),
    ],
)
def test_every_event_is_in_the_file(program: Program, end: str, exit_code: int) -> None:
    program.hook(SYMBOL)
    program.run(f"import shapes\nfor i in range(1000): shapes.add(i)\n{end}", exit_code)
    capture = program.capture()
    assert [span.attributes["a"] for span in capture.spans] == list(range(1000))
    assert all(span.duration is not None for span in capture.spans)
    assert capture.dropped == 0


def test_a_signal_from_outside_ends_the_process_as_before(program: Program) -> None:
    program.hook(SYMBOL)
    process = program.start("import processes; processes.call_add_and_wait_for_a_signal()")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    assert len(program.capture().spans) == 1


def test_the_programs_own_signal_handler_stays(program: Program) -> None:
    program.hook(SYMBOL)
    process = program.start(
        """
        import signal, sys
        import processes
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        processes.call_add_and_wait_for_a_signal()
        """
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 7
    assert len(program.capture().spans) == 1


@pytest.mark.parametrize("calls", [10, 100_000])
def test_what_a_killed_process_had_recorded_is_parsed_all_the_same(program: Program, calls: int) -> None:
    program.hook(SYMBOL)
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    code = f"import shapes\nfor i in range({calls}): shapes.add(i)\n{kill}"
    program.run(code, -signal.SIGKILL)
    (session,) = program.sessions()
    msprof_rs = str(Path(sys.executable).with_name("msprof-rs"))
    command = [msprof_rs, "parse", "--input-path", str(session), "--output-path", str(session / "out")]
    summary = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"{calls:,} spans" in summary
    timeline = json.loads((session / "out" / "chrome_tracing.json").read_text())
    assert [event["args"]["a"] for event in timeline if event["name"] == "add"] == list(range(calls))


def test_spans_that_began_in_the_file_and_ended_in_the_ring_of_a_killed_process_are_whole(
    program: Program,
) -> None:
    program.run(
        """
        import glob, os, signal, time
        spans = [msprof_rs.span("nested", n=n) for n in range(3)]
        lanes = [msprof_rs.Profiler(msprof_rs.Level.INFO).span_start("apart") for _ in range(3)]
        for span in spans: span.__enter__()
        for n in range(3): msprof_rs.event("begun")
        def is_written():
            return any(b"begun" in open(path, "rb").read() for path in glob.glob("captures/*/*.pftrace"))
        while not is_written(): time.sleep(.001)
        lanes[1].span_end()
        spans[0].__exit__(None, None, None)
        for span in spans[:0:-1]: span.__exit__(None, None, None)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        -signal.SIGKILL,
    )
    (session,) = program.sessions()
    done = program.command("parse", "--input-path", str(session), "--output-path", str(session / "out"))
    assert "passed over" not in done.stdout
    timeline = json.loads((session / "out" / "chrome_tracing.json").read_text())
    ended = [e for e in timeline if e.get("ph") == "X" and "unfinished" not in json.dumps(e)]
    assert sorted(event["args"]["n"] for event in ended if event["name"] == "nested") == [0, 1, 2]
    assert "6 spans" in done.stdout
    assert "2 spans without an end" in done.stdout


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_child_of_multiprocessing_has_a_file_of_its_own(program: Program, method: str) -> None:
    program.hook(SYMBOL)
    program.run(f"import processes; processes.call_add_in_a_child({method!r})")
    capture = program.capture()
    spans = capture.named("add")
    assert sorted(span.attributes["a"] for span in spans) == [1, 2]
    assert len({span.pid for span in spans}) == 2
    assert len(program.sessions()) == 1


def test_a_call_that_runs_when_the_process_ends_is_an_unfinished_span(program: Program) -> None:
    program.hook(SYMBOL.replace("shapes:add", "processes:call_add_and_wait_for_a_signal").replace(
        ", attributes: [{name: a, expr: a}]", ""
    ))  # fmt: skip
    process = program.start("import processes; processes.call_add_and_wait_for_a_signal()")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=PATIENCE)
    (span,) = program.capture().spans
    assert span.duration is None or "error" in span.attributes


def test_after_a_run_nothing_is_left_but_traces(program: Program) -> None:
    program.hook(SYMBOL)
    program.run("import shapes; shapes.add(1)")
    (session,) = program.sessions()
    assert [path.suffix for path in session.rglob("*") if path.is_file()] == [".pftrace"]


@pytest.mark.skipif(not NODE, reason=WHY_NOT)
def test_captures_of_several_processes_joined_by_cat_load_in_the_real_trace_processor(
    program: Program,
) -> None:
    program.hook(SYMBOL)
    program.run(
        "import processes; processes.call_add_in_threads(2, 100); processes.call_add_in_a_child('spawn')"
    )
    capture = program.capture()
    with TraceProcessor(b"".join(map(Path.read_bytes, capture.files))) as processor:
        assert processor.errors() == []
        rows = processor.query("select name, count(*) as n from slice where category = 'Test' group by name")
    assert rows == [{"name": "add", "n": 202}]
    assert len(capture.spans) == 202


def test_where_a_file_can_not_grow_the_capture_goes_on_in_further_ones(program: Program) -> None:
    program.hook(SYMBOL)
    program.configure(ring_mb=1)  # rings are files too
    out, err = program.run(
        """
        import glob, itertools, resource, shapes, time
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
        for called in itertools.count(1):
            shapes.add(called)
            if called % 1000 == 0:
                time.sleep(0.003)
                if len(glob.glob("**/*.pftrace*", recursive=True)) > 2: break
        print(called)
        """
    )
    assert "File too large" not in err
    capture = program.capture()
    numbers = [span.attributes["a"] for span in capture.spans if span.duration is not None]
    assert numbers == sorted(set(numbers))
    # A span that begins in one file and ends in the next is in neither, alone.
    assert int(out) - 2 * len(capture.files) <= len(numbers) + capture.dropped <= int(out)
    assert len(capture.files) > 2


def test_captures_are_for_their_user_alone(program: Program) -> None:
    program.hook(SYMBOL)
    program.run("import shapes; shapes.add(1)")
    (session,) = program.sessions()
    assert stat.S_IMODE(session.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in session.iterdir()] == [0o600]


FLUSHED = """
out = open("{path}", "w")

class Base:
    def kept(self): out.write("kept\\\\n")

class Orders(Base):
    def take(self): out.write("taken\\\\n")
    @staticmethod
    def count(): out.write("counted\\\\n")
    @property
    def size(self): return out.write("measured\\\\n")

def handle(): out.write("handled\\\\n")
"""


@pytest.mark.parametrize(
    "symbol", ["Orders.take", "Orders.count", "Orders.size", "Orders.kept", "Base.kept", "handle"]
)
@pytest.mark.parametrize("enable", [0, 1])
def test_what_a_hooked_modules_globals_hold_is_flushed_at_the_end(
    hooked: Program, symbol: str, enable: int
) -> None:
    path = hooked.folder / "orders.txt"
    (hooked.folder / "orders.py").write_text(FLUSHED.replace("{path}", str(path)).replace("\\\\", "\\"))
    hooked.configure(enable=enable)
    hooked.hook(f"- {{symbol: 'orders:{symbol}'}}")
    calls = ["Orders().take", "Orders.count", "Orders().kept", "handle"]
    _, err = hooked.run("import orders\n" + "\n".join(f"orders.{call}()" for call in calls))
    assert "not hooked" not in err
    assert path.read_text() == "taken\ncounted\nkept\nhandled\n"


def test_a_pipe_that_nobody_reads_holds_up_neither_the_program_nor_its_end(program: Program) -> None:
    with program.start(
        """
        import fcntl, os, sys
        status = fcntl.fcntl(2, fcntl.F_GETFL)
        fcntl.fcntl(2, fcntl.F_SETFL, status | os.O_NONBLOCK)
        for size in (4096, 1):
            try:
                while True: os.write(2, b"." * size)
            except BlockingIOError: pass
        fcntl.fcntl(2, fcntl.F_SETFL, status)
        msprof_rs.stop()
        msprof_rs.start()
        sys.exit(3)
        """
    ) as process:
        assert process.wait(PATIENCE) == 3
        assert process.stderr is not None
        err = process.stderr.read()
    assert err.endswith("." * 4096)
    assert "collection stopped" not in err


def test_lines_that_nobody_read_are_counted_once_somebody_does(program: Program) -> None:
    _, err = program.run(
        """
        import fcntl, os
        to_us, theirs = os.pipe()
        own = os.dup(2)
        os.dup2(theirs, 2)
        os.set_blocking(theirs, False)
        try:
            while True: os.write(theirs, b"." * 4096)
        except BlockingIOError: pass
        os.set_blocking(theirs, True)
        msprof_rs.stop()
        os.dup2(own, 2)
        msprof_rs.start()
        """
    )
    assert "lines missing here, since nobody read them: 1" in err
