"""The profiler in the process of a bench: its files, its switch, and what it captured."""

from __future__ import annotations

import json
import os
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

# An entry's name is looked for in the capture, so each is unmistakable.
TAKEN_OUT = "- {symbol: 'targets:TakenOut.method', domain: Bench, name: a_taken_out_method}\n"
SYMBOLS = """
- {symbol: 'targets:Plain.method', domain: Bench, name: a_plain_method}
- {symbol: 'targets:Attributes.method', domain: Bench, name: a_method_with_attributes, attributes: [
    {name: argument, expr: 'args[1] | str'},
    {name: field, expr: 'this | attr n'},
    {name: length, expr: 'return | len'}]}
- {symbol: 'targets:Elsewhere.method', domain: Elsewhere, name: a_method_elsewhere}
- {symbol: 'targets:Plain.coroutine', domain: Bench, name: a_coroutine}
- {symbol: 'targets:Plain.items', domain: Bench, name: a_generator}
- {symbol: 'targets:Plain.async_items', domain: Bench, name: an_async_generator}
"""

PATIENCE = 30


class Profiler:
    """Collects from the start, and gives the hooked module as `targets`."""

    targets: ModuleType

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config, self._symbols = folder / "config.json", folder / "symbols.yaml"
        self._symbols.write_text(SYMBOLS + TAKEN_OUT)
        self._write_config(1)
        os.environ["SERVICE_PROF_CONFIG_PATH"] = str(self._config)
        os.environ["PROFILING_SYMBOLS_PATH"] = str(self._symbols)
        os.environ["PROF_LOG_LEVEL"] = "WARNING"  # events that are lost would be told
        self._msprof_rs = import_module("msprof_rs")
        self._wait(recording=True)
        self.targets = import_module("targets")

    def _write_config(self, enable: int) -> None:
        config = {"enable": enable, "prof_dir": str(self._folder / "captures"), "domain": "Bench"}
        following = self._config.with_suffix(".next")
        following.write_text(json.dumps(config))
        following.replace(self._config)

    def _wait(self, recording: bool) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._msprof_rs.is_recording() != recording:
            if time.monotonic() > deadline:
                raise TimeoutError(f"is_recording() did not become {recording}")
            time.sleep(0.01)

    def switch(self, on: bool) -> None:
        """Starts or ends a collection."""
        self._write_config(int(on))
        self._wait(recording=on)

    def take_out(self) -> None:
        """Removes an entry from the symbol file; its function is unhooked at the next start."""
        self._symbols.write_text(SYMBOLS)

    def end(self) -> bytes:
        """Ends the profiler, and gives all that it has written."""
        self._msprof_rs.shutdown()
        return b"".join(path.read_bytes() for path in self._folder.glob("captures/**/*.pftrace"))
