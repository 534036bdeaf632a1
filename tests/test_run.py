"""`msprof-rs run`, `init`, `check`, and `python -m msprof_rs`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from capture import Capture
from program import OURS, PATIENCE, SERVICE, wait_until

REPOSITORY = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("msprof-rs"))


def environment(path: Path | None = None) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    return clean | ({"PYTHONPATH": str(path)} if path else {})


def execute(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env=environment(path), capture_output=True, text=True, timeout=PATIENCE
    )


def write(folder: Path, name: str, code: str) -> Path:
    file = folder / name
    file.write_text(textwrap.dedent(code))
    return file


PROGRAM = """
    import subprocess, sys
    import msprof_rs, shapes
    shapes.add(1)
    with msprof_rs.span("here"):
        subprocess.run([sys.executable, "-c", "import shapes; shapes.add(2)"], check=True)
    sys.exit(7)
"""


@pytest.mark.parametrize("command", [[COMMAND], [sys.executable, "-m", "msprof_rs"]])
def test_a_script_and_its_children_are_captured_and_parsed(tmp_path: Path, command: list[str]) -> None:
    write(tmp_path, "script.py", PROGRAM)
    write(tmp_path, "shapes.py", "def add(x): return x")
    write(tmp_path, "symbols.yaml", "- symbol: shapes:add")
    done = execute(
        tmp_path, *command, "run", "-o", "out", "--symbols", "symbols.yaml", "--", "script.py", path=tmp_path
    )
    assert done.returncode == 7, done.stderr
    assert "Read     2 files" in done.stdout
    spans = Capture(tmp_path / "out" / "captures").spans
    assert sorted(span.name for span in spans) == ["add", "add", "here"]
    assert len({span.pid for span in spans}) == 2
    assert (tmp_path / "out" / "output" / "chrome_tracing.json").exists()


def test_any_command_is_run_and_a_sitecustomize_of_the_users_still_works(tmp_path: Path) -> None:
    write(tmp_path, "sitecustomize.py", "import builtins; builtins.mine = True")
    code = "import sys; print(mine, 'msprof_rs' in sys.modules, any('_bootstrap' in p for p in sys.path))"
    done = execute(
        tmp_path, COMMAND, "run", "-o", "out", "--no-parse", "--", sys.executable, "-c", code, path=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "True True False\n"), done.stderr


def test_what_can_not_be_run_is_told(tmp_path: Path) -> None:
    assert "no-such-command can't be run" in execute(tmp_path, COMMAND, "run", "--", "no-such-command").stderr
    (tmp_path / "full").mkdir()
    write(tmp_path, "full/file", "")
    done = execute(tmp_path, COMMAND, "run", "-o", "full", "--", "true")
    assert done.returncode == 1
    assert "is not empty" in done.stderr


def test_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "script.py", "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()")
    runs = [
        subprocess.Popen(
            [COMMAND, "run", "--no-parse", "--", "script.py", f"ran-{number}"],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for run in runs:
        _, err = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, err
    assert len(list(tmp_path.glob("ran-*"))) == 3
    assert len(list(tmp_path.glob("msprof-*/captures/*/*.pftrace"))) == 3


def test_what_was_not_run_leaves_nothing_behind(tmp_path: Path) -> None:
    execute(tmp_path, COMMAND, "run", "--", "no-such-command")
    (tmp_path / "mine").mkdir()
    execute(tmp_path, COMMAND, "run", "-o", "mine", "--", "no-such-command")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_processes_that_come_one_after_the_other_are_one_session(tmp_path: Path) -> None:
    write(tmp_path, "one.py", "import msprof_rs\nwith msprof_rs.span('one'): pass")
    # As a daemon does: nobody collects when it begins.
    twice = f"{sys.executable} one.py && {sys.executable} one.py"
    done = execute(tmp_path, COMMAND, "run", "-o", "out", "--", "sh", "-c", twice, path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sessions" not in done.stderr
    assert "Read     2 files" in done.stdout
    assert [folder.name for folder in (tmp_path / "out").glob("output*")] == ["output"]


def test_every_session_of_a_program_that_stops_and_starts_collection_is_parsed(tmp_path: Path) -> None:
    code = """
        import msprof_rs
        for name in ("first", "second", "third"):
            msprof_rs.start()
            with msprof_rs.span(name): pass
            msprof_rs.stop()
    """
    write(tmp_path, "script.py", code)
    done = execute(tmp_path, COMMAND, "run", "-o", "out", "--", "script.py")
    assert done.returncode == 0
    assert "3 sessions" in done.stderr
    for folder, name in (("output", "first"), ("output-2", "second"), ("output-3", "third")):
        timeline = json.loads((tmp_path / "out" / folder / "chrome_tracing.json").read_text())
        events = timeline if isinstance(timeline, list) else timeline["traceEvents"]
        names = {event["name"] for event in events}
        assert names & {"first", "second", "third"} == {name}


def test_a_symbol_file_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    write(tmp_path, "script.py", "open('ran', 'w')")
    done = execute(tmp_path, COMMAND, "run", "--symbols", "symbols.yaml", "--", "script.py")
    assert done.returncode == 1
    assert "symbols.yaml: No such file" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_a_run_without_spans_says_how_to_get_some(tmp_path: Path) -> None:
    write(tmp_path, "script.py", "print('hello')")
    write(tmp_path, "symbols.yaml", "- symbol: shapes:add")
    done = execute(tmp_path, COMMAND, "run", "-o", "out", "--", "script.py")
    assert "--symbols" in done.stderr
    assert "msprof_rs.span" in done.stderr
    done = execute(tmp_path, COMMAND, "run", "-o", "else", "--symbols", "symbols.yaml", "--", "script.py")
    assert "msprof-rs check --symbols" in done.stderr


def test_a_command_that_is_told_to_end_is_parsed_all_the_same(tmp_path: Path) -> None:
    code = """
        import time, msprof_rs, pathlib
        msprof_rs.event("alive")
        pathlib.Path("ready").touch()
        time.sleep(600)
    """
    write(tmp_path, "script.py", code)
    process = subprocess.Popen(
        [COMMAND, "run", "-o", "out", "--", "script.py"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until((tmp_path / "ready").exists, "the script's start")
    process.terminate()
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    assert "1 event:" in out


def test_init_writes_what_a_server_can_start_with(tmp_path: Path) -> None:
    done = execute(tmp_path, COMMAND, "init", "conf", path=SERVICE)
    assert done.returncode == 0, done.stderr
    assert "vllm 0.32.0" in done.stdout
    config = json.loads((tmp_path / "conf" / "msprof.json").read_text())
    assert config["enable"] == 0
    assert "Scheduler.schedule" in (tmp_path / "conf" / "msprof_symbols.yaml").read_text()
    again = execute(tmp_path, COMMAND, "init", "conf")
    assert again.returncode == 1
    assert "--force" in again.stderr


def test_check_tells_what_is_there_without_importing_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        "shop.py",
        "raise SystemExit('imported')\nclass Till:\n    async def ring(self, price): ...\n",
    )
    write(
        tmp_path,
        "symbols.yaml",
        """
        - {symbol: 'shop:Till.ring', attributes: [{name: p, expr: price}]}
        - {symbol: 'shop:Till.rings'}
        """,
    )
    done = execute(tmp_path, COMMAND, "check", "--symbols", "symbols.yaml", "--json", path=tmp_path)
    assert done.returncode == 1
    first, second = json.loads(done.stdout)["entries"]
    assert (first["verdict"], first["places"][0]["line"], first["places"][0]["kind"]) == (
        "fine",
        3,
        "coroutine function",
    )
    assert second["verdict"] == "gone"
    assert "shop:Till.ring" in second["notes"][0]


def test_check_looks_into_the_current_folder_and_says_what_is_nowhere(tmp_path: Path) -> None:
    write(tmp_path, "engine.py", "class Engine:\n    def step(self): ...\n")
    write(
        tmp_path,
        "symbols.yaml",
        """
        - symbol: engine:Engine.step
        - symbol: engine:Eng*.step
        - symbol: engin:Engine.step
        - symbol: vllm_ascend.worker:Worker.step
        """,
    )
    command = [COMMAND, "check", "--symbols", "symbols.yaml", "--json"]
    done = execute(tmp_path, *command)
    assert done.returncode == 0, done.stdout
    entries = json.loads(done.stdout)["entries"]
    assert [entry["verdict"] for entry in entries] == ["fine", "fine", "absent", "absent"]
    assert "engin is installed or in the current folder" in entries[2]["notes"][0]
    assert entries[3]["notes"] == []  # a file may name several frameworks
    if sys.version_info < (3, 11):
        return  # Python has no such setting yet
    done = execute(tmp_path, "env", "PYTHONSAFEPATH=1", *command)
    entries = json.loads(done.stdout)["entries"]
    assert {entry["verdict"] for entry in entries} == {"absent"}
    assert "no package or module engin is installed: is it spelt right?" in entries[2]["notes"][0]


def test_check_takes_what_is_in_the_current_folder_before_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "installed").mkdir()
    write(tmp_path, "installed/engine.py", "class Engine:\n    def halt(self): ...\n")
    write(tmp_path, "engine.py", "class Engine:\n    def step(self): ...\n")
    write(tmp_path, "symbols.yaml", "- symbol: engine:Engine.step\n")
    command = [COMMAND, "check", "--symbols", "symbols.yaml"]
    done = execute(tmp_path, "env", "PYTHONPATH=installed", *command)
    assert done.returncode == 0, done.stdout
    if sys.version_info < (3, 11):
        return  # Python has no such setting yet
    done = execute(tmp_path, "env", "PYTHONPATH=installed", "PYTHONSAFEPATH=1", *command)
    assert done.returncode == 1, done.stdout


def test_handlers_that_record_nothing_are_thought_of_where_there_is_no_span(tmp_path: Path) -> None:
    write(tmp_path, "engine.py", "def step(number): ...")
    write(tmp_path, "quiet.py", "def pass_on(original, this): return original(this)")
    write(tmp_path, "h.yaml", "- {symbol: 'engine:step', handler: 'quiet:pass_on'}")
    write(tmp_path, "script.py", "import engine; engine.step(1)")
    done = execute(tmp_path, COMMAND, "run", "--symbols", "h.yaml", "-o", "out", "--", "script.py")
    assert "or the handlers recorded nothing" in done.stderr, done.stderr


def test_a_program_that_serves_nothing_gets_its_spans(tmp_path: Path) -> None:
    write(tmp_path, "script.py", "import msprof_rs\nwith msprof_rs.span('work'): pass")
    done = execute(tmp_path, COMMAND, "run", "-o", "out", "--", "script.py")
    assert done.returncode == 0, done.stderr
    assert "engine idle" not in done.stdout
    assert "Total ms" in done.stdout
    assert "/work" in done.stdout


def test_the_quick_start_of_the_readme_is_the_example() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    example = (REPOSITORY / "examples" / "any_program.yaml").read_text()
    assert example.partition("\n")[2] in readme


def test_the_example_of_the_quick_start_is_recorded(tmp_path: Path) -> None:
    example = REPOSITORY / "examples" / "any_program"
    done = execute(
        tmp_path, COMMAND, "run", "-o", "out", "--symbols", f"{example}.yaml", "--", f"{example}.py"
    )
    assert done.returncode == 0, done.stderr
    assert {span.name for span in Capture(tmp_path / "out" / "captures").spans} == {
        "price_of",
        "total",
        "delivery",
    }


def test_a_symbol_in_the_script_itself_is_told_what_to_do_instead(tmp_path: Path) -> None:
    write(tmp_path, "script.py", "def f(): pass\nf()")
    write(tmp_path, "symbols.yaml", "- symbol: __main__:f")
    done = execute(tmp_path, COMMAND, "run", "-o", "out", "--symbols", "symbols.yaml", "--", "script.py")
    assert "__main__:f is not hooked" in done.stderr
    assert "@msprof_rs.timed" in done.stderr
