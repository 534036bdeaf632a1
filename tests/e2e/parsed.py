"""What `analyze` makes of a session, for tests that compare it with what the clients saw."""

from __future__ import annotations

import csv
import re
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from environment import Environment

SAME_TIME = 2.0
"""Milliseconds. A capture's clock is the machine's, but for what the machine's is set right by meanwhile."""


def name_of(row: str) -> str:
    """The API server's id: without the number of those that had it before, or what the engine adds to it."""
    return re.sub(r"(#\d+|-[0-9a-f]{8})$", "", row)


@dataclass
class Row:
    """A request as the tables have it; times in milliseconds."""

    id: str
    prompt: float | None
    tokens: float | None
    arrival: float | None
    first_token: float | None
    latency: float | None

    @property
    def name(self) -> str:
        """The API server's id, which several may have had."""
        return name_of(self.id)

    @property
    def end(self) -> float | None:
        return None if self.arrival is None or self.latency is None else self.arrival + self.latency


class Parsed:
    """What `analyze` makes of a session."""

    def __init__(self, environment: Environment, session: Path, output: Path) -> None:
        command = [environment.program("msprof-rs"), "analyze", "--input-path", str(session)]
        done = subprocess.run([*command, "--output-path", str(output)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        self.summary = done.stdout
        self.output = output
        with closing(sqlite3.connect(output / "profiler.db")) as database:
            columns = 'http_rid, recv_token_size, reply_token_size, "start_time(ms)", first_token_latency'
            self.rows = [
                Row(*row) for row in database.execute(f"select {columns}, execution_time from request")
            ]

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV."""
        with (self.output / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
