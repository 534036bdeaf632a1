"""Flight mode: nothing is written until somebody asks, or until a call is slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture import Capture
from perfetto_sql import NODE, TraceProcessor
from program import PATIENCE, Program, wait_until

ADD = "- {symbol: 'shapes:add', domain: Test, attributes: [{name: a, expr: a}]"


def numbers(folder: Path) -> list[int]:
    return [span.attributes["a"] for span in Capture(folder).named("add")]


def dumps(program: Program) -> list[Path]:
    return [folder for folder in program.sessions() if "-dump-" in folder.name]


def test_a_dump_has_what_is_remembered(hooked: Program) -> None:
    hooked.hook(ADD + "}")
    hooked.configure(mode="flight")
    out, _ = hooked.run(
        """
        import shapes
        for i in range(1000): shapes.add(i)
        print(msprof_rs.dump("because"))
        shapes.add(1000)
        """
    )
    folder = Path(out.strip())
    assert folder.parent == hooked.prof_dir
    assert numbers(folder) == list(range(1000))
    if NODE is not None:
        (dump,) = folder.glob("*.pftrace")
        with TraceProcessor(dump.read_bytes()) as processor:
            assert processor.query("select count(*) as n from slice where name = 'add'") == [{"n": 1000}]
    (session,) = (folder for folder in hooked.sessions() if "-dump-" not in folder.name)
    assert numbers(session) == list(range(1001)), "the end writes it too"


def test_without_flight_mode_a_dump_says_what_is_missing(program: Program) -> None:
    out, _ = program.run(
        """
        try: msprof_rs.dump()
        except RuntimeError as error: print(error)
        msprof_rs.stop()
        try: msprof_rs.dump()
        except RuntimeError as error: print(error)
        """
    )
    not_flying, off = out.splitlines()
    assert '"mode": "flight"' in not_flying
    assert "all is in the capture" in not_flying
    assert "collection is off" in off


@pytest.mark.parametrize("name", ["slow", "slow_coroutine", "slow_generator"])
def test_a_slow_call_asks_for_a_dump(hooked: Program, name: str) -> None:
    hooked.hook(f"- {{symbol: 'slowness:{name}', domain: Test, dump_over: 200ms}}")
    (hooked.folder / "slowness.py").write_text(
        """
import asyncio, time
def slow(seconds): time.sleep(seconds)
async def slow_coroutine(seconds): await asyncio.sleep(seconds)
def slow_generator(seconds):
    time.sleep(seconds)
    yield seconds
def run(name, seconds):
    outcome = globals()[name](seconds)
    if name == "slow_coroutine":
        asyncio.run(outcome_of(outcome))
    elif name == "slow_generator":
        list(outcome)
async def outcome_of(coroutine): await coroutine
"""
    )
    hooked.configure(mode="flight")
    process = hooked.start(
        f"""
        import slowness
        slowness.run({name!r}, 0)
        slowness.run({name!r}, 0.25)
        input()
        """,
        PYTHONPATH=str(hooked.folder),
    )
    wait_until(
        lambda: process.poll() is not None or any(folder.glob("*.pftrace") for folder in dumps(hooked)),
        "a dump",
    )
    _, err = process.communicate("\n", timeout=PATIENCE)
    assert f"slowness:{name} took 2" in err
    (folder,) = dumps(hooked)
    assert len(Capture(folder).named(name)) == 2


def test_a_slow_call_that_is_not_meant_asks_for_none(hooked: Program) -> None:
    hooked.hook("- {symbol: 'slowness:slow', dump_over: 200ms, caller_filter: meant}")
    (hooked.folder / "slowness.py").write_text(
        """
import time
def slow(seconds): time.sleep(seconds)
def meant(seconds): slow(seconds)
"""
    )
    hooked.configure(mode="flight")
    _, err = hooked.run(
        "import slowness; slowness.slow(0.25); slowness.meant(0.55)", PYTHONPATH=str(hooked.folder)
    )
    assert "slowness:slow took 5" in err
    assert "slowness:slow took 2" not in err


def test_of_sampled_calls_one_in_so_many_is_recorded(hooked: Program) -> None:
    hooked.hook(ADD + ", sample: 1/100}")
    hooked.run("import shapes\nfor i in range(1000): shapes.add(i)")
    assert numbers(hooked.prof_dir) == list(range(0, 1000, 100))


def test_the_command_asks_all_processes_of_a_server(program: Program) -> None:
    program.hook(ADD + "}")
    program.configure(mode="flight")
    code = "import shapes; shapes.add({}); print('ready', flush=True); input()"
    processes = [program.start(code.format(n)) for n in range(3)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    outcome = program.command("dump", str(program.config))
    assert outcome.returncode == 0, outcome.stderr
    assert sorted(numbers(Path(outcome.stdout.strip()))) == [0, 1, 2]
    for process in processes:
        process.communicate("\n", timeout=PATIENCE)


def test_dumps_of_one_process_that_are_read_together_are_told(hooked: Program) -> None:
    hooked.hook(ADD + "}")
    hooked.configure(mode="flight")
    hooked.run(
        """
        import shapes
        for i in range(100): shapes.add(i)
        msprof_rs.dump("a")
        msprof_rs.dump("b")
        """
    )
    together = hooked.command(
        "parse", "--input-path", str(hooked.prof_dir), "--output-path", str(hooked.folder / "together")
    )
    assert together.returncode == 3
    assert "3 captures of a flight recorder are of processes with several here" in together.stdout
    assert "1 process" in together.stdout
    stats = hooked.command("stats", str(hooked.prof_dir))
    assert stats.returncode == 3
    assert "3 captures are dumps of processes that have others here" in stats.stderr
    for folder in hooked.sessions():
        alone = hooked.command("stats", str(folder))
        assert (alone.returncode, "captures are dumps" in alone.stderr) == (0, False)
