"""A real `vllm serve` with a tiny model, and vLLM's own benchmark against it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import make_model
from environment import Environment

START_SECONDS = 300.0
STOP_SECONDS = 60.0
BENCHMARK_SECONDS = 600.0
NAME = "tiny"
CONCURRENCY = 16
WARMUPS = CONCURRENCY
OUTPUT_TOKENS = 32

VLLM_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "XDG_CACHE_HOME")


class ServerError(Exception):
    """The server did not start, or died; the message has the end of its log."""


class Server:
    """Three processes: API server, engine core, worker. A context manager; leaving it stops them all."""

    def __init__(
        self,
        environment: Environment,
        folder: Path,
        settings: dict[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = environment
        self._variables = {k: v for k, v in os.environ.items() if k in PASSED_ON} | VLLM_SETTINGS
        self.folder = folder
        self.model = folder / "model"
        make_model.write(self.model)
        self.log = folder / "server.log"
        self.port = free_port()
        command = [environment.program("vllm"), "serve", str(self.model), "--load-format", "dummy"]
        command += ["--dtype", "float32", "--max-model-len", "256", "--enforce-eager", "--max-num-seqs", "16"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--served-model-name", NAME]
        command += options
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                env=self._variables | (settings or {}),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"the server ended with {self._process.returncode}:\n{self._log_tail()}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise ServerError(f"the server was not healthy after {START_SECONDS} s:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def pids(self) -> list[int]:
        """The processes of the server that run Python code of vLLM."""
        return [
            pid
            for pid in self._group()
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def _group(self) -> list[int]:
        """All processes of the server's session."""
        members = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self._process.pid and fields[0] != "Z":
                members.append(int(stat.parent.name))
        return members

    def stop(self) -> None:
        """Asks as an operator does, by SIGTERM, and kills what is left after a while."""
        if self._process.poll() is None:
            self._process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while self._group() and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(0.05)
        for pid in self._group():
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def benchmark(self, requests: int, prefix: str) -> dict[str, Any]:
        """`vllm bench serve`: 64 tokens in, 32 out, 16 at once. Request i is called `cmpl-<prefix>-<i>-0`.

        Before them come `WARMUPS` requests of other names, which open the client's connections: what the
        client needs for that is no server's latency.
        """
        result = self.folder / f"benchmark-{prefix}.json"
        command = [self._environment.program("vllm"), "bench", "serve", "--backend", "vllm"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += [
            "--model",
            str(self.model),
            "--served-model-name",
            NAME,
            "--request-id-prefix",
            f"{prefix}-",
        ]
        command += [
            "--dataset-name",
            "random",
            "--random-input-len",
            "64",
            "--random-output-len",
            str(OUTPUT_TOKENS),
        ]
        command += [
            "--num-prompts",
            str(requests),
            "--max-concurrency",
            str(CONCURRENCY),
            "--ignore-eos",
            "--disable-tqdm",
        ]
        command += ["--num-warmups", str(WARMUPS)]
        command += ["--save-result", "--save-detailed", "--result-filename", str(result)]
        done = subprocess.run(
            command,
            env=self._variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BENCHMARK_SECONDS,
        )
        if done.returncode != 0 or not result.exists():
            raise ServerError(f"the benchmark failed with {done.returncode}:\n{done.stdout[-4000:]}")
        figures: dict[str, Any] = json.loads(result.read_text())
        return figures


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
