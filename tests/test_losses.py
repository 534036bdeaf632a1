"""What can't be recorded or written, or is taken away: counted, and told wherever somebody looks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from capture import Capture
from program import PATIENCE, Program, wait_until

DAMAGED = 3
"""What commands exit with where something is missing."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts: only root can")


def parse(program: Program, session: Path) -> str:
    """Parses a session in which something is missing; gives the summary."""
    output = str(program.folder / "output")
    outcome = program.command(
        "parse", "--input-path", str(session), "--output-path", output, "--format", "csv"
    )
    assert outcome.returncode == DAMAGED, outcome.stdout + outcome.stderr
    # Where the answer has no place for it, stderr says why; in each form of the answer.
    for form in ([], ["--json"], ["--csv"]):
        answer = program.command("stats", str(session), *form)
        assert answer.returncode == DAMAGED
        reasons = [line.partition("[WARN] ")[2] for line in answer.stderr.splitlines()]
        assert reasons
        assert all(reasons)
        assert all(reason in outcome.stdout for reason in reasons), answer.stderr
    return outcome.stdout


def test_events_of_threads_beyond_the_rings_are_counted_everywhere(program: Program) -> None:
    program.hook("[]")
    program.configure(rings_mb=2)
    process = program.start(
        """
        import threading
        barrier, end = threading.Barrier(21), threading.Event()
        def work():
            for _ in range(3): msprof_rs.event("e")
            barrier.wait()
            end.wait()
        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads: thread.start()
        barrier.wait()
        print("ready", flush=True)
        input()
        end.set()
        """
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"

    def lost() -> int:
        rows = json.loads(program.command("status", "--json").stdout)
        return sum(int(row["dropped"]) for row in rows if row["pid"] == process.pid)

    wait_until(lambda: lost() > 0, "the count on the page")
    count = lost()
    _, err = process.communicate("\n", timeout=PATIENCE)
    (session,) = program.sessions()
    recorded = len(program.capture().instants)
    assert recorded + count == 60
    assert "that rings_mb allows" in err
    assert f"{count} events were of threads that got no ring" in err
    summary = parse(program, session)
    assert f"{count} events of {count // 3} threads not recorded" in summary
    assert "Dropped  nothing" not in summary


def test_a_removed_folder_is_noticed_and_followed_by_a_new_session(program: Program) -> None:
    program.hook("[]")
    process = program.start(
        """
        msprof_rs.event("lost")
        print("ready", flush=True)
        input()
        msprof_rs.event("kept")
        """
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    (former,) = program.sessions()
    wait_until(lambda: any(file.stat().st_size > 0 for file in former.glob("*.pftrace")), "the capture")
    # In one go: the recorder may make the new folder while files are removed one by one.
    gone = program.prof_dir.rename(program.folder / "gone")
    shutil.rmtree(gone)
    wait_until(lambda: list(program.prof_dir.rglob("*.pftrace")), "a new capture")
    wait_until(
        lambda: any(
            row["pid"] == process.pid and row["session"] and Path(row["session"]).is_dir()
            for row in json.loads(program.command("status", "--json").stdout)
        ),
        "a new session",
    )
    _, err = process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 0
    assert err.count("the session's folder was removed or moved away; a new session begins") == 1
    assert [event.name for event in program.capture().instants if event.name in ("lost", "kept")] == ["kept"]
    (session,) = program.sessions()
    assert "went with files that were removed" in parse(program, session)


def on_a_small_disk(program: Program, code: str) -> str:
    """Runs a program whose captures lie on a disk of two megabytes, and copies them; gives its log."""
    script, copy = program.folder / "script.py", program.folder / "copy"
    script.write_text("import msprof_rs, os, pathlib, sys, time\n" + code)
    program.prof_dir.mkdir()
    mount = f"mount -t tmpfs -o size=2m none {program.prof_dir}"
    run = f"{program.python} {script} {program.prof_dir}"
    outcome = subprocess.run(
        ["unshare", "-m", "sh", "-ec", f"{mount}; {run}; cp -r {program.prof_dir} {copy}"],
        env=program.environment,
        cwd=program.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    (session,) = copy.iterdir()
    session.rename(program.folder / "session")
    return outcome.stderr


FILL = """
filler, number = pathlib.Path(sys.argv[1]) / "filler", 0
def events(count):
    global number
    for _ in range(count):
        msprof_rs.event("e", number=number)
        number += 1
def fill():
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)): pass
        except OSError: pass
def status(key):
    import json, subprocess
    command = [pathlib.Path(sys.executable).with_name("msprof-rs"), "status", "--json"]
    environment = os.environ | {"SERVICE_PROF_CONFIG_PATH": ""}
    rows = json.loads(subprocess.run(command, capture_output=True, env=environment).stdout)
    return next(row[key] for row in rows if row["pid"] == os.getpid())
events(100)
while status("events") < 100: time.sleep(0.01)
fill()
while not status("trouble"):
    events(100)
    time.sleep(0.05)
"""


@needs_root
def test_what_a_full_disk_costs_is_counted_and_recording_goes_on_when_there_is_room(program: Program) -> None:
    program.hook("[]")
    program.configure(ring_mb=1, rings_mb=1)
    code = """
assert "No space left on device" in status("trouble")
events(60_000)  # more than all rings have room for
filler.unlink()
while status("trouble"): time.sleep(0.05)
# It writes again before it has emptied the rings: only then is there room.
while status("events") + status("dropped") < number: time.sleep(0.05)
events(100)
print(number)
"""
    log = on_a_small_disk(program, FILL + code)
    assert log.count("the server goes on, the rings keep what they can") == 1
    session = program.folder / "session"
    summary = parse(program, session)
    assert "a capture could not be written" in summary
    numbers = [int(event.attributes["number"]) for event in Capture(session).instants if event.name == "e"]
    assert numbers == sorted(set(numbers))
    assert numbers[:100] == list(range(100))
    assert numbers[-1] - numbers[-100] == 99
    dropped = numbers[-1] + 1 - len(numbers)
    assert 0 < dropped < 60_000
    assert f"Dropped  {dropped:,} events" in summary


@needs_root
def test_what_a_disk_that_stays_full_leaves_in_the_rings_is_read(program: Program) -> None:
    program.hook("[]")
    program.configure(ring_mb=1, rings_mb=1)
    log = on_a_small_disk(
        program, FILL + "open('count', 'w').write(str(number))\nmsprof_rs.shutdown()\nfiller.unlink()"
    )
    assert "the last events could not be written" in log
    session = program.folder / "session"
    outcome = program.command("recover", str(session))
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    numbers = [int(event.attributes["number"]) for event in Capture(session).instants if event.name == "e"]
    assert numbers == list(range(int((program.folder / "count").read_text())))
