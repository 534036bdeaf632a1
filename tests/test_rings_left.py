"""Rings that are left: whose they are, whether their recorder lives, which names and clock belong to them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from capture import Capture
from program import PATIENCE, Program, wait_until

COUNT = 100
"""Events that each program records last, when the flusher has no time to take them."""
DAMAGED = 3
PRIVATE = Path(f"/dev/shm/msprof_rs-{os.geteuid()}")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays a container: only root can")
CONTAINER = ["unshare", "-m", "-p", "-f", "--mount-proc", "sh", "-c"]

RECORD = """
import os, signal, sys, time, msprof_rs
def record(name):
    for number in range(100): msprof_rs.event(name, number=number)
def die(): os.kill(os.getpid(), signal.SIGKILL)
"""


def parse(program: Program, session: Path) -> subprocess.CompletedProcess[str]:
    output = str(program.folder / "output")
    return program.command("parse", "--input-path", str(session), "--output-path", output, "--format", "json")


def names(session: Path) -> Counter[str]:
    return Counter(instant.name for instant in Capture(session).instants)


def script(program: Program, code: str) -> str:
    path = program.folder / "script.py"
    path.write_text(RECORD + code)
    return f"{shlex.quote(program.python)} {shlex.quote(str(path))}"


def in_container(program: Program, command: str) -> subprocess.Popen[str]:
    """Runs a shell's command with pids of its own, as root of no user's."""
    return subprocess.Popen(
        [*CONTAINER, f"{command}; :"],  # not the shell's last one, which would have its pid
        env=program.environment,
        cwd=program.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def msprof(program: Program, *words: str) -> str:
    command = Path(program.python).with_name("msprof-rs")
    return shlex.join(["env", "-u", "SERVICE_PROF_CONFIG_PATH", str(command), *words])


def test_of_a_zombie_all_is_read_and_recovered(program: Program) -> None:
    program.hook("[]")
    process = program.start(RECORD + "record('last'); die()")
    state = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: state.read_text().rsplit(")", 1)[1].split()[0] == "Z", "its death")
    (session,) = program.sessions()
    outcome = parse(program, session)
    assert (outcome.returncode, f"{COUNT} events: " in outcome.stdout) == (0, True), outcome.stdout
    assert "events added" in program.command("recover", str(session)).stdout
    process.communicate(timeout=PATIENCE)
    assert names(session) == {"last": COUNT}


def test_a_forked_child_that_lives_on_does_not_keep_its_killed_parent_alive(program: Program) -> None:
    program.hook("[]")
    code = """
    inlet, outlet = os.pipe()
    if os.fork() == 0:
        record("child")
        sys.stdout.write("ready\\n"); sys.stdout.flush()
        input()
        os._exit(0)
    record("parent"); time.sleep(0.5)
    record("parent"); die()
    """
    process = program.start(RECORD + "\n".join(line.removeprefix("    ") for line in code.splitlines()))
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.wait(PATIENCE)
    (session,) = program.sessions()
    outcome = parse(program, session)
    assert outcome.returncode == 0
    assert outcome.stdout.count("its process still records") == 1, outcome.stdout
    recovered = program.command("recover", str(session)).stdout
    assert recovered.count("events added") == recovered.count("its process still runs") == 1, recovered
    process.communicate("\n", timeout=PATIENCE)
    program.command("recover", str(session))
    assert names(session) == {"parent": 2 * COUNT, "child": COUNT}


def test_what_a_program_recorded_before_an_exec_keeps_its_names(program: Program) -> None:
    program.hook("[]")
    second = RECORD + "for n in range(50): msprof_rs.event(f'other {n}')\nrecord('second'); die()"
    first = RECORD + f"record('first'); os.execv(sys.executable, [sys.executable, '-c', {second!r}])"
    # This one keeps the session going.
    code = f"""
        import subprocess, sys
        outcome = subprocess.run([sys.executable, "-c", {first!r}])
        assert outcome.returncode == -{int(signal.SIGKILL)}
    """
    program.run(code)
    (session,) = program.sessions()
    pids = [path.name.split("-")[-2] for path in session.glob("*.names")]
    assert len(pids) == 2
    assert len(set(pids)) == 1
    assert program.command("recover", str(session)).returncode == 0
    found = names(session)
    assert (found["first"], found["second"], len(found)) == (COUNT, COUNT, 52)


def test_what_a_killed_recover_has_put_into_the_capture_is_not_read_again(program: Program) -> None:
    program.hook("[]")
    program.run(RECORD + "record('last'); die()", exit_code=-signal.SIGKILL)
    (session,) = program.sessions()
    kept = program.folder / "kept"
    shutil.copytree(session, kept)
    # As far as it gets before it removes the rings: the new file has its place, the names say so.
    (names_file,) = session.glob("*.names")
    holds = os.open(names_file, os.O_RDONLY)
    assert "events added" in program.command("recover", str(session)).stdout
    for ring in kept.glob("*.ring"):
        shutil.copy(ring, session)
    names_file.write_bytes(os.pread(holds, 1 << 20, 0))
    os.close(holds)
    for _ in range(2):
        outcome = parse(program, session)
        assert (outcome.returncode, f"{COUNT} events: " in outcome.stdout) == (0, True), outcome.stdout
    assert " 0 events added" in program.command("recover", str(session)).stdout
    assert [path.suffix for path in session.iterdir()] == [".pftrace"]
    assert names(session) == {"last": COUNT}


@needs_root
def test_two_containers_with_one_host_name_and_one_pid_are_two_processes(program: Program) -> None:
    program.hook("[]")
    there = program.folder / "there"
    there.mkdir()
    code = f"""
    name = sys.argv[1]
    record(name)
    open(f"{there}/{{name}}", "w").close()
    while len(os.listdir("{there}")) < 2: time.sleep(0.01)
    time.sleep(0.5)
    with msprof_rs.span(name): pass
    record(name + " last"); die()
    """
    command = script(program, "\n".join(line.removeprefix("    ") for line in code.splitlines()))
    both = [in_container(program, f"{command} {name}") for name in ("decode", "prefill")]
    for container in both:
        container.communicate(timeout=PATIENCE)
    (session,) = program.sessions()
    pids = {path.name.split("-")[-2] for path in session.glob("*.pftrace")}
    assert len(pids) == 1, "the kernel gave them other numbers"
    processes = json.loads(program.command("stats", "--json", "--report", "processes", str(session)).stdout)
    assert len(processes) == 2, processes
    output = program.folder / "output"
    outcome = program.command("parse", "--input-path", str(session), "--output-path", str(output))
    assert outcome.returncode == 0
    # Within one trace file a pid is one process.
    assert (output / "timeline.tar").exists()
    program.command("recover", str(session))
    for number, capture in enumerate(session.glob("*.pftrace")):
        alone = program.folder / f"alone-{number}"
        alone.mkdir()
        shutil.copy(capture, alone)
        own = names(alone)
        (name,) = (name for name in own if "last" not in name)
        assert own == {name: COUNT, f"{name} last": COUNT}


@needs_root
def test_what_a_container_has_left_is_read_where_another_process_has_its_pid(program: Program) -> None:
    program.hook("[]")
    in_container(program, script(program, "record('last'); die()")).communicate(timeout=PATIENCE)
    (session,) = program.sessions()
    # There the second process is this `sleep`.
    beside = in_container(program, f"sleep 60 & {msprof(program, 'recover', str(session))}; kill %1")
    out, err = beside.communicate(timeout=PATIENCE)
    assert "events added" in out, out + err
    assert names(session) == {"last": COUNT}


@needs_root
def test_from_another_container_rings_of_a_living_process_are_named_and_left(program: Program) -> None:
    program.hook("[]")
    process = program.start(RECORD + "record('last'); print('ready', flush=True); input()")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    (session,) = program.sessions()
    output = str(program.folder / "output")
    words = msprof(program, "parse", "--input-path", str(session), "--output-path", output)
    out, err = in_container(program, words).communicate(timeout=PATIENCE)
    assert "rings not read: its process still records" in out, out + err
    out, err = in_container(program, msprof(program, "recover", str(session))).communicate(timeout=PATIENCE)
    assert "still runs; left alone" in out, out + err
    assert list(session.glob("*.ring"))
    process.communicate("\n", timeout=PATIENCE)
    assert names(session) == {"last": COUNT}


@needs_root
def test_rings_in_shared_memory_that_is_gone_are_told(program: Program) -> None:
    program.hook("[]")
    program.prof_dir.mkdir()
    kept = program.folder / "kept"
    # No blocks to keep, so that the rings are in memory, which is this container's own: as after a restart.
    mounts = f"mount -t ramfs none {program.prof_dir}; mount -t tmpfs none /dev/shm"
    command = script(program, "record('taken'); time.sleep(0.5); record('last'); die()")
    output = str(program.folder / "output")
    read = msprof(program, "parse", "--input-path", str(program.prof_dir), "--output-path", output)
    container = in_container(program, f"{mounts}; {command}; {read}; cp -r {program.prof_dir} {kept}")
    out, err = container.communicate(timeout=PATIENCE)
    assert f"{2 * COUNT} events: " in out, out + err
    (session,) = kept.iterdir()
    outcome = parse(program, session)
    assert outcome.returncode == DAMAGED
    assert "the rings not read: they were in /dev/shm/msprof_rs-" in outcome.stdout, outcome.stdout
    assert "left alone" in program.command("recover", str(session)).stdout


def test_status_shows_nothing_of_a_zombie(program: Program) -> None:
    program.hook("[]")
    process = program.start(RECORD + "record('last'); print('ready', flush=True); input()")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"

    def shown() -> list[int]:
        return [row["pid"] for row in json.loads(program.command("status", "--json").stdout)]

    wait_until(lambda: process.pid in shown(), "its page")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.pid not in shown()
    process.communicate(timeout=PATIENCE)


def killed(program: Program) -> Path:
    """The session of a program that was killed before the flusher took its last events."""
    program.hook("[]")
    program.run(RECORD + "record('last'); die()", exit_code=-signal.SIGKILL)
    (session,) = program.sessions()
    return session


def lose_all(file: Path) -> None:
    file.write_bytes(b"")


def lose_all_but_a_head(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:30])


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [lose_all, lose_all_but_a_head, zero])
def test_rings_that_a_damaged_capture_can_not_take_are_told_and_stay(
    program: Program, damage: Callable[[Path], None]
) -> None:
    session = killed(program)
    (capture,) = session.glob("*.pftrace")
    rings = {file.name: file.read_bytes() for file in session.glob("*.ring")}
    assert rings
    damage(capture)
    assert parse(program, session).returncode == DAMAGED
    assert program.command("recover", str(session)).returncode == DAMAGED
    assert {file.name: file.read_bytes() for file in session.glob("*.ring")} == rings


def test_rings_that_are_gone_are_told(program: Program) -> None:
    session = killed(program)
    bare = Path(shutil.copytree(session, program.folder / "bare"))
    for ring in bare.glob("*.ring"):
        ring.unlink()
    outcome = parse(program, bare)
    assert outcome.returncode == DAMAGED
    assert ".names" in outcome.stdout + outcome.stderr
    oldest = min(session.glob("*.ring"), key=lambda file: int(file.stem.rsplit("-", 1)[1]))
    for damage in (zero, lose_all):
        damage(oldest)
        assert parse(program, session).returncode == DAMAGED
    assert program.command("recover", str(session)).returncode == DAMAGED
    assert list(session.glob("*.ring"))


def test_a_capture_without_a_byte_is_told(program: Program) -> None:
    program.hook("[]")
    program.run(RECORD + "record('all')")
    (session,) = program.sessions()
    (capture,) = session.glob("*.pftrace")
    shutil.copy(capture, session / "other-7-00c0ffee.pftrace")
    lose_all(capture)
    outcome = parse(program, session)
    assert outcome.returncode == DAMAGED
    assert capture.name in outcome.stdout + outcome.stderr


def test_times_are_uncertain_where_damage_has_all_that_a_process_said_of_itself(program: Program) -> None:
    program.hook("[]")
    code = """
import pathlib
(capture,) = pathlib.Path(FOLDER).rglob("*.pftrace")
# The flusher writes groups that don't lean on the first.
while capture.stat().st_size < 300_000:
    record("some")
    time.sleep(0.01)
die()
"""
    program.run(RECORD + code.replace("FOLDER", repr(str(program.prof_dir))), exit_code=-signal.SIGKILL)
    (session,) = program.sessions()
    (capture,) = session.glob("*.pftrace")
    told = "Its times may be some nanoseconds off"
    assert told not in parse(program, session).stderr
    whole = bytearray(capture.read_bytes())
    whole[100] ^= 1
    capture.write_bytes(whole)
    outcome = parse(program, session)
    assert (outcome.returncode, outcome.stderr.count(told)) == (DAMAGED, 1), outcome.stderr
