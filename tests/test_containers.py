"""Containers that share memory, a config or a disk: who is in a session with whom. `unshare` plays them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from program import PATIENCE, Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts: only root can")

CONTAINER = ["unshare", "-m", "-p", "-f", "--mount-proc", "sh", "-c"]

WORK = """
import os, sys, time, msprof_rs
folder, name, count = sys.argv[1:]
while not msprof_rs.is_enabled(): time.sleep(0.01)
with msprof_rs.span(name): pass
open(f"{folder}/{name}", "w").close()
while len(os.listdir(folder)) < int(count): time.sleep(0.01)
time.sleep(0.5)  # in which processes that drive each other out of their sessions do so six times
with msprof_rs.span(name): pass
"""


def containers(program: Program, before: dict[str, str]) -> dict[str, str]:
    """Runs a program in each of these containers, which a shell makes; gives what they wrote to stderr."""
    script, there = program.folder / "work.py", program.folder / "there"
    script.write_text(WORK)
    there.mkdir()
    running = {
        name: subprocess.Popen(
            [*CONTAINER, f"{prepare}; {program.python} {script} {there} {name} {len(before)}; :"],
            env=program.environment,
            cwd=program.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, prepare in before.items()
    }
    return {name: process.communicate(timeout=PATIENCE)[1] for name, process in running.items()}


def folder(program: Program, *names: str) -> Path:
    made = program.folder.joinpath(*names)
    made.mkdir(parents=True)
    return made


def started(log: str) -> list[str]:
    return re.findall(r"collection started: (\S+)", log)


def test_different_configs_at_one_path_are_different_servers(program: Program) -> None:
    program.hook("[]")
    etc, volume = folder(program, "etc"), folder(program, "volume")
    program.environment["SERVICE_PROF_CONFIG_PATH"] = str(etc / "config.json")
    mounts = {}
    for name in ("decode", "prefill"):
        own_etc, own_volume = folder(program, name, "etc"), folder(program, name, "volume")
        config = {"enable": 1, "prof_dir": str(volume / "captures")}
        (own_etc / "config.json").write_text(json.dumps(config))
        mounts[name] = f"mount --bind {own_etc} {etc}; mount --bind {own_volume} {volume}"
    for name, log in containers(program, mounts).items():
        assert len(started(log)) == 1, log
        assert len(list((program.folder / name / "volume/captures").iterdir())) == 1


def test_one_config_and_one_disk_are_one_session(program: Program) -> None:
    program.hook("[]")
    logs = containers(program, dict.fromkeys(("decode", "prefill"), ":"))
    assert all(len(started(log)) == 1 for log in logs.values()), logs
    assert len(program.sessions()) == 1


def test_one_config_and_two_disks_are_two_sessions_which_is_said_once(program: Program) -> None:
    program.hook("[]")
    program.prof_dir.mkdir()
    own = {name: folder(program, name) for name in ("decode", "prefill")}
    logs = containers(
        program, {name: f"mount --bind {disk} {program.prof_dir}" for name, disk in own.items()}
    )
    for name, log in logs.items():
        assert len(started(log)) == 1, log
        assert len(list(own[name].iterdir())) == 1
    assert sum(log.count("that folder can't be seen here") for log in logs.values()) == 1, logs
