"""Processes that come from one that records: each has its own capture, none loses or doubles an event."""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest

from program import PATIENCE, Program

SYMBOL = "- {symbol: 'shapes:add', domain: Test, attributes: [{name: a, expr: a}]}"


def numbers_of(program: Program) -> dict[int, list[int]]:
    """What each process has recorded."""
    capture = program.capture()
    assert capture.dropped == 0
    numbers: dict[int, list[int]] = {}
    for span in capture.named("add"):
        assert span.duration is not None
        numbers.setdefault(span.pid, []).append(span.attributes["a"])
    return numbers


def test_forks_amid_threads_that_record_lose_and_double_nothing(program: Program) -> None:
    program.hook(SYMBOL)
    out, _ = program.run(
        """
        import os, sys, threading
        import shapes
        FORKS, THREADS, EACH = 60, 8, 40
        ended = False
        counts = [0] * THREADS

        def record(thread):
            while not ended:
                shapes.add(thread * 1_000_000 + counts[thread])
                counts[thread] += 1
                threading.Event().wait(0.0005)

        threads = [threading.Thread(target=record, args=[n]) for n in range(THREADS)]
        for thread in threads: thread.start()
        for fork in range(FORKS):
            child = os.fork()
            if child == 0:
                for n in range(EACH): shapes.add(-(fork * EACH + n) - 1)
                msprof_rs.shutdown()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        ended = True
        for thread in threads: thread.join()
        print(sum(counts))
        """
    )
    numbers = numbers_of(program)
    assert len(numbers) == 61
    in_parent = [number for process in numbers.values() for number in process if number >= 0]
    in_children = [number for process in numbers.values() for number in process if number < 0]
    assert len(in_parent) == len(set(in_parent)) == int(out)
    assert Counter(in_children) == Counter(-n - 1 for n in range(60 * 40))
    assert sum(any(number >= 0 for number in process) for process in numbers.values()) == 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_have_captures_of_their_own(program: Program, method: str) -> None:
    program.hook(SYMBOL)
    (program.folder / "work.py").write_text(
        """
import msprof_rs, multiprocessing, sys
import shapes
def work(n):
    for i in range(100): shapes.add(n * 100 + i)
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=work, args=[n]) for n in range(1, 4)]
    work(0)
    for child in children: child.start()
    for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
"""
    )
    program.run(
        f"import subprocess, sys; subprocess.run([sys.executable, 'work.py', {method!r}], check=True)"
    )
    assert sorted(numbers_of(program).values()) == [list(range(n * 100, n * 100 + 100)) for n in range(4)]


def test_exec_begins_anew(program: Program) -> None:
    program.hook(SYMBOL)
    program.run(
        """
        import os, sys
        import shapes
        shapes.add(1)
        msprof_rs.shutdown()
        os.execv(sys.executable, [sys.executable, "-c", "import msprof_rs, shapes; shapes.add(2)"])
        """
    )
    assert sorted(numbers_of(program).values()) == [[1, 2]], "one process, two captures"


def test_exec_without_a_word_loses_nothing(program: Program) -> None:
    program.hook(SYMBOL)
    program.run("import os, shapes; shapes.add(1); os.execv('/bin/true', ['true'])")
    from_rings = program.sessions()[0]
    assert list(from_rings.glob("*.ring")), "as after a kill: parse and recover read them"


def test_a_daemon_records_after_its_parents_have_gone(program: Program) -> None:
    program.hook(SYMBOL)
    program.run(
        """
        import os, sys
        import shapes
        shapes.add(1)
        inlet, outlet = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for n in range(10, 20): shapes.add(n)
                msprof_rs.shutdown()
                os.write(outlet, b"x")
            os._exit(0)
        os.close(outlet)
        os.wait()
        assert os.read(inlet, 1) == b"x"
        """
    )
    assert sorted(numbers_of(program).values()) == [[1], list(range(10, 20))]


SUB_INTERPRETERS = """
import subprocess
import sys
try: import _interpreters as interpreters
except ImportError: import _xxsubinterpreters as interpreters

def run_in_one(code, own_lock=False):
    if sys.version_info >= (3, 13): number = interpreters.create("isolated" if own_lock else "legacy")
    else: number = interpreters.create(isolated=own_lock)
    interpreters.run_string(number, code)
    interpreters.destroy(number)

def refused(module):
    return f"try:\\n import {module}; print('let in')\\nexcept ImportError as error: print(error, flush=True)"
"""


@pytest.mark.parametrize("own_lock", [False, True])
def test_a_sub_interpreter_is_refused_and_the_main_one_records(program: Program, own_lock: bool) -> None:
    program.hook(SYMBOL)
    out, _ = program.run(
        SUB_INTERPRETERS
        + f"""
import shapes
shapes.add(1)
run_in_one(refused("msprof_rs._core"), {own_lock})
run_in_one(refused("msprof_rs"), {own_lock})
shapes.add(2)
"""
    )
    assert "let in" not in out
    assert len(out.splitlines()) == 2
    assert own_lock or out.count("records the main interpreter only") == 2
    assert list(numbers_of(program).values()) == [[1, 2]]


@pytest.mark.parametrize("later", [True, False])
def test_a_process_ends_whose_sub_interpreters_import_it_first(program: Program, later: bool) -> None:
    program.hook(SYMBOL)
    code = SUB_INTERPRETERS + "run_in_one(refused('msprof_rs')); run_in_one(refused('msprof_rs'))\n"
    if later:
        code += "import msprof_rs, shapes; shapes.add(1)\nrun_in_one(refused('msprof_rs'))"
    command = [program.python, "-c", code]
    run = subprocess.run(command, env=program.environment, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("records the main interpreter only") == 2 + later
    assert list(numbers_of(program).values()) == [[1]] * later
