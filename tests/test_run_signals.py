"""A command below `msprof-rs run` gets the signals that it would get without, and each of them once."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from program import PATIENCE, wait_until
from test_run import COMMAND, environment, write

SERVER = """
    import os, signal, sys
    NAMES = ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT"]
    taken = {getattr(signal, name) for name in NAMES} if "tells" in sys.argv else set()
    taken.add(signal.SIGALRM)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    if "leader" in sys.argv:
        os.setpgid(0, 0)
    os.write(1, b"%d\\n" % os.getpid())
    while (number := signal.sigwait(taken)) != signal.SIGALRM:
        os.write(1, b"%d\\n" % number)
    sys.exit(7)
"""


class Run:
    """A server below `run`, in a process group of its own."""

    def __init__(self, folder: Path, *words: str, group: Callable[[], object] = os.setsid) -> None:
        write(folder, "server.py", SERVER)
        self.process = subprocess.Popen(
            [COMMAND, "run", "-o", "out", "--no-parse", "--", "server.py", *words],
            cwd=folder,
            env=environment() | {"PROF_LOG_LEVEL": "ERROR"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            preexec_fn=group,
        )
        self.server = int(self.line())

    def line(self) -> str:
        """The next line, which is written at once."""
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "it says nothing"
        return self.process.stdout.readline().decode().strip()

    def to_us(self, number: int) -> None:
        self.process.send_signal(number)

    def to_the_group(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> bytes:
        """Has the server end by itself; gives what else it has printed."""
        os.kill(self.server, signal.SIGALRM)
        return self.process.communicate(timeout=PATIENCE)[0]


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    begun: list[Run] = []

    def begin(*words: str, group: Callable[[], object] = os.setsid) -> Run:
        begun.append(Run(tmp_path, *words, group=group))
        return begun[-1]

    yield begin
    for run in begun:
        if run.process.poll() is None:
            os.kill(run.server, signal.SIGKILL)
        run.process.communicate(timeout=PATIENCE)


def state(pid: int) -> str:
    """As `ps` has it: `S`, `T`; empty if it has gone, or is only waited for."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if letter in "ZX" else letter


TOLD = ("INT", "TERM", "QUIT", "HUP", "USR1", "USR2", "WINCH", "CONT")


@pytest.mark.parametrize("words", [("tells",), ("tells", "leader")])
@pytest.mark.parametrize("to", [Run.to_us, Run.to_the_group])
def test_each_signal_reaches_the_command_once(
    to: Callable[[Run, int], None], words: tuple[str, ...], runs: Callable[..., Run]
) -> None:
    run = runs(*words)
    for name in TOLD:
        number = getattr(signal, f"SIG{name}")
        to(run, number)
        assert run.line() == str(number)
        # What comes after it: by then a second one would have come as well. Of another kind, since two of
        # a kind that wait are one.
        later = signal.SIGUSR2 if number == signal.SIGUSR1 else signal.SIGUSR1
        for _ in range(2):
            run.to_us(later)
            assert run.line() == str(int(later)), f"{name} came twice"
    assert run.end() == b""
    assert run.process.returncode == 7


def test_signals_for_the_group_that_come_at_once_reach_the_command_once(runs: Callable[..., Run]) -> None:
    run = runs("tells")
    run.to_us(signal.SIGSTOP)
    wait_until(lambda: state(run.process.pid) == "T", "the stop")
    # When it goes on, the lower number comes first.
    for number in (signal.SIGTERM, signal.SIGQUIT):
        run.to_the_group(number)
        assert run.line() == str(int(number))
    run.to_us(signal.SIGCONT)
    assert run.line() == str(int(signal.SIGCONT))
    assert run.end() == b""
    assert run.process.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1])
@pytest.mark.parametrize("to", [Run.to_us, Run.to_the_group])
def test_who_waits_for_run_sees_the_signal_that_ended_the_command(
    to: Callable[[Run, int], None], number: signal.Signals, runs: Callable[..., Run]
) -> None:
    run = runs()
    to(run, number)
    _, err = run.process.communicate(timeout=PATIENCE)
    assert run.process.returncode == -number
    assert b"Traceback" not in err
    assert state(run.server) == ""


def test_a_signal_that_came_to_the_command_alone_is_seen_as_well(runs: Callable[..., Run]) -> None:
    run = runs()
    os.kill(run.server, signal.SIGKILL)
    run.process.communicate(timeout=PATIENCE)
    assert run.process.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_leaves_no_server(runs: Callable[..., Run]) -> None:
    run = runs()
    run.to_us(signal.SIGKILL)
    wait_until(lambda: state(run.server) == "", "the server's end")


def test_a_shell_may_stop_and_continue_a_run(runs: Callable[..., Run]) -> None:
    run = runs(group=os.setpgrp)  # what nobody could continue is not stopped by this signal
    for stop in (run.to_us, run.to_the_group):
        for number, states in ((signal.SIGTSTP, "T"), (signal.SIGCONT, "SR")):
            stop(number)
            wait_until(
                lambda states=states: all(  # type: ignore[misc]
                    state(pid) and state(pid) in states for pid in (run.process.pid, run.server)
                ),
                number.name,
            )
    run.end()
    assert run.process.returncode == 7


@pytest.mark.parametrize("shell", ["sh -c 'trap \"\" HUP; exec {0}'", "nohup {0}"])
def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path: Path, shell: str) -> None:
    code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    write(tmp_path, "script.py", code)
    done = subprocess.run(
        shell.format(f"{COMMAND} run -o out --no-parse -- script.py"),
        shell=True,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout == "True\n", done.stderr


def test_ctrl_c_at_a_terminal_comes_once_and_the_servers_own_exit_code_stays(tmp_path: Path) -> None:
    write(
        tmp_path,
        "server.py",
        """
        import signal, sys, time
        count = 0

        def interrupted(*_):
            global count
            count += 1

        signal.signal(signal.SIGINT, interrupted)
        print("up", flush=True)
        while not count: time.sleep(0.01)
        print("ends after", count, flush=True)
        sys.exit(0)
        """,
    )
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [COMMAND, "run", "-o", "out", "--", "server.py"],
        cwd=tmp_path,
        env=environment(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    os.write(ours, b"\x03")
    out, err = process.communicate(timeout=PATIENCE)
    os.close(ours)
    assert process.returncode == 0
    assert out.startswith("ends after 1\nRead     1 file")
    assert "Traceback" not in err


def test_ctrl_c_ends_a_command_of_ours_without_a_traceback(tmp_path: Path) -> None:
    code = """
        import signal, sys, threading
        from msprof_rs import cli

        def main(_):
            signal.raise_signal(signal.SIGINT)
            return 5

        cli.cli_main = main
        sys.exit(cli.main())
    """
    script = write(tmp_path, "script.py", code)
    done = subprocess.run(
        [sys.executable, script], env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
