"""The real vLLM, once for each way in which functions are hooked: 3.11 has wrappers, 3.12 hooks in place."""

from __future__ import annotations

import os

import pytest
from environment import VLLM, Environment, UnavailableError, skip_loudly


@pytest.fixture(scope="session", params=["3.11", "3.12"])
def vllm(request: pytest.FixtureRequest) -> Environment:
    """A real vLLM with our wheel installed."""
    try:
        environment = Environment(request.param, VLLM)
    except UnavailableError as error:
        skip_loudly(f"vLLM {VLLM} on CPython {request.param}: {error}")
    environment.install_wheel()
    return environment


@pytest.fixture(scope="session")
def vllm_once(vllm: Environment) -> Environment:
    """As `vllm`; in CI on one CPython alone, for what takes minutes; others see both."""
    if "CI" in os.environ and vllm.python_version != "3.11":
        pytest.skip("CI runs it on CPython 3.11")
    return vllm
