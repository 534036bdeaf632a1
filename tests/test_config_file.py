"""What the recorder and the commands write into a user's config, wherever it lies and whoever else has it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from program import PATIENCE, Program

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, or gives files away: only root can")

UNTIL_THE_LIMIT = """
import msprof_rs, processes
msprof_rs.event("x")
processes.wait_until(lambda: not msprof_rs.is_enabled(), "the time limit")
"""
STOP = "import msprof_rs; msprof_rs.event('x'); print('stopped:', msprof_rs.stop())"


def settings(program: Program) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(program.config.read_text())
    return read


def in_a_namespace(program: Program, before: str, code: str) -> str:
    """Runs a program with mounts of its own, which a shell makes before; gives what it wrote."""
    script = program.folder / "script.py"
    script.write_text("import msprof_rs\n" + code)
    outcome = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{before} && exec {program.python} {script}"],
        env=program.environment,
        cwd=program.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


def test_the_config_stays_the_same_file_under_all_of_its_names(program: Program) -> None:
    program.hook("[]")
    program.configure(timelimit=1)
    program.config.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(program.config, 65534, 65533)
    real = program.folder / "real.json"
    os.link(program.config, real)
    former = real.stat()
    program.config.rename(program.folder / "hard.json")
    program.config.symlink_to("hard.json")
    program.folder.chmod(0o555)  # nobody but root could put another file into the place of this one
    try:
        program.run(UNTIL_THE_LIMIT)
    finally:
        program.folder.chmod(0o755)
    assert settings(program)["enable"] == 0
    assert json.loads(real.read_text())["enable"] == 0
    assert program.config.is_symlink()
    now = real.stat()
    for key in ("st_ino", "st_mode", "st_uid", "st_gid", "st_nlink"):
        assert getattr(now, key) == getattr(former, key), key


def test_a_commands_switches_are_followed_each_though_the_file_stays_the_same(program: Program) -> None:
    program.hook("[]")
    program.configure(enable=0)
    inode = program.config.stat().st_ino
    code = "import msprof_rs\n" + "assert msprof_rs.start() and msprof_rs.stop()\n" * 10
    program.run(code)
    assert len(program.sessions()) == 10
    assert program.command("start", str(program.config)).returncode == 0
    assert settings(program)["enable"] == 1
    assert program.config.stat().st_ino == inode


@needs_root
def test_a_config_that_is_mounted_as_one_file_is_switched_off(program: Program) -> None:
    program.hook("[]")
    program.configure(timelimit=1)
    mount = f"cp config.json outside.json && mount --bind outside.json {program.config}"
    in_a_namespace(program, mount, UNTIL_THE_LIMIT)
    assert json.loads((program.folder / "outside.json").read_text())["enable"] == 0
    assert settings(program)["enable"] == 1, "this one was hidden"
    log = in_a_namespace(program, mount, STOP)
    assert "stopped: True" in log
    assert json.loads((program.folder / "outside.json").read_text())["enable"] == 0


@needs_root
def test_a_config_that_can_not_be_written_is_told_with_what_follows_from_it(program: Program) -> None:
    program.hook("[]")
    program.configure(timelimit=1)
    read_only = f"mount --bind {program.config} {program.config} && mount -o remount,ro,bind {program.config}"
    told = (
        f'{program.config}: can\'t be written: Read-only file system (os error 30). "enable" is still 1 there'
    )
    assert in_a_namespace(program, read_only, UNTIL_THE_LIMIT).count(told) == 1
    words = [program.python, "-m", "msprof_rs", "stop", str(program.config)]
    assert told in in_a_namespace(program, read_only, f"import subprocess; subprocess.run({words!r})")
    assert settings(program)["enable"] == 1
