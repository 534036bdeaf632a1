"""Random programs do the same bare and hooked: results, exceptions, side effects, their order, and looks.

`TORTURE=1000` in the environment runs so many batches of programs instead of a few (`make torture`).
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import HOOK_KINDS, IN_PLACE
from program import PATIENCE
from program import Program as Profiled
from torture.programs import Program, programs

OUTCOMES = Path(__file__).with_name("outcomes.py")
BATCHES = int(os.environ.get("TORTURE", "12"))
RUN = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
folders = itertools.count()


def write(folder: Path, batch: list[Program]) -> None:
    """The modules, and the symbols file that hooks all of them."""
    for number, program in enumerate(batch):
        (folder / f"program_{number}.py").write_text(program.source)
    (folder / "programs.json").write_text(json.dumps([dataclasses.asdict(program) for program in batch]))
    entries = [
        {
            "symbol": f"program_{number}:{symbol}",
            "attributes": [{"name": f"n{n}", "expr": expr} for n, expr in enumerate(program.attributes)],
        }
        for number, program in enumerate(batch)
        for symbol in program.symbols
    ]
    (folder / "symbols.yaml").write_text(json.dumps(entries))


def told(folder: Path, environment: dict[str, str], *arguments: str) -> list[str]:
    """What can be seen of a run."""
    start = "import msprof_rs; " if "SERVICE_PROF_CONFIG_PATH" in environment else ""
    run = subprocess.run(
        [sys.executable, "-c", start + RUN, str(OUTCOMES), str(folder), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def differences(bare: list[str], hooked: list[str], batch: list[Program]) -> str:
    """A readable account, empty if there are none."""
    different = list(difflib.unified_diff(bare, hooked, "bare", "hooked", lineterm="", n=0))
    if not different:
        return ""
    numbers = {json.loads(line[1:])[0] for line in different if line[1:2] == "["}
    sources = [f"# program_{number}\n{batch[number].source}" for number in sorted(numbers)]
    return "\n".join([*different, *sources])


def environment(folder: Path) -> dict[str, str]:
    """Nothing of ours."""
    profiled = Profiled(folder)
    ours = ("SERVICE_PROF_CONFIG_PATH", "PROFILING_SYMBOLS_PATH")
    return {name: value for name, value in profiled.environment.items() if name not in ours}


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("kind", HOOK_KINDS)
def test_random_programs_do_the_same_bare_and_hooked(kind: str, tmp_path: Path) -> None:
    @settings(
        max_examples=BATCHES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # the account names the programs; to make them smaller takes long
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        batch = data.draw(st.lists(programs(), min_size=15, max_size=25))
        folder = tmp_path / str(next(folders))
        profiled = Profiled(folder, force_wrapper=IN_PLACE and kind == "wrapper")
        write(folder, batch)
        bare = told(folder, environment(folder))
        hooked = told(folder, profiled.environment | {"PROF_LOG_LEVEL": "ERROR"})
        assert (account := differences(bare, hooked, batch)) == "", account
        assert any(profiled.prof_dir.rglob("*.pftrace"))

    compare()


@pytest.mark.parametrize("double", ["naive", "twice", "silent"])
def test_a_wrong_wrapper_is_found_out(double: str, tmp_path: Path) -> None:
    program = Program(
        source=(
            "import asyncio\nLOG = []\n"
            "def f0(a, b=1):\n    'Adds.'\n    LOG.append(a)\n    if a: raise ValueError(a)\n    return b\n"
        ),
        symbols=["f0"],
        calls=["f0(0)", "f0(1)"],
    )
    write(tmp_path, [program])
    bare_environment = environment(tmp_path)
    bare = told(tmp_path, bare_environment)
    assert differences(bare, told(tmp_path, bare_environment), [program]) == ""
    assert differences(bare, told(tmp_path, bare_environment, double), [program])
