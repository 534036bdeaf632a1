"""Captures as msServiceProfiler writes them, and the commands that read them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

START = 1_700_000_000_000_000_000
MS = 1_000_000


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "msprof_rs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class Database:
    """A capture of msServiceProfiler."""

    def __init__(self, folder: Path, host: str = "node", pid: int = 100, **meta: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pid = pid
        self.connection = sqlite3.connect(folder / f"ms_service_{host}-{pid}.db")
        self.connection.executescript(
            """
            CREATE TABLE Meta (name TEXT, value TEXT, slice TEXT);
            CREATE TABLE slice (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER, duration INTEGER,
                name TEXT, depth INTEGER, track_id INTEGER, cat TEXT, args TEXT, cname TEXT, end_time INTEGER,
                flag_id TEXT, pid INTEGER, tid INTEGER);
            """
        )
        for key, value in {"hostname": host, "ppid": "1", **meta}.items():
            self.connection.execute("INSERT INTO Meta VALUES (?, ?, '')", (key, value))

    def span(self, start: float, end: float, domain: str, name: str, tid: int = 1, **args: object) -> None:
        """Times in milliseconds since START."""
        args = {"type": 2 if end > start else 0, **args}
        first, last = (START + int(time * MS) for time in (start, end))
        self.connection.execute(
            "INSERT INTO slice (timestamp, duration, name, cat, args, end_time, pid, tid) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (first, last - first, name, domain, json.dumps(args), last, self.pid, tid),
        )

    def event(self, time: float, domain: str, name: str, **args: object) -> None:
        self.span(time, time, domain, name, 1, **args)

    def close(self) -> None:
        self.connection.commit()
        self.connection.close()


def step(rid: str, iteration: int, tokens: int) -> dict[str, object]:
    """What a batch says of a request that it takes a step further; the prompt has 8 tokens."""
    computed = 0 if iteration == 0 else 7 + iteration
    return {
        "rid": rid,
        "iter": iteration,
        "type": int(computed >= 8),
        "num_scheduled_tokens": tokens,
        "num_prompt_tokens": 8,
        "num_computed_tokens": computed,
    }
