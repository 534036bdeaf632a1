"""The profiler in the process of a bench: its files, its switch, and what it captured."""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from collections.abc import Callable
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

# Where the header of a ring has its numbers: `src/ring/layout.rs`.
RING_MAGIC = b"msprof\0\2"
CAPACITY, HEAD, DROPPED, TAIL = 8, 120, 128, 200


class Ring:
    """What a ring holds that the flusher has not fetched yet."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._header = mmap.mmap(file.fileno(), mmap.PAGESIZE, access=mmap.ACCESS_READ)
        if self._header[:8] != RING_MAGIC:
            raise RuntimeError(f"{path} has a layout that this bench does not know")

    def _number(self, offset: int) -> int:
        number: int = struct.unpack_from("=Q", self._header, offset)[0]
        return number

    def has_room(self) -> bool:
        """Whether half of it is free."""
        return self._number(HEAD) - self._number(TAIL) <= self._number(CAPACITY) // 2

    def dropped(self) -> int:
        """Records that found it full."""
        return self._number(DROPPED)


def is_made(path: Path) -> bool:
    """Whether the flusher, which makes rings ahead of time, has written this one's header."""
    with path.open("rb") as file:
        return bool(file.read(len(RING_MAGIC)).strip(b"\0"))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls for what the flusher does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {PATIENCE} s: {what}")
        time.sleep(0.001)


class Profiler:
    """Collects from the start, and gives the hooked module as `targets`."""

    targets: ModuleType

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config, self._symbols = folder / "config.json", folder / "symbols.yaml"
        self._symbols.write_text(SYMBOLS + TAKEN_OUT)
        self._rings: dict[Path, Ring] = {}
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
        wait_until(lambda: self._msprof_rs.is_enabled() == recording, f"is_enabled() is {recording}")

    def make_room(self) -> None:
        """Lets the flusher catch up: a call that finds its ring full does less, and would look cheap."""
        for path in self._folder.glob("captures/**/*.ring"):
            if path not in self._rings and is_made(path):
                self._rings[path] = Ring(path)
        if not self._rings:
            raise RuntimeError("no ring file: nothing tells whether records are dropped")
        for ring in self._rings.values():
            wait_until(ring.has_room, "the ring has room")

    def lost_nothing(self) -> None:
        """Raises where records were dropped: what was measured then is no figure of a call that records."""
        if dropped := self.dropped():
            raise RuntimeError(f"the ring was full and {dropped} records were dropped: no figures")

    def dropped(self) -> int:
        """Records that found their ring full."""
        self.make_room()
        return sum(ring.dropped() for ring in self._rings.values())

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
