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
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import HOOK_KINDS, IN_PLACE
from program import PATIENCE
from program import Program as Profiled
from torture.doubles import DEEDS, LOOKS
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
    assert "not hooked" not in run.stderr, run.stderr
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
        hooked = told(folder, profiled.environment | {"PROF_LOG_LEVEL": "WARNING"})
        assert (account := differences(bare, hooked, batch)) == "", account
        capture = profiled.capture()
        assert capture.spans
        assert capture.dropped == 0

    compare()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Some random programs, and what they do bare."""
    folder = tmp_path_factory.mktemp("sample")
    batches: list[list[Program]] = []

    @settings(max_examples=4, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.lists(programs(), min_size=15, max_size=25))
    def keep(batch: list[Program]) -> None:
        batches.append(batch)

    keep()
    write(folder, [program for batch in batches for program in batch])
    return folder, told(folder, environment(folder))


def of_kind(kind: str, lines: list[str]) -> list[str]:
    """How things look, or what calls do."""
    return [line for line in lines if json.loads(line)[1] == kind]


@pytest.mark.parametrize("double", LOOKS, ids=lambda double: double.__name__)
def test_a_hook_that_looks_wrong_is_found_out(double: Any, sample: tuple[Path, list[str]]) -> None:
    folder, bare = sample
    assert of_kind("look", told(folder, environment(folder), double.__name__)) != of_kind("look", bare)


@pytest.mark.parametrize("double", DEEDS, ids=lambda double: double.__name__)
def test_a_hook_that_does_wrong_is_found_out_by_calls(double: Any, sample: tuple[Path, list[str]]) -> None:
    folder, bare = sample
    assert of_kind("call", told(folder, environment(folder), double.__name__)) != of_kind("call", bare)


def test_what_is_compared_is_the_same_each_time(sample: tuple[Path, list[str]]) -> None:
    folder, bare = sample
    assert told(folder, environment(folder)) == bare
