"""What was written for msServiceProfiler works: its imports, its symbol files, and both side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import msprof_rs
from program import Program

HANDLER = """
from ms_service_profiler import Level, Profiler
from ms_service_profiler.patcher.core.module_hook import patcher

@patcher(("shapes", "add"), min_version="0.9.1")
def add(original, this, *args, **kwargs):
    with Profiler(Level.INFO).domain("Old").res("r1").span_start("add"):
        return original(this, *args, **kwargs)
"""
SYMBOLS = "- {symbol: 'shapes:add', handler: 'old_handlers:add'}"
FOLDER = Path(msprof_rs.__file__).parent / "_drop_in"


def test_handlers_find_what_they_import(hooked: Program) -> None:
    (hooked.folder / "old_handlers.py").write_text(HANDLER)
    hooked.hook(SYMBOLS)
    path = f"{hooked.folder}:{hooked.environment['PYTHONPATH']}"
    out, err = hooked.run("import shapes; print(shapes.add(1))", PYTHONPATH=path)
    assert out == "2\n", err
    (span,) = hooked.capture().spans
    assert (span.domain, span.name, span.attributes) == ("Old", "add", {"rid": "r1"})


def test_where_the_real_one_is_installed_it_is_used(program: Program) -> None:
    real = program.folder / "real" / "ms_service_profiler"
    real.mkdir(parents=True)
    (real / "__init__.py").write_text("WHICH = 'real'\n")
    program.hook("[]")
    path = f"{real.parent}:{program.environment['PYTHONPATH']}"
    out, _ = program.run("import ms_service_profiler; print(ms_service_profiler.WHICH)", PYTHONPATH=path)
    assert out == "real\n"


def test_where_the_real_one_hooks_ours_does_not(program: Program) -> None:
    real = program.folder / "real"
    info = real / "ms_service_profiler-1.0.dist-info"
    for folder in (real / "ms_service_profiler", info):
        folder.mkdir(parents=True)
    (real / "ms_service_profiler" / "__init__.py").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ms_service_profiler\nVersion: 1.0\n")
    plugin = "[vllm.general_plugins]\nms = ms_service_profiler.patcher.vllm:register_service_profiler\n"
    (info / "entry_points.txt").write_text(plugin)
    program.hook("- symbol: shapes:add")
    path = f"{real}:{program.environment['PYTHONPATH']}"
    code = "import shapes; shapes.add(1); msprof_rs.event('own')"
    _, err = program.run(code, PYTHONPATH=path)
    assert "hooked by that one, not twice" in err
    assert [event.name for _, event in program.capture().events if event.domain != "Meta"] == ["own"]
    # vLLM's own switch says whose plugin is loaded.
    _, err = program.run(code, PYTHONPATH=path, VLLM_PLUGINS="msprof_rs")
    assert "not twice" not in err
    assert "add" in {span.name for span in program.capture().spans}


def test_the_package_parses_by_its_own_name(program: Program) -> None:
    program.hook("[]")
    program.run("msprof_rs.event('e')")
    folders = ["--input-path", str(program.prof_dir), "--output-path", str(program.folder / "out")]
    done = program.execute(
        [sys.executable, "-m", "ms_service_profiler.parse", *folders],
        PYTHONPATH=str(FOLDER),
    )
    assert done.returncode == 0, done.stderr
    assert (program.folder / "out" / "chrome_tracing.json").exists()


@pytest.mark.parametrize("verb", ["parse", "analyze", "compare", "split"])
def test_each_verb_has_its_own_module(verb: str, program: Program) -> None:
    command = [sys.executable, "-m", f"ms_service_profiler.{verb}", "--help"]
    done = program.execute(command, PYTHONPATH=str(FOLDER))
    assert (done.returncode, f" {verb} " in done.stdout) == (0, True), done.stderr
