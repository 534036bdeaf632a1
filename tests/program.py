"""Runs a small program under the profiler, in a folder of its own, and reads what was captured of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capture import Capture

PROGRAMS = Path(__file__).with_name("programs")
SERVICE = Path(__file__).parent.parent / "examples" / "service"
PATIENCE = 60.0
"""Seconds after which something counts as not happening; no test waits that long on purpose."""

OURS = (
    "SERVICE_PROF_CONFIG_PATH",
    "PROFILING_SYMBOLS_PATH",
    "MSPROF_FRAMEWORK_VERSION",
    "MSPROF_FORCE_WRAPPER",
)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Polls for what another process does; gives the condition's value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE} s"
        time.sleep(0.005)
    return value


class Program:
    """The config, the symbols and the captures of one test."""

    def __init__(self, folder: Path, force_wrapper: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.python = sys.executable
        self.folder = folder
        self.config = folder / "config.json"
        self.symbols = folder / "symbols.yaml"
        self.prof_dir = folder / "captures"
        self.environment = {name: value for name, value in os.environ.items() if name not in OURS}
        self.environment |= {
            "SERVICE_PROF_CONFIG_PATH": str(self.config),
            "PROFILING_SYMBOLS_PATH": str(self.symbols),
            "PYTHONPATH": os.pathsep.join((str(PROGRAMS), str(SERVICE))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder),
        }
        if force_wrapper:
            self.environment["MSPROF_FORCE_WRAPPER"] = "1"
        self.configure()

    def configure(self, **keys: Any) -> None:
        """Writes the collection config: on, into `prof_dir`, unless the keys say otherwise."""
        settings = {"enable": 1, "prof_dir": str(self.prof_dir)} | keys
        self.config.write_text(json.dumps(settings, indent=4))

    def switch(self, enable: int) -> None:
        """Does what `sed -i` does: a new file with one value changed takes the place of the old one."""
        text = re.sub(r'"enable":\s*\d', f'"enable": {enable}', self.config.read_text())
        changed = self.config.with_suffix(".sed")
        changed.write_text(text)
        changed.replace(self.config)

    def hook(self, symbols: str) -> None:
        """Writes the symbols file."""
        self.symbols.write_text(textwrap.dedent(symbols))

    def start(self, code: str, **environment: str) -> subprocess.Popen[str]:
        """Starts a program that imports the profiler first."""
        return subprocess.Popen(
            [self.python, "-c", "import msprof_rs\n" + textwrap.dedent(code)],
            env=self.environment | environment,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, code: str, exit_code: int = 0, patience: float = PATIENCE, **environment: str
    ) -> tuple[str, str]:
        """Runs it to its end; gives what it wrote to stdout and stderr."""
        process = self.start(code, **environment)
        out, err = process.communicate(timeout=patience)
        assert process.returncode == exit_code, f"exit code {process.returncode}\n{out}\n{err}"
        return out, err

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs `msprof-rs` with these words, outside of the profiled program."""
        return self.execute([str(Path(sys.executable).with_name("msprof-rs")), *words])

    def execute(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command without the profiler."""
        return subprocess.run(
            command,
            env={name: value for name, value in self.environment.items() if name not in OURS} | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def sessions(self) -> list[Path]:
        """The session folders, oldest first."""
        if not self.prof_dir.exists():
            return []
        return sorted(
            (path for path in self.prof_dir.iterdir() if path.is_dir()),
            key=lambda path: path.stat().st_mtime_ns,
        )

    def capture(self) -> Capture:
        """Everything below `prof_dir`."""
        return Capture(self.prof_dir)
