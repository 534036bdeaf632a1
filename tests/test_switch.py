"""Collection starts and stops while the program runs, in all its processes."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

from capture import Capture
from program import PATIENCE, Program, wait_until

SYMBOL = """
    - symbol: shapes:add
      domain: Test
      attributes:
        - {name: cycle, expr: a}
        - {name: collected, expr: b}
"""
CYCLES = 3
PROCESSES = 3


def marks(folder: Path, state: str, cycle: int) -> list[Path]:
    return list(folder.glob(f"{state}-{cycle}-*"))


def wait_for_marks(process: subprocess.Popen[str], folder: Path, state: str, cycle: int) -> None:
    wait_until(
        lambda: process.poll() is not None or len(marks(folder, state, cycle)) == PROCESSES,
        f"cycle {cycle}, {state}, in all processes",
    )


def test_each_cycle_of_the_switch_is_seen_by_every_process(hooked: Program) -> None:
    hooked.hook(SYMBOL)
    hooked.configure(enable=0)
    process = hooked.start(
        f"""
        import processes
        processes.follow_the_switch_in_three_processes({str(hooked.folder)!r}, {CYCLES})
        """
    )
    for cycle in range(CYCLES):
        for state, enable in (("on", 1), ("off", 0)):
            hooked.switch(enable)
            wait_for_marks(process, hooked.folder, state, cycle)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out + err

    cycles_of: dict[int, list[int]] = defaultdict(list)
    for span in hooked.capture().named("add"):
        assert span.attributes["collected"] == 1
        cycles_of[span.pid].append(span.attributes["cycle"])
    assert sorted(cycles_of.values()) == [list(range(CYCLES))] * PROCESSES

    sessions = hooked.sessions()
    assert len(sessions) == CYCLES
    for cycle, session in enumerate(sessions):
        spans = Capture(session).named("add")
        assert {span.attributes["cycle"] for span in spans} == {cycle}
        assert {span.pid for span in spans} == set(cycles_of)


def test_the_time_limit_stops_collection_and_switches_the_config_off(program: Program) -> None:
    program.hook(SYMBOL)
    program.configure(timelimit=1, own_key={"kept": True})
    program.run(
        """
        import msprof_rs, processes, shapes
        shapes.add(0, 1)
        processes.wait_until(lambda: not msprof_rs.is_enabled(), "the time limit")
        shapes.add(0, 0)
        """
    )
    assert [span.attributes["collected"] for span in program.capture().named("add")] == [1]
    settings = json.loads(program.config.read_text())
    assert list(settings) == ["enable", "prof_dir", "timelimit", "own_key"]
    assert (settings["enable"], settings["own_key"]) == (0, {"kept": True})


def test_a_half_written_config_keeps_the_last_good_state(program: Program) -> None:
    program.hook(SYMBOL)
    process = program.start(f"import processes\nprocesses.follow_the_switch({str(program.folder)!r}, 1)")
    wait_until(lambda: marks(program.folder, "on", 0), "collection")
    good = program.config.read_text()
    program.config.write_text(good[: len(good) // 2])
    program.config.write_text(good.replace('"enable": 1', '"enable": 0'))
    wait_until(lambda: marks(program.folder, "off", 0), "the end of collection")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err


def test_a_domain_filter_and_a_level_leave_out_the_rest(program: Program) -> None:
    program.hook(
        """
        - {symbol: "shapes:add", domain: Wanted}
        - {symbol: "shapes:Shape.area", domain: Unwanted}
        """
    )
    program.configure(domain="Wanted; Other")
    program.run("import shapes; shapes.add(1); shapes.Shape().area()")
    assert {span.domain for span in program.capture().spans} == {"Wanted"}


def test_session_folders_are_named_by_the_time_and_never_used_twice(program: Program) -> None:
    program.hook(SYMBOL)
    for _ in range(2):
        program.run("import processes; processes.call_add_in_a_child('spawn')")
    first, second = program.sessions()
    for session in (first, second):
        assert re.fullmatch(r"\d{4}-\d{4}(-\d+)?", session.name)
        capture = Capture(session)
        assert len(capture.files) == 2
        for file in capture.files:
            assert re.fullmatch(r".+-\d+-[0-9a-f]{8}\.pftrace", file.name)
        assert sorted(span.attributes["cycle"] for span in capture.named("add")) == [1, 2]


def test_a_child_that_is_started_as_a_new_program_joins_the_session(program: Program) -> None:
    program.hook(SYMBOL)
    program.run(
        """
        import os, subprocess, sys, shapes
        shapes.add(1, 1)
        os.mkdir("elsewhere")
        code = "import msprof_rs, shapes; shapes.add(2, 1)"
        subprocess.run([sys.executable, "-c", code], check=True, cwd="elsewhere")
        """
    )
    (session,) = program.sessions()
    assert sorted(span.attributes["cycle"] for span in Capture(session).named("add")) == [1, 2]
