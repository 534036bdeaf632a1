"""Whatever lies where a file of ours or the user's is expected: neither the server nor a command waits
for it, maps what it has no room for, or believes what a stranger has put there.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from capture import Capture
from program import PATIENCE, Program

PRIVATE = Path(f"/dev/shm/msprof_rs-{os.geteuid()}")
STRANGER = 65534
EVENTS = "import msprof_rs\nfor i in range(50): msprof_rs.event('real', number=i)\n"
LAST = "import time; time.sleep(0.3); print('ended')"
"""For two looks at the config: at the first it may be half made."""
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
KILLED = -9
DAMAGED = 3
"""What commands exit with that could read a part only."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user, or mounts: only root can")


def listener(path: Path) -> None:
    former = Path.cwd()
    os.chdir(path.parent)  # the path of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(former)


THINGS: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a socket": listener,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture(params=THINGS)
def thing(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def put(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    THINGS[kind](path)


def run(program: Program, code: str) -> str:
    """Runs it to its end. Where its start or its end waits for a recorder that hangs, the log says so."""
    out, err = program.run(code)
    assert "could not be written within" not in err
    assert "has not been read within" not in err
    return out + err


def parse(program: Program, session: Path) -> subprocess.CompletedProcess[str]:
    output = str(program.folder / "output")
    return program.command("parse", "--input-path", str(session), "--output-path", output)


def killed(program: Program) -> Path:
    """The session of a program that was killed."""
    program.hook("[]")
    program.run(EVENTS + KILL, KILLED)
    (session,) = program.sessions()
    return session


def test_something_else_in_the_configs_place(program: Program, thing: str) -> None:
    program.hook("[]")
    put(thing, program.config)
    log = run(program, EVENTS + LAST)
    assert f"can't read the file: it is {thing}, not a regular file" in log
    assert not program.sessions()
    assert program.command("stop", str(program.config)).returncode == 1


def test_something_else_in_the_symbol_files_place(program: Program, thing: str) -> None:
    put(thing, program.symbols)
    log = run(program, EVENTS)
    assert f"it is {thing}, not a regular file; the built-in symbols are used" in log
    assert len(program.capture().instants) == 50
    outcome = program.command("check", "--symbols", str(program.symbols))
    assert f"it is {thing}" in outcome.stdout + outcome.stderr


def test_something_else_among_the_captures(program: Program, thing: str) -> None:
    program.hook("[]")
    run(program, EVENTS)
    (session,) = program.sessions()
    (capture,) = session.glob("*.pftrace")
    refused = ["h-1.pftrace", "x.pt.trace.json", "y.pt.trace.json.gz", "ms_service_1.db"]
    for name in (*refused, f"{capture.stem}-9.ring"):
        put(thing, session / name)
    outcome = parse(program, session)
    assert outcome.returncode == DAMAGED, outcome.stdout + outcome.stderr
    assert "50 instants" in outcome.stdout
    if thing != "a folder":  # which is searched
        assert not [name for name in refused if name not in outcome.stdout]
    program.command("recover", str(session))
    database = program.folder / "profiler.db"
    put(thing, database)
    assert f"it is {thing}" in program.command("query", str(database), "select 1").stderr


def test_something_else_among_what_a_killed_process_has_left(program: Program, thing: str) -> None:
    session = killed(program)
    for path in (*session.glob("*.names"), *session.glob("*.ring")):
        put(thing, path)
    outcome = parse(program, session)
    assert outcome.returncode == DAMAGED, outcome.stdout + outcome.stderr
    assert ".ring: the last events of a process that ended can't be read" in outcome.stdout


def test_something_else_among_what_a_users_processes_share(program: Program, thing: str) -> None:
    program.hook("[]")
    run(program, EVENTS)  # makes the folder
    strange = [PRIVATE / name for name in ("1.status", "77777.status", "0.session", "0.live")]
    try:
        for path in strange:
            put(thing, path)
        run(program, EVENTS + LAST)
        assert program.command("status").returncode == 0
    finally:
        for path in strange:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
    assert len(program.capture().instants) == 100


def test_a_ring_in_shared_memory_is_taken_into_its_capture(program: Program) -> None:
    session = killed(program)
    (capture,) = session.glob("*.pftrace")
    shared = PRIVATE / f"rings-{capture.stem}"
    shared.mkdir(0o700)
    try:
        for path in (*session.glob("*.ring"), *session.glob("*.names")):
            shutil.move(path, shared)
        recovered = program.command("recover", str(session))
        assert "events added" in recovered.stdout, recovered.stderr
        assert not list(shared.iterdir())
    finally:
        shutil.rmtree(shared)
    assert len(Capture(session).instants) == 50


@needs_root
def test_a_strangers_ring_in_shared_memory_is_not_taken_into_a_capture(program: Program) -> None:
    session = killed(program)
    (capture,) = session.glob("*.pftrace")
    # In the open, as a recorder without a private folder had them; and in a folder of another user's.
    shared = Path(f"/dev/shm/msprof_rs-{STRANGER}/rings-{capture.stem}")
    shared.mkdir(0o700, parents=True)
    planted = []
    for number, ring in enumerate(session.glob("*.ring"), 100):
        for path in (
            Path(f"/dev/shm/msprof_rs-{capture.stem}-{number}.ring"),
            shared / f"{capture.stem}-{number}.ring",
        ):
            shutil.copy(ring, path)
            os.chown(path, STRANGER, STRANGER)
            planted.append(path)
    try:
        program.command("recover", str(session))
        assert planted
        assert all(path.exists() for path in planted)
    finally:
        for path in planted:
            path.unlink()
        shutil.rmtree(shared.parent)
    assert len(Capture(session).instants) == 50


def in_a_namespace(program: Program, before: str, code: str) -> str:
    """Runs a program with mounts of its own, which a shell makes before; gives what it wrote."""
    script = program.folder / "script.py"
    script.write_text("import msprof_rs\n" + code)
    outcome = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{before}; exec {program.python} {script}"],
        env=program.environment,
        cwd=program.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


@needs_root
@pytest.mark.parametrize("enable", [0, 1])
@pytest.mark.parametrize("pages", [0, 1, 2, 3, 4])
def test_shared_memory_without_room_costs_the_status_page_and_no_more(
    program: Program, enable: int, pages: int
) -> None:
    program.hook("[]")
    program.configure(enable=enable)
    mount = "mount -t tmpfs -o size=64k none /dev/shm"
    full = f"{mount}; head -c {(16 - pages) * 4096} /dev/zero > /dev/shm/full"
    log = in_a_namespace(program, full, EVENTS + LAST)
    assert "ended" in log
    assert not enable or len(program.capture().instants) == 50
    if pages == 0:
        assert log.count("msprof-rs status does not see this process: No space left on device") == 1
        assert log.count("Each captures into a folder of its own") == enable


@needs_root
def test_where_a_stranger_has_the_folders_name_another_is_used_and_that_is_said(program: Program) -> None:
    program.hook("[]")
    mount = "mount -t tmpfs -o mode=1777 none /dev/shm"
    take = f"mkdir {PRIVATE}; chown {STRANGER} {PRIVATE}"
    code = EVENTS + LAST + f"\nimport os; print('in it:', os.listdir('{PRIVATE}'))"
    log = in_a_namespace(program, f"{mount}; {take}", code)
    assert log.count(f"{PRIVATE} is not used: it belongs to user {STRANGER}") == 1
    assert "in it: []" in log
    assert len(program.capture().instants) == 50


@needs_root
def test_rings_are_in_shared_memory_where_the_sessions_folder_can_not_be_mapped(program: Program) -> None:
    program.hook("[]")
    program.prof_dir.mkdir()
    # It has no blocks to keep: a stand-in for a file system behind a network.
    mount = f"mount -t ramfs none {program.prof_dir}"
    code = f"""
import os, pathlib, processes
def count(folder, pattern): return len(list(pathlib.Path(folder).rglob(pattern)))
processes.wait_until(lambda: count("{PRIVATE}", f"rings-*/*-{{os.getpid()}}-*.ring"), "a ring")
print(count("{program.prof_dir}", "*.ring"))
msprof_rs.stop()
print(count("{PRIVATE}", f"rings-*/*-{{os.getpid()}}*"))
"""
    log = in_a_namespace(program, mount, EVENTS + code)
    assert "0\n0\n" in log
    assert "rings go to shared memory" in log
