"""SIGTERM does to a process what it would do without the profiler, whatever the process makes of it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from pathlib import Path

import pytest

from program import PATIENCE, Program, wait_until

SYMBOL = "- {symbol: 'shapes:add', domain: Test, attributes: [{name: a, expr: a}]}"

UNSHARE = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
NAMESPACE = [*UNSHARE, "--pid", "--fork"]


def can_unshare() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=PATIENCE).returncode == 0
    except FileNotFoundError:
        return False


needs_namespace = pytest.mark.skipif(
    not can_unshare(), reason="NOT TESTED: the first process of a container; this user can't make namespaces"
)


def run_under(prefix: list[str], program: Program, code: str) -> str:
    """Runs it to its end, which has to be a good one; gives what it wrote."""
    command = [*prefix, program.python, "-c", "import msprof_rs\n" + code]
    run = subprocess.run(
        command, env=program.environment, cwd=program.folder, capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, f"exit code {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def numbers(program: Program) -> list[int]:
    """The arguments of the calls that were recorded."""
    spans = program.capture().spans
    assert all(span.duration is not None for span in spans)
    return sorted(span.attributes["a"] for span in spans)


@needs_namespace
def test_the_first_process_of_a_container_runs_and_records_on(program: Program) -> None:
    program.hook(SYMBOL)
    code = """
import os, signal, shapes
assert os.getpid() == 1
shapes.add(1)
os.kill(1, signal.SIGTERM)
shapes.add(2)
assert msprof_rs.is_enabled()
"""
    run_under(NAMESPACE, program, code)
    assert numbers(program) == [1, 2]


@needs_namespace
def test_the_first_process_of_a_container_has_the_handlers_that_it_installs(program: Program) -> None:
    program.hook(SYMBOL)
    code = """
import os, signal, shapes
seen = []
signal.signal(signal.SIGTERM, lambda *_: seen.append(shapes.add(1)))
os.kill(1, signal.SIGTERM)
assert len(seen) == 1
signal.signal(signal.SIGTERM, signal.SIG_DFL)
os.kill(1, signal.SIGTERM)
assert len(seen) == 1 and msprof_rs.is_enabled()
shapes.add(2)
"""
    run_under(NAMESPACE, program, code)
    assert numbers(program) == [1, 2]


@needs_namespace
def test_a_child_of_the_first_process_dies_and_loses_nothing(program: Program) -> None:
    program.hook(SYMBOL)
    code = """
import os, signal, shapes
if (child := os.fork()) == 0:
    shapes.add(1)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
shapes.add(2)
"""
    run_under(NAMESPACE, program, code)
    assert numbers(program) == [1, 2]


@needs_namespace
def test_a_child_that_is_first_in_a_new_namespace_has_no_handler_of_ours(program: Program) -> None:
    program.hook(SYMBOL)
    code = """
import ctypes, os, re, signal, shapes
from pathlib import Path

def is_caught():
    status = Path("/proc/self/status").read_text()
    return bool(int(re.search("SigCgt:\\t(.*)", status)[1], 16) >> signal.SIGTERM - 1 & 1)

assert is_caught()
new_pid_namespace = 0x20000000
assert ctypes.CDLL(None).unshare(new_pid_namespace) == 0
if (child := os.fork()) == 0:
    assert os.getpid() == 1 and not is_caught()
    os.kill(1, signal.SIGTERM)
    shapes.add(1)
    msprof_rs.shutdown()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert is_caught()
shapes.add(2)
"""
    run_under(UNSHARE, program, code)
    assert numbers(program) == [1, 2]


DISPOSITIONS = """
import os, signal, subprocess, sys
signal.signal(signal.SIGUSR1, signal.{usr1})
{first}
signal.signal(signal.SIGTERM, signal.{term})
code = "print(*(line for line in open('/proc/self/status') if line.startswith(('SigB', 'SigI', 'SigC'))))"
environment = dict(os.environ)
environment.pop("SERVICE_PROF_CONFIG_PATH", None)
subprocess.run([sys.executable, "-c", code], check=True, env=environment)
"""


@pytest.mark.parametrize("term", ["SIG_DFL", "SIG_IGN", "default_int_handler"])
@pytest.mark.parametrize("usr1", ["SIG_DFL", "SIG_IGN", "default_int_handler"])
def test_a_program_that_is_started_finds_the_same_dispositions(
    program: Program, term: str, usr1: str
) -> None:
    program.configure(mode="flight", dump_signal="SIGUSR1")
    without, profiled = (
        subprocess.run(
            [program.python, "-c", DISPOSITIONS.format(first=first, term=term, usr1=usr1)],
            env=program.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout
        for first in ("", "import msprof_rs; assert msprof_rs.is_enabled()")
    )
    assert "SigIgn" in without
    assert profiled == without


def test_whoever_waits_for_the_signal_gets_it(program: Program) -> None:
    program.hook(SYMBOL)
    program.run(
        """
        import os, signal, shapes
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.sigwait({signal.SIGTERM}) == signal.SIGTERM
        shapes.add(1)
        """
    )
    assert numbers(program) == [1]


def test_python_sees_no_handler_even_where_it_looks_late(program: Program) -> None:
    late = "import sys; [sys.modules.pop(name, None) for name in ('signal', '_signal')]\n"
    code = "import msprof_rs, signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    command = [program.python, "-c", late + code]
    run = subprocess.run(command, env=program.environment, capture_output=True, text=True, timeout=PATIENCE)
    assert run.stdout == "True\n", run.stderr


class Stopped:
    """Holds one thread of a process, as a disk that does not answer would."""

    SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000

    def __init__(self, tid: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        for request in (self.SEIZE, self.INTERRUPT):
            if libc.ptrace(request, tid, None, None) != 0:
                pytest.skip(f"NOT TESTED: a thread can't be held here: {os.strerror(ctypes.get_errno())}")
        os.waitpid(tid, self.WALL)
        self.tid = tid

    def bury(self) -> None:
        """Takes note of its end, which its process waits for."""
        while not os.WIFSIGNALED(os.waitpid(self.tid, self.WALL)[1]):
            pass


def masks(pid: int) -> dict[str, int]:
    """The signals that are blocked, caught ...; nothing for a process that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line[:6]: int(line[8:], 16) for line in lines if line.startswith("Sig") and line[3] in "BIC"}


def test_a_second_signal_kills_at_once_while_the_disk_is_stuck(program: Program) -> None:
    program.hook(SYMBOL)
    process = program.start("import processes; processes.call_add_and_wait_for_a_signal()")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    (flusher,) = (int(task.name) for task in tasks if (task / "comm").read_text() == "msprof-rs\n")
    held = Stopped(flusher)
    term = 1 << signal.SIGTERM - 1
    assert masks(process.pid)["SigCgt"] & term
    process.terminate()
    waiting = wait_until(
        lambda: (now := masks(process.pid)) and not now["SigCgt"] & term and now, "the first signal"
    )
    assert not waiting["SigBlk"] & term, "the second one would have to wait"
    process.terminate()
    held.bury()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
