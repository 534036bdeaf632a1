"""The example service is a fixture of other tests: what it says of itself must hold without the profiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from program import OURS, SERVICE

COUNTS = ("request_id", "prompt_tokens", "output_tokens", "cached_tokens")


def served(folder: Path, *options: str) -> dict[str, Any]:
    report = folder / "truth.json"
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    subprocess.run(
        [sys.executable, str(SERVICE / "serve.py"), "--requests", "40", "--report", str(report), *options],
        env=environment,
        check=True,
    )
    truth: dict[str, Any] = json.loads(report.read_text())
    return truth


@pytest.mark.parametrize("executor", ["mp", "uni"])
def test_every_token_is_computed_once_unless_it_was_cached(tmp_path: Path, executor: str) -> None:
    truth = served(tmp_path, "--executor", executor)
    requests = truth["requests"]
    assert len(requests) == 40
    assert all(request["arrival"] < request["first_token"] <= request["end"] for request in requests)
    assert truth["total_cached_tokens"] > 0
    # The last token of a request is not fed back.
    computed = truth["total_prompt_tokens"] - truth["total_cached_tokens"]
    assert truth["total_scheduled_tokens"] == computed + truth["total_output_tokens"] - len(requests)


def test_the_same_load_comes_again(tmp_path: Path) -> None:
    first, second = (
        sorted(tuple(request[name] for name in COUNTS) for request in served(tmp_path, *options)["requests"])
        for options in (("--concurrency", "12"), ("--concurrency", "12", "--executor", "uni"))
    )
    assert first == second
