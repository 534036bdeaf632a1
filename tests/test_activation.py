"""Importing the package switches it on, or does nothing at all."""

from __future__ import annotations

import json
import re
from importlib import metadata

import pytest

from program import Program

SYMBOL = """
    - symbol: shapes:add
      domain: Test
"""

STATE = """
    import json, os, sys, shapes
    from processes import threads
    print(json.dumps({
        "threads": threads(),
        "finders": [type(finder).__module__ for finder in sys.meta_path],
        "add": [type(shapes.add).__name__, shapes.add.__module__, shapes.add(1)],
        "native": "msprof_rs._core" in sys.modules,
    }))
"""


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_there_is_no_thread_no_file_and_no_hook(
    program: Program, value: str | None
) -> None:
    program.hook(SYMBOL)
    program.config.unlink()
    del program.environment["SERVICE_PROF_CONFIG_PATH"]
    if value is not None:
        program.environment["SERVICE_PROF_CONFIG_PATH"] = value
    out, err = program.run(STATE)
    state = json.loads(out)
    assert len(state["threads"]) == 1
    assert not [finder for finder in state["finders"] if finder.startswith("msprof_rs")]
    assert state["add"] == ["function", "shapes", 2]
    assert not state["native"]
    assert err == ""
    assert sorted(path.name for path in program.folder.iterdir()) == ["symbols.yaml"]


def test_a_missing_config_is_created_with_the_defaults_and_collection_is_off(hooked: Program) -> None:
    hooked.config.unlink()
    hooked.hook(SYMBOL)
    out, _ = hooked.run("import shapes; print(shapes.add(1), msprof_rs.is_enabled())")
    assert out == "2 False\n"
    assert list(json.loads(hooked.config.read_text()).items()) == [
        ("enable", 0),
        ("prof_dir", f"{hooked.folder}/.ms_server_profiler/"),
        ("profiler_level", "INFO"),
        ("acl_task_time", 0),
        ("acl_prof_task_time_level", "L0"),
        ("timelimit", 0),
        ("domain", ""),
    ]
    assert '\n    "enable": 0,' in hooked.config.read_text()
    assert not hooked.capture().files


def test_activating_again_changes_nothing(hooked: Program) -> None:
    hooked.hook(SYMBOL)
    hooked.run(
        """
        import msprof_rs.vllm, shapes
        for _ in range(3):
            msprof_rs.vllm.register()
        shapes.add(1)
        """
    )
    assert len(hooked.capture().named("add")) == 1


def test_vllm_finds_the_plugin() -> None:
    (entry,) = metadata.entry_points(group="vllm.general_plugins", name="msprof_rs")
    assert entry.value == "msprof_rs.vllm:register"


def test_the_helper_that_inspects_model_classes_is_left_alone(program: Program) -> None:
    """vLLM runs `python -m vllm.model_executor.models.registry` for each model class."""
    package = program.folder / "fake" / "vllm" / "model_executor" / "models"
    package.mkdir(parents=True)
    for parent in (package, *package.parents[:2]):
        (parent / "__init__.py").touch()
    (package / "registry.py").write_text(
        "import msprof_rs, processes\nprint(len(processes.threads()), msprof_rs.is_enabled())\n"
    )
    program.hook(SYMBOL)
    path = f"{program.folder}/fake:{program.environment['PYTHONPATH']}"
    out, _ = program.run(
        """
        import subprocess, sys
        subprocess.run([sys.executable, "-m", "vllm.model_executor.models.registry"], check=True)
        """,
        PYTHONPATH=path,
    )
    assert out == "1 False\n"


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.10.2", ["always", "old"]), ("0.11.0rc1", ["always", "old"]), ("0.32.0+cpu", ["always", "new"])],
)
def test_version_limits_are_those_of_the_framework(
    program: Program, version: str, expected: list[str]
) -> None:
    program.hook(
        """
        - {symbol: "shapes:add", name: always}
        - {symbol: "shapes:Shape.area", name: old, max_version: 0.11.0}
        - {symbol: "shapes:Shape.unit", name: new, min_version: "0.12"}
        """
    )
    program.run(
        "import shapes; shapes.add(1); shapes.Shape().area(); shapes.Shape.unit()",
        MSPROF_FRAMEWORK_VERSION=version,
    )
    assert sorted(span.name for span in program.capture().spans) == expected


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"timelimit": "soon"}, "timelimit"),
        ({"profiler_level": "LOUD"}, "profiler_level"),
        ({"domain": 3}, "domain"),
        ({"prof_dir": 3}, "prof_dir"),
        ({"acl_task_time": 1}, "acl_task_time"),
    ],
)
def test_a_bad_value_is_named_and_the_program_goes_on(
    program: Program, keys: dict[str, object], said: str
) -> None:
    program.hook(SYMBOL)
    program.configure(**keys)
    out, err = program.run("import shapes; print(shapes.add(1))")
    assert out == "2\n"
    assert re.search(rf"config\.json.*\b{said}\b|\b{said}\b.*config\.json", err), err


def test_a_bad_symbol_is_named_by_file_and_line_and_the_others_work(hooked: Program) -> None:
    hooked.hook(
        """\
        - symbol: shapes:add
        - symbol: shapes.add
        - symbol: shapes:nothing_of_this_name
        - symbol: shapes:Shape.area
        """
    )
    out, err = hooked.run("import shapes; print(shapes.add(1), shapes.Shape().area())")
    assert out == "2 4\n"
    assert {span.name for span in hooked.capture().spans} == {"add", "area"}
    assert re.search(r"symbols\.yaml:2\b", err), err
    assert re.search(r"symbols\.yaml:3\b", err), err


def test_a_missing_symbols_file_is_written_so_that_it_can_be_edited(program: Program) -> None:
    program.symbols = program.folder / "new" / "symbols.yaml"
    program.run("pass", PROFILING_SYMBOLS_PATH=str(program.symbols))
    assert "vllm.v1.core.sched.scheduler:Scheduler.schedule" in program.symbols.read_text()


def test_a_profiler_that_can_not_start_is_told_and_the_program_goes_on(program: Program) -> None:
    out, err = program.run(
        """
        import os
        from msprof_rs import _core
        def activate(*args): raise OSError(11, "no thread to be had")
        _core.activate = activate
        os.environ["SERVICE_PROF_CONFIG_PATH"] = "config.json"
        print(msprof_rs.activate(), msprof_rs.is_enabled())
        with msprof_rs.span("a"):
            print("goes on")
        """,
        SERVICE_PROF_CONFIG_PATH="",
    )
    assert out == "False False\ngoes on\n"
    assert err.count("no thread to be had") == 1
