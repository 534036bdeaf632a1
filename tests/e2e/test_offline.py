"""`LLM.generate` and `LLM.beam_search` at a real vLLM: one row for each request, with what it gave."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import make_model
import pytest
from environment import VLLM, Environment
from install_vllm import DEFAULT_VERSION
from offline import BEAM_PROMPT, BEAM_TOKENS, BEAMS
from parsed import SAME_TIME, Parsed
from server import BENCHMARK_SECONDS, PASSED_ON, VLLM_SETTINGS

from program import Program

pytestmark = pytest.mark.skipif(
    VLLM != DEFAULT_VERSION, reason="older versions have a worker in the engine; test_pack.py has them"
)

OFFLINE = Path(__file__).with_name("offline.py")


class Run:
    """A program that is done with vLLM: what it was given, and what was captured of it."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        program = Program(folder / "profiler")
        model, figures = folder / "model", folder / "figures.json"
        make_model.write(model)
        variables = {name: program.environment[name] for name in PASSED_ON if name in program.environment}
        done = subprocess.run(
            [environment.program("python"), str(OFFLINE), str(model), str(figures)],
            env=variables | VLLM_SETTINGS | {"SERVICE_PROF_CONFIG_PATH": str(program.config)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BENCHMARK_SECONDS,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        written = json.loads(figures.read_text())
        self.calls: list[dict[str, Any]] = written["calls"]
        self.beams: list[int] = written["beams"]
        (session,) = program.sessions()
        self.parsed = Parsed(environment, session, folder / "output")


@pytest.fixture(scope="module")
def run(vllm_once: Environment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(vllm_once, tmp_path_factory.mktemp(f"offline-{vllm_once.python_version}"))


def given(call: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The tokens of each answer's prompt and of itself, by the id that its row should have."""
    answers = {}
    for request in call["requests"]:
        several = len(request["tokens"]) > 1
        for index, tokens in enumerate(request["tokens"]):
            name = f"{index}_{request['id']}" if several else request["id"]
            answers[name] = (request["prompt"], tokens)
    return answers


def of_beams(run: Run) -> dict[str, tuple[int, int]]:
    """The same of a search: each step of each beam is a request for one token, the first of one beam."""
    prompt = len(BEAM_PROMPT)
    assert run.beams == [prompt + BEAM_TOKENS] * BEAMS
    lengths = [prompt] + [prompt + step for step in range(1, BEAM_TOKENS) for _ in range(BEAMS)]
    before = sum(len(call["requests"]) for call in run.calls)
    return {str(before + number): (length, 1) for number, length in enumerate(lengths)}


def test_each_request_is_one_row_with_its_tokens(run: Run) -> None:
    expected = {name: tokens for call in run.calls for name, tokens in given(call).items()} | of_beams(run)
    assert len(run.parsed.rows) == len(expected)
    assert {row.id: (row.prompt, row.tokens) for row in run.parsed.rows} == expected
    assert re.search(rf"^Figures +requests +{len(expected)}$", run.parsed.summary, re.MULTILINE)


def test_times_lie_within_those_of_the_call(run: Run) -> None:
    rows = {row.id: row for row in run.parsed.rows}
    for call in run.calls:
        for name in given(call):
            row = rows[name]
            assert row.arrival is not None
            assert row.first_token is not None
            assert row.end is not None
            assert call["begun"] / 1e6 < row.arrival + SAME_TIME
            assert row.arrival + row.first_token <= row.end < call["over"] / 1e6 + SAME_TIME


def test_the_session_is_summed_up(run: Run) -> None:
    tokens = sum(tokens for call in run.calls for _, tokens in given(call).values()) + len(of_beams(run))
    figures = {row["Metric"]: float(row["Value"]) for row in run.parsed.table("service_summary.csv")}
    assert figures["total_generated_token_num"] == tokens
    (latency,) = [
        row for row in run.parsed.table("request_summary.csv") if row["Metric"] == "total_time (ms)"
    ]
    assert float(latency["Max"]) > 0
